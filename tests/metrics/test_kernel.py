import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import polynomial_kernel
from torch import Tensor, nn
from torchmetrics.image.kid import KernelInceptionDistance

from fewlabel.errors import UserError
from fewlabel.metrics import MeanStd, distances, kid


def features(n: int, width: int = 16, shift: float = 0.0, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, width, generator=generator, dtype=torch.float64) + shift


def by_definition(a: Tensor, b: Tensor) -> float:
    """Unbiased MMD² with scikit-learn's kernel, for any N and M."""
    within = []
    for x in (a, b):
        k = polynomial_kernel(x.numpy(), degree=3, coef0=1)
        within.append(k[~np.eye(len(x), dtype=bool)].mean())
    return sum(within) - 2 * polynomial_kernel(a.numpy(), b.numpy(), degree=3, coef0=1).mean()


class Identity(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance`")
def test_agrees_with_torchmetrics_on_all_samples() -> None:
    """In their only subset are all samples, as in ours."""
    real, fake = features(200), features(200, shift=0.3, seed=1)
    judge = KernelInceptionDistance(Identity(), subsets=2, subset_size=200)
    judge.update(real, real=True)
    judge.update(fake, real=False)
    mean, std = judge.compute()
    ours = kid(real, fake, subset_size=200)
    assert ours.mean == pytest.approx(mean.item(), rel=1e-10)
    assert ours.std == pytest.approx(std.item(), abs=1e-12)
    assert kid(real.float(), fake.float()).mean == pytest.approx(mean.item(), rel=1e-4)


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance`")
def test_agrees_with_torchmetrics_on_the_same_subsets(monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake = features(300), features(250, shift=0.2, seed=1)
    shuffle = torch.randperm

    def orders() -> object:
        generator = torch.Generator().manual_seed(7)
        return lambda n, **_: shuffle(n, generator=generator)

    judge = KernelInceptionDistance(Identity(), subsets=20, subset_size=60)
    judge.update(real, real=True)
    judge.update(fake, real=False)
    monkeypatch.setattr(torch, "randperm", orders())
    mean, std = judge.compute()
    monkeypatch.setattr(torch, "randperm", orders())
    ours = kid(real, fake, subsets=20, subset_size=60)
    assert (ours.mean, ours.std) == pytest.approx((mean.item(), std.item()), rel=1e-8)


def test_all_samples_of_unequal_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake = features(90), features(130, shift=0.5, seed=1)
    expected = MeanStd(pytest.approx(by_definition(real, fake), rel=1e-10), 0.0)
    assert kid(real, fake) == expected
    monkeypatch.setattr(distances, "_ROWS", 32)
    assert kid(real.numpy(), fake.numpy()) == expected


def test_unbiased_for_few_samples_of_one_distribution() -> None:
    """E = 0: the mean over many independent pairs is within its standard error."""
    figures = [kid(features(8, seed=s), features(12, seed=s + 5000)).mean for s in range(800)]
    assert abs(np.mean(figures)) < 3.5 * np.std(figures) / np.sqrt(800)
    assert np.min(figures) < 0 < np.max(figures)


def test_subsets_come_from_the_seed_and_are_about_the_whole() -> None:
    real, fake = features(400), features(300, shift=0.5, seed=1)
    some = kid(real, fake, subsets=60, subset_size=100, seed=3)
    assert some == kid(real, fake, subsets=60, subset_size=100, seed=3)
    assert some != kid(real, fake, subsets=60, subset_size=100, seed=4)
    assert abs(some.mean - by_definition(real, fake)) < 4 * some.std / np.sqrt(60)
    capped = kid(real, fake, subsets=30, subset_size=350)
    assert 0 < capped.std < some.std


@pytest.mark.parametrize(
    ("real", "fake", "options", "message"),
    [
        (torch.zeros(1, 3), torch.zeros(5, 3), {}, "real features: 1 sample"),
        (torch.zeros(5, 3), torch.zeros(0, 3), {}, "fake features: 0 sample"),
        (torch.zeros(5, 3), torch.full((5, 3), torch.nan), {}, "fake features: 15 value"),
        (torch.zeros(5, 3), torch.zeros(5, 4), {}, "3 dimensions and fake ones 4"),
        (torch.zeros(5), torch.zeros(5), {}, r"shape \(5,\)"),
        (torch.zeros(5, 3), torch.zeros(5, 3), {"subsets": 0}, "give at least 1 of at least 2"),
        (torch.zeros(5, 3), torch.zeros(5, 3), {"subset_size": 1}, "100 subsets of 1 samples"),
    ],
)
def test_refuses(real: Tensor, fake: Tensor, options: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        kid(real, fake, **options)
    assert "\n" not in str(caught.value)
