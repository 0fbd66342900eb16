import numpy as np
import pytest
import torch
from prdc import compute_prdc

from fewlabel.errors import UserError
from fewlabel.metrics import distances as module
from fewlabel.metrics.precision_recall import prdc


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize(("n", "m", "width"), [(200, 150, 2), (90, 130, 30), (700, 900, 256)])
def test_equals_the_published_package(n: int, m: int, width: int, k: int, dtype: str) -> None:
    rng = np.random.default_rng(0)
    real = rng.normal(size=(n, width)).astype(dtype)
    fake = (0.03 + 0.97 * rng.normal(size=(m, width))).astype(dtype)
    ours, theirs = prdc(real, fake, k), compute_prdc(real, fake, k)
    assert ours == theirs
    assert 0 < ours["recall"] <= 1


def test_distances_of_float32_are_compared_as_the_package_does() -> None:
    """Places close to a grid are at distances so alike that float32 makes some of them equal."""
    rng = np.random.default_rng(1)
    places = (100 * rng.integers(0, 4, (n, 6)) for n in (300, 250))
    real, fake = ((x + 1e-3 * rng.normal(size=x.shape)).astype(np.float32) for x in places)
    ours = prdc(real, fake, 5)
    assert ours == compute_prdc(real, fake, 5)
    assert ours != prdc(real.astype(np.float64), fake.astype(np.float64), 5)


def test_blocks_do_not_change_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    real, fake = (torch.randn(n, 3, generator=generator) for n in (70, 50))
    whole = prdc(real, fake, 3)
    monkeypatch.setattr(module, "_ROWS", 16)
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
        (torch.zeros(9, 2), torch.zeros(9, 3), 2, "2 dimensions and fake ones 3"),
        (torch.zeros(9), torch.zeros(9), 2, r"\(N, F\)"),
        (torch.zeros(5, 2), torch.zeros(9, 2), 5, "k=5 with 5 real"),
        (torch.zeros(5, 2), torch.zeros(9, 2), 0, "k=0"),
        (torch.zeros(1, 2), torch.zeros(9, 2), 1, "real features: 1 sample"),
        (torch.full((9, 2), torch.nan), torch.zeros(9, 2), 2, "NaN or infinite"),
    ],
)
def test_refuses_what_cannot_be_judged(
    real: torch.Tensor, fake: torch.Tensor, k: int, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        prdc(real, fake, k)
