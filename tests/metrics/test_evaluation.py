"""Reports: what their figures are of, and what weakens them."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fewlabel.errors import UserError
from fewlabel.metrics import fid, judge
from fewlabel.metrics.intervals import Estimate
from fewlabel.metrics.judge import train_judge
from fewlabel.metrics.judging import Reference
from fewlabel.metrics.report import Figure, Report
from fewlabel.run import Run


@pytest.fixture(scope="module", autouse=True)
def weak_judge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """In a cache of its own, since it is too weak for others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEWLABEL_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(judge, "_STEPS", 20)
        patch.setattr(judge, "_EPOCHS", 0)
        yield


def test_every_way_of_sampling_has_figures_of_its_own_samples(finished_run: Run) -> None:
    samplers, numbers = ("heun", "ddim"), (3, 4)
    report = finished_run.evaluate(
        ("fid",),
        (2.0,),
        sampler=samplers,
        steps=numbers,
        per_class=10,
        seed=4,
        extractor=nn.Flatten(),
    )
    dataset, splits = finished_run.dataset, finished_run.splits
    others = np.setdiff1d(np.arange(len(dataset)), splits.validation)
    real = dataset.examples(others).flatten(1)
    ways = product(samplers, numbers)
    for (sampler, steps), draw, figure in zip(ways, report.draws, report.figures, strict=True):
        drawn = finished_run.draw(n=100, scale=2.0, sampler=sampler, steps=steps, seed=4)
        assert (draw.sampler, draw.steps, draw.nfe) == (sampler, steps, drawn.nfe)
        assert (figure.sampler, figure.steps) == (sampler, steps)
        assert figure.value == pytest.approx(fid(real, drawn.images.flatten(1)), rel=1e-6)
    assert len({figure.value for figure in report.figures}) == 4
    assert report.overall("fid", 2.0) is report.figures[0]
    with pytest.raises(UserError, match="fid was not judged at scale 3: evaluate there too"):
        report.overall("fid", 3.0)
    with pytest.raises(UserError, match="intra-fid was not judged, but fid"):
        report.best_scale()


def test_the_best_scale_is_the_largest_or_the_smallest_as_the_metric_has_it() -> None:
    values = {"accuracy": (0.5, 0.99), "fid": (3.0, 4.0), "copies-intra-fid": (1.0, 1.0)}
    report: Any = SimpleNamespace(
        _overall=lambda metric: [
            Figure(scale, "heun", 5, metric, None, value, value, value)
            for scale, value in zip((1.0, 4.0), values[metric], strict=True)
        ]
    )
    assert Report.best_scale(report, "accuracy") == 4.0
    assert Report.best_scale(report, "fid") == 1.0
    with pytest.raises(UserError, match="neither way is better in copies-intra-fid"):
        Report.best_scale(report, "copies-intra-fid")


def test_distances_of_all_classes_together_take_images_without_a_label_too(
    finished_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where only some carry one; those of each class take the labelled ones."""
    dataset, splits = finished_run.dataset, finished_run.splits
    known = np.where(np.isin(np.arange(len(dataset)), splits.labelled), dataset.labels, -1)
    some = Run(finished_run.folder.path, "cpu")
    monkeypatch.setattr(type(some), "dataset", replace(dataset, labels=known))
    report = some.evaluate(
        ("fid", "intra-fid"), 2.0, per_class=10, steps=3, extractor=nn.Flatten()
    )
    drawn = some.sample(n=100, scale=2.0, steps=3).flatten(1)
    others = np.setdiff1d(np.arange(len(dataset)), splits.validation)
    real = dataset.examples(others).flatten(1)
    assert report.overall("fid", 2.0).value == pytest.approx(fid(real, drawn), rel=1e-6)
    few, labels = dataset.examples(splits.labelled).flatten(1), known[splits.labelled]
    of_classes = [fid(few[labels == k], drawn[torch.arange(100) % 10 == k]) for k in range(10)]
    mean = sum(of_classes) / 10
    assert report.overall("intra-fid", 2.0).value == pytest.approx(mean, rel=1e-6)


class Wide(nn.Module):
    """Pixels, as many times over as the width asks for."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("pixels", torch.arange(width) % 64)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, self.pixels]


@pytest.mark.parametrize("reference", ["report", "validation"])
@pytest.mark.parametrize("metric", ["fid", "intra-fid"])
def test_a_frechet_distance_of_no_more_images_than_features_is_told(
    finished_run: Run, reference: Reference, metric: str
) -> None:
    """The real images are those outside the validation split, or in it; the fewer side counts."""
    labels, held = finished_run.dataset.labels, finished_run.splits.validation
    real = labels[held] if reference == "validation" else np.delete(labels, held)
    n_real = len(real) if metric == "fid" else int(np.bincount(real).min())
    per_class = 10 if reference == "report" else len(real) // 10 + 1
    generated = per_class * 10 if metric == "fid" else per_class
    least = min(n_real, generated)
    there = "there are" if metric == "fid" else "has"
    counts = f"{there} {n_real} real and {generated} generated"

    def notes(width: int, *metrics: str) -> list[str]:
        report = finished_run.evaluate(
            metrics, per_class=per_class, steps=2, reference=reference, extractor=Wide(width)
        )
        return [note for note in report.warnings if not note.startswith("accuracy")]

    (note,) = notes(least, metric, "kid")
    assert note.startswith(f"{metric}: ")
    assert f"{counts} images for {least} features" in note
    assert metric.replace("fid", "kid") in note
    assert notes(least - 1, metric) == []


@pytest.mark.parametrize(
    ("accuracy", "note"),
    [
        (Estimate(0.89, 0.79, 0.95), "right in 89% of real images (95 % interval from 79%)"),
        (Estimate(0.85, 0.8, 0.89), None),
        (None, "no labelled image was held out"),
    ],
)
def test_the_accuracy_of_a_judge_who_may_be_wrong_is_told(
    finished_run: Run, accuracy: Estimate | None, note: str | None
) -> None:
    known = replace(train_judge(finished_run.dataset), accuracy=accuracy)
    report = finished_run.evaluate(("accuracy",), per_class=10, steps=2, extractor=known)
    assert report.judge_accuracy == (accuracy.value if accuracy else None)
    if note is None:
        assert report.warnings == []
    else:
        (found,) = report.warnings
        assert found.startswith("accuracy: ")
        assert note in found
