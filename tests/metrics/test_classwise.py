import pytest
import torch
from torch import Tensor

from fewlabel.errors import UserError
from fewlabel.metrics import fid, intra


def mean_gap(real: Tensor, fake: Tensor) -> float:
    return (real.mean() - fake.mean()).abs().item()


def test_mean_over_classes_and_each_class() -> None:
    real, real_labels = torch.tensor([[0.0], [1.0], [5.0]]), torch.tensor([0, 0, 2])
    fake, fake_labels = torch.tensor([[9.0], [1.5], [9.0]]), torch.tensor([2, 0, 2])
    mean, figures = intra(mean_gap)(real, real_labels, fake, fake_labels)
    assert figures == {0: 1.0, 2: 4.0}
    assert mean == 2.5


def test_classes_weigh_the_same_whatever_their_size() -> None:
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(90, 4, generator=generator)
    fake = torch.randn(90, 4, generator=generator)
    labels = torch.tensor([0] * 60 + [1] * 30)
    mean, _ = intra(fid)(real.numpy(), labels.numpy(), fake.numpy(), labels.numpy())
    assert mean == pytest.approx((fid(real[:60], fake[:60]) + fid(real[60:], fake[60:])) / 2)


@pytest.mark.parametrize(
    ("real_labels", "fake_labels", "message"),
    [
        ([0, 0, 1, 1], [0, 0, 0, 0], "no generated samples of class 1:"),
        ([0, 0, 0, 0], [3, 0, 2, 2], "no real samples of class 2, 3:"),
        ([0, 0, -1, 1], [0, 0, 1, 1], "1 sample.* have no label"),
        ([0, 0, 1], [0, 0, 1, 1], r"real labels have shape \(3,\) for 4"),
        ([0, 0, 1, 1], [0, 0, 0, 1], "class 1: fake features: 1 sample"),
    ],
)
def test_refuses(real_labels: list[int], fake_labels: list[int], message: str) -> None:
    x = torch.zeros(4, 2)
    with pytest.raises(UserError, match=message):
        intra(fid)(x, torch.tensor(real_labels), x, torch.tensor(fake_labels))


def test_refuses_nothing_at_all() -> None:
    none, labels = torch.zeros(0, 2), torch.zeros(0, dtype=torch.long)
    with pytest.raises(UserError, match="no real samples"):
        intra(fid)(none, labels, none, labels)
