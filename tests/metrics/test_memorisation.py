from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from fewlabel.data import Dataset, draw_splits, open_dataset
from fewlabel.errors import UserError
from fewlabel.metrics import distances, memorised, nearest, proportion
from fewlabel.metrics.table import METRICS, Judged


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("rows", [7, 2048])
@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_agrees_with_an_exhaustive_search(
    monkeypatch: pytest.MonkeyPatch, rows: int, offset: float
) -> None:
    monkeypatch.setattr(distances, "_ROWS", rows)
    real, fake = normal(120, 12) + offset, normal(50, 12, seed=1) + offset
    judge = NearestNeighbors(n_neighbors=2, algorithm="kd_tree").fit(real.numpy())
    d, index = judge.kneighbors(fake.numpy())
    found = nearest(real.numpy(), fake)
    assert found.index.tolist() == index[:, 0].tolist()
    assert found.distance.tolist() == pytest.approx(d[:, 0], rel=1e-12)
    assert found.ratio.tolist() == pytest.approx(d[:, 0] / d[:, 1], rel=1e-12)


def test_copies_are_at_distance_zero_and_point_to_their_source() -> None:
    real = (normal(300, 40) + 50).float()
    order = torch.randperm(300, generator=torch.Generator().manual_seed(2))
    found = nearest(real, real[order])
    assert torch.equal(found.index, order)
    assert found.distance.abs().max() == 0
    assert memorised(found).value == 1
    twice = nearest(torch.cat([real, real]), real[:5])
    assert twice.ratio.tolist() == [0.0] * 5


def test_the_share_of_copies_among_new_samples() -> None:
    """In many dimensions new samples are about as far from their second neighbour."""
    real, new = normal(200, 60), normal(90, 60, seed=1)
    copies = real[:30] + 0.05 * normal(30, 60, seed=2)
    found = nearest(real, torch.cat([copies, new]))
    assert memorised(found) == proportion([True] * 30 + [False] * 90)
    assert memorised(found, 1.0).value == 1


def test_on_the_line_the_ratio_has_a_closed_form() -> None:
    """Training samples at 0 and 1 and one sample in between, at u: d1/d2 = u/(1−u) below 1/2."""
    u = torch.linspace(0.001, 0.499, 200, dtype=torch.float64)[:, None]
    found = nearest(torch.tensor([[0.0], [1.0]], dtype=torch.float64), u)
    torch.testing.assert_close(found.ratio, (u / (1 - u))[:, 0])
    assert memorised(found).value == pytest.approx((u < 0.25).double().mean().item())


@pytest.mark.parametrize(
    ("real", "fake", "message"),
    [
        (torch.zeros(1, 3), torch.zeros(5, 3), "real features: 1 sample"),
        (torch.zeros(5, 3), torch.zeros(0, 3), "fake features: 0 sample"),
        (torch.full((5, 3), torch.nan), torch.zeros(5, 3), "real features: 15 value"),
        (torch.zeros(5, 3), torch.zeros(5, 4), "3 dimensions and fake ones 4"),
        (torch.zeros(5, 3, 1), torch.zeros(5, 3), r"shape \(5, 3, 1\)"),
    ],
)
def test_refuses(real: Tensor, fake: Tensor, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        nearest(real, fake)
    assert "\n" not in str(caught.value)


def test_refuses_a_threshold_that_is_no_ratio() -> None:
    with pytest.raises(UserError, match="threshold 0: give"):
        memorised(nearest(torch.zeros(2, 1), torch.zeros(1, 1)), 0.0)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return open_dataset("digits")


def judged(digits: Dataset, labels: str, times: int) -> Judged:
    """Samples that are the labelled digits, each so many times, by their pixels."""
    splits = draw_splits(digits, labels, seed=3)
    real = np.setdiff1d(splits.train, splits.labelled)
    by_class = splits.labelled[np.argsort(digits.labels[splits.labelled], kind="stable")]
    copied = np.tile(by_class.reshape(10, -1).T.ravel(), times)  # the classes in turn
    verdicts = torch.zeros(len(copied), 10)

    def of_real() -> Tensor:
        return digits.examples(real).flatten(1)

    return Judged(
        of_real=of_real,
        of_all=of_real,
        real_labels=torch.from_numpy(digits.labels[real]),
        fake=digits.examples(copied).flatten(1),
        fake_labels=torch.from_numpy(digits.labels[copied]),
        log_prob=verdicts,
        own_log_prob=verdicts,
        images=digits.examples(copied),
        dataset=digits,
        splits=splits,
        training=lambda: digits.examples(splits.train).flatten(1),
        device=torch.device("cpu"),
    )


@pytest.mark.parametrize(("labels", "times"), [("20/class", 1), ("5/class", 4)])
def test_what_copies_reach_is_the_distance_of_samples_that_are_copies(
    digits: Dataset, labels: str, times: int
) -> None:
    copies = judged(digits, labels, times)
    figures = METRICS["copies-intra-fid"].figures(copies)
    assert figures.keys() == {None, *range(10)}
    for key, same in METRICS["intra-fid"].figures(copies).items():
        assert figures[key].value == pytest.approx(same.value, rel=1e-6)
    others = replace(copies, fake=normal(*copies.fake.shape).float())
    assert METRICS["copies-intra-fid"].figures(others) == figures
