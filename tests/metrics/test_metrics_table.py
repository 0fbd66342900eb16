"""The table of metrics: what each row measures of what, with which interval."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from fewlabel.metrics import fid, intra, kid, memorised, nearest, prdc, proportion
from fewlabel.metrics.table import GROUPS, METRICS, Judged, measure

CLASSES = 3
Distance = Callable[[Tensor, Tensor], float]
DISTANCES: dict[str, Distance] = {
    "fid": fid,
    "kid": lambda real, fake: kid(real, fake).mean,
    **{
        name: lambda real, fake, name=name: prdc(real, fake, 3)[name]
        for name in ("precision", "recall", "density", "coverage")
    },
}


@pytest.fixture(scope="module")
def judged() -> Judged:
    """Samples that are narrower than the real points, and now and then of another class."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    real_labels, fake_labels = torch.arange(90) % CLASSES, torch.arange(150) % CLASSES
    fake = 0.6 * normal(150, 4) + fake_labels[:, None]
    others: Any = {"dataset": None, "splits": None, "device": None}
    training = torch.cat([normal(40, 4), fake[:30] + 1e-3 * normal(30, 4)])  # some are copies
    real = normal(90, 4) + real_labels[:, None]
    return Judged(
        of_real=lambda: real,
        real_labels=real_labels,
        of_all=lambda: real,
        fake=fake,
        fake_labels=fake_labels,
        log_prob=normal(150, CLASSES).log_softmax(1),
        own_log_prob=normal(150, 5).log_softmax(1),
        images=fake,
        training=lambda: training,
        **others,
    )


def expected(values: list[float], pooled: float) -> tuple[float, float, float]:
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return pooled, pooled - half, pooled + half


@pytest.mark.parametrize("name", DISTANCES)
def test_a_distance_is_of_all_samples_and_its_interval_of_five_groups(
    judged: Judged, name: str
) -> None:
    distance, size = DISTANCES[name], len(judged.fake) // GROUPS
    groups = judged.fake.split(size)
    alone = [distance(judged.real, group) for group in groups]
    found = METRICS[name].figures(judged)[None]
    values = found.value, found.low, found.high
    assert values == pytest.approx(expected(alone, distance(judged.real, judged.fake)))
    assert found.high > found.low

    of_class = intra(distance)
    labels = judged.fake_labels.split(size)
    parts = [
        of_class(judged.real, judged.real_labels, *of) for of in zip(groups, labels, strict=True)
    ]
    mean, classes = of_class(judged.real, judged.real_labels, judged.fake, judged.fake_labels)
    figures = METRICS[f"intra-{name}"].figures(judged)
    assert figures.keys() == {None, *range(CLASSES)}
    for key in figures:
        means = [part[0] if key is None else part[1][key] for part in parts]
        pooled = mean if key is None else classes[key]
        found = figures[key]
        assert (found.value, found.low, found.high) == pytest.approx(expected(means, pooled))


def test_accuracy_is_of_each_class_by_itself(judged: Judged) -> None:
    hits = judged.log_prob.argmax(1) == judged.fake_labels
    figures = METRICS["accuracy"].figures(judged)
    assert figures[None] == proportion(hits)
    shares = [hits[judged.fake_labels == k] for k in range(CLASSES)]
    assert [figures[k] for k in range(CLASSES)] == [proportion(share) for share in shares]
    assert len({figures[k].value for k in range(CLASSES)}) > 1


def test_what_is_memorised_is_of_the_training_images(judged: Judged) -> None:
    found = METRICS["memorised"].figures(judged)[None]
    assert found == memorised(nearest(judged.training(), judged.fake))
    assert found.value == pytest.approx(30 / 150, abs=0.05)


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_has_a_better_side_in_tables(name: str) -> None:
    """What copies reach is no contest; distances and copies are better if smaller."""
    kind = name.removeprefix("intra-")
    sides = {"copies-intra-fid": None} | dict.fromkeys(("fid", "kid", "memorised"), "smallest")
    assert measure(name).best == sides.get(kind, "largest")
    assert (
        name.startswith("intra-") == measure(name).title.startswith("intra-") or "copies" in name
    )
    shares = ("accuracy", "cas", "precision", "recall", "coverage", "memorised")
    assert measure(name).is_share == (kind in shares)
