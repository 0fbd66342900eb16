"""What the fixtures of these tests give."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from fewlabel.data import Dataset

Refuses = Callable[..., AbstractContextManager[None]]
MakeDataset = Callable[..., Dataset]
MakeFolder = Callable[..., Path]
