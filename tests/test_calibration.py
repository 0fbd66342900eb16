import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from fewlabel.calibration import ece
from fewlabel.randomness import generator_for


def two_classes(confidence: list[float]) -> torch.Tensor:
    p = torch.tensor(confidence, dtype=torch.float64)
    return torch.stack([p, 1 - p], -1)


def test_the_closed_form() -> None:
    """Two bins: 0.9 said and 0.5 right, 10 times; 0.6 said and 0.8 right, 5 times."""
    probabilities = two_classes([0.9] * 10 + [0.6] * 5)
    labels = torch.tensor([0, 1] * 5 + [0, 0, 0, 0, 1])
    assert ece(probabilities, labels) == pytest.approx((10 * 0.4 + 5 * 0.2) / 15)
    # In one bin, errors of opposite sign cancel: mean confidence 0.8, accuracy 9/15.
    assert ece(probabilities, labels, bins=1) == pytest.approx(0.8 - 0.6)


def test_sure_and_right_is_0_and_sure_and_wrong_is_1() -> None:
    sure = two_classes([1.0, 1.0, 0.0])
    assert ece(sure, torch.tensor([0, 0, 1])) == 0
    assert ece(sure, torch.tensor([1, 1, 0])) == 1


def test_labels_drawn_from_the_probabilities_are_calibrated() -> None:
    generator = generator_for("calibrated")
    probabilities = (2 * torch.randn(200_000, 4, generator=generator)).softmax(-1)
    labels = torch.multinomial(probabilities, 1, generator=generator)[:, 0]
    assert ece(probabilities, labels) < 0.005
    sharpened = probabilities.square() / probabilities.square().sum(-1, keepdim=True)
    assert ece(sharpened, labels) > 0.1


@pytest.mark.parametrize("bins", [5, 15])
def test_another_implementation_agrees(bins: int) -> None:
    generator = generator_for("judged")
    probabilities = torch.randn(500, 10, generator=generator).softmax(-1)
    labels = torch.randint(10, (500,), generator=generator)
    judged = float(multiclass_calibration_error(probabilities, labels, 10, n_bins=bins))
    assert ece(probabilities, labels, bins) == pytest.approx(judged, abs=1e-5)
