import numpy as np
import pytest
import torch
from prdc import compute_prdc

from fewlabel.errors import UserError
from fewlabel.metrics import precision_recall as module
from fewlabel.metrics.precision_recall import prdc


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize(("n", "m", "width"), [(200, 150, 2), (90, 130, 30)])
def test_agrees_with_the_published_package(n: int, m: int, width: int, k: int) -> None:
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(n, width)), 0.3 + 0.8 * rng.normal(size=(m, width))
    ours, theirs = prdc(real, fake, k), compute_prdc(real, fake, k)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, abs=1e-12), name


def test_blocks_do_not_change_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    real, fake = (torch.randn(n, 3, generator=generator) for n in (70, 50))
    whole = prdc(real, fake, 3)
    monkeypatch.setattr(module, "_BLOCK", 200)
    assert prdc(real, fake, 3) == whole


def test_far_and_collapsed_samples() -> None:
    real = torch.arange(20.0)[:, None]
    assert set(prdc(real, real + 1000, 2).values()) == {0.0}
    collapsed = prdc(real, torch.linspace(4.9, 5.1, 30)[:, None], 2)
    assert collapsed["precision"] == 1
    assert collapsed["recall"] < 0.1
    assert collapsed["coverage"] < 0.3


@pytest.mark.parametrize(
    ("real", "fake", "k", "message"),
    [
        (torch.zeros(9, 2), torch.zeros(9, 3), 2, r"\(9, 2\) and \(9, 3\)"),
        (torch.zeros(9), torch.zeros(9), 2, r"\(N, F\)"),
        (torch.zeros(5, 2), torch.zeros(9, 2), 5, "k=5 with 5 real"),
        (torch.zeros(5, 2), torch.zeros(9, 2), 0, "k=0"),
        (torch.full((9, 2), torch.nan), torch.zeros(9, 2), 2, "not finite"),
    ],
)
def test_refuses_what_cannot_be_judged(
    real: torch.Tensor, fake: torch.Tensor, k: int, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        prdc(real, fake, k)
