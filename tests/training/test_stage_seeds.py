"""The noise and the order of one stage say nothing of those of another."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from fewlabel.batch import Batch, Part
from fewlabel.data import Batches
from fewlabel.randomness import StepRandom
from fewlabel.training.train import train


def test_stages_share_neither_noise_nor_order(
    tmp_path: Path, tiny: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    noise: list[Tensor] = []
    images: list[Tensor] = []
    normal, batch = StepRandom.normal_like, Batches._batch

    def drawn(self: StepRandom, x: Tensor) -> Tensor:
        found = normal(self, x)
        noise.append(found.flatten()[:512])
        return found

    def read(self: Batches, part: Part, step: int) -> Batch:
        found = batch(self, part, step)
        images.append(found.x.flatten(1))
        return found

    monkeypatch.setattr(StepRandom, "normal_like", drawn)
    monkeypatch.setattr(Batches, "_batch", read)
    train("digits", steps=3, labels=0.05, out=tmp_path / "lpg", device="cpu", overrides=tiny)
    assert len(images) == 6
    assert len(noise) >= 6
    correlations = torch.corrcoef(torch.stack(noise)).triu(1).abs()
    assert correlations.max() < 6 / 512**0.5
    score, classifier = torch.cat(images[:3]), torch.cat(images[3:])
    shared = (score[:, None] == classifier[None]).all(-1).any(1).float().mean()
    assert shared < 0.5  # batches of 16 among some 1,300 images
