from pathlib import Path

import pytest
import torch

from fewlabel.batch import Batch, Part
from fewlabel.data import Batches
from fewlabel.training.train import train


def test_the_losses_see_what_was_asked_for(
    tmp_path: Path, tiny: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[Part, Batch]] = []

    class Seen(Batches):
        def at(self, step: int) -> dict[Part, Batch]:
            seen.append(super().at(step))
            return seen[-1]

    monkeypatch.setattr("fewlabel.training.stages.Batches", Seen)
    asked = (*tiny, "classifier.fit.labelled_share=0.25")
    run = train(
        "digits", out=tmp_path / "run", method="cg-sc-all", labels=0.1, steps=5, overrides=asked,
        balance=True, device="cpu",
    )  # fmt: skip
    assert run.config.score.fit.balance
    assert run.config.classifier.fit.balance
    labels = torch.cat([parts["labelled"].y for parts in seen[5:]])
    assert labels.bincount(minlength=10).tolist() == [8] * 10
    assert [int((parts["all"].y >= 0).sum()) for parts in seen[5:]] == [4] * 5
