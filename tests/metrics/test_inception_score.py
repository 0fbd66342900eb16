import math
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torchmetrics.image.inception import InceptionScore

from fewlabel.errors import UserError
from fewlabel.metrics import inception_score
from fewlabel.metrics.table import METRICS, Judged


def logits(n: int, k: int = 7, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(n, k, generator=generator, dtype=torch.float64)


class Identity(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.filterwarnings("ignore:Metric `InceptionScore`")
@pytest.mark.parametrize("splits", [2, 10])
def test_agrees_with_torchmetrics(monkeypatch: pytest.MonkeyPatch, splits: int) -> None:
    """They shuffle before they split; we are given the samples in their order."""
    scores = logits(500)
    judge = InceptionScore(Identity(), splits=splits)
    judge.update(scores)
    order = torch.randperm(500, generator=torch.Generator().manual_seed(3))
    monkeypatch.setattr(torch, "randperm", lambda n: order)
    mean, std = judge.compute()
    for ours in (
        inception_score(scores[order], splits),
        inception_score(scores[order].log_softmax(1).float().numpy(), splits),
    ):
        assert (ours.mean, ours.std) == pytest.approx((mean.item(), std.item()), rel=1e-4)


def test_closed_forms() -> None:
    sure = torch.eye(5).log().repeat(4, 1)  # a class each, probabilities of exactly 0 and 1
    assert inception_score(sure, 4).mean == pytest.approx(5, rel=1e-12)
    assert inception_score(sure, 4).std == pytest.approx(0, abs=1e-12)
    unsure = torch.zeros(20, 5)
    assert inception_score(unsure, 2).mean == pytest.approx(1, rel=1e-12)
    p = torch.tensor([[0.9, 0.1], [0.1, 0.9]], dtype=torch.float64)
    gain = math.log(2) + 0.9 * math.log(0.9) + 0.1 * math.log(0.1)
    assert inception_score(p.log(), 1).mean == pytest.approx(math.exp(gain), rel=1e-12)
    assert inception_score(p.log(), 1).std == 0


def test_splits_of_nearly_equal_size_hold_every_sample() -> None:
    scores = logits(23)
    means = [inception_score(part, 1).mean for part in (scores[:8], scores[8:16], scores[16:])]
    whole = inception_score(scores, 3)
    judge = torch.tensor(means, dtype=torch.float64)
    assert (whole.mean, whole.std) == pytest.approx((judge.mean().item(), judge.std().item()))


@pytest.mark.parametrize(
    ("log_prob", "splits", "message"),
    [
        (logits(1), 1, r"1 sample\(s\) in 1 splits"),
        (logits(19), 10, r"19 sample\(s\) in 10 splits"),
        (logits(9), 0, "give at least 1 split"),
        (torch.full((9, 3), torch.nan), 1, "holds NaN"),
        (torch.full((9, 3), torch.inf), 1, "holds NaN"),
        (logits(9).softmax(1), 1, "holds probabilities: give their logarithms"),
        (torch.zeros(9), 1, r"shape \(9,\): give \(N, K\)"),
        (torch.zeros(0, 3), 1, r"shape \(0, 3\)"),
    ],
)
def test_refuses(log_prob: Tensor, splits: int, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        inception_score(log_prob, splits)
    assert "\n" not in str(caught.value)


def test_a_report_tells_the_mean_over_ten_splits() -> None:
    """As published; the interval is of five groups of two of them."""
    scores = logits(500)
    judged: Any = Judged(
        **dict.fromkeys(Judged.__annotations__, scores)
        | {"fake_labels": torch.zeros(500, dtype=torch.int64)}
    )
    found = METRICS["is"].figures(judged)[None]
    alone = [inception_score(part, 1).mean for part in scores.chunk(10)]
    assert found.value == pytest.approx(sum(alone) / 10)
    pairs = torch.tensor(alone).view(5, 2).mean(1)
    half = stats.t.ppf(0.975, 4) * pairs.std() / math.sqrt(5)
    assert found.high - found.value == pytest.approx(float(half))
