"""Comparisons of seconds, and judges and processes for them."""

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from fewlabel.experiments import compare
from fewlabel.experiments.compare_cells import CellTask, Protocol, Row
from fewlabel.metrics import judge


@pytest.fixture(scope="session")
def protocol(tiny: tuple[str, ...]) -> Protocol:
    """A comparison of seconds."""
    steps = ("score.fit.steps=6", "classifier.fit.steps=6", "score.sheet_every=0")
    quick: dict[str, Any] = {"per_class": 10, "steps": 3}
    return Protocol(
        "digits",
        overrides=(*tiny, *steps),
        scales=(1.0, 3.0),
        metrics=("accuracy", "intra-fid"),
        **quick,
    )


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks are done in this process, as they are given."""

    class Pool:
        def __init__(self, *how: object) -> None:
            pass

        def submit(
            self, work: Callable[[CellTask], list[Row]], task: CellTask
        ) -> Future[list[Row]]:
            done: Future[list[Row]] = Future()
            try:
                done.set_result(work(task))
            except Exception as error:
                done.set_exception(error)
            return done

        def shutdown(self, **how: object) -> None:
            pass

    monkeypatch.setattr(compare, "ProcessPoolExecutor", Pool)


@pytest.fixture
def weak_judges(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Their verdicts are not looked at."""
    monkeypatch.setenv("FEWLABEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(judge, "_STEPS", 20)
