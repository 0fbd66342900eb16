import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from fewlabel.calibration import ece, reliability
from fewlabel.errors import UserError


def draws(n: int, k: int, sharpness: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities, and labels that are drawn from them."""
    generator = torch.Generator().manual_seed(seed)
    p = (sharpness * torch.randn(n, k, generator=generator, dtype=torch.float64)).softmax(1)
    return p, torch.multinomial(p, 1, generator=generator)[:, 0]


def test_equals_torchmetrics() -> None:
    p, y = draws(4000, 5, 2.0)
    sharper = p.square() / p.square().sum(1, keepdim=True)
    for probabilities in (p, sharper):
        judge = multiclass_calibration_error(probabilities, y, num_classes=5, n_bins=15)
        assert ece(probabilities, y) == pytest.approx(float(judge), abs=1e-6)


def test_closed_form_of_a_constant_classifier() -> None:
    p = torch.tensor([[0.8, 0.2]]).expand(100, 2)
    y = torch.tensor([0] * 55 + [1] * 45)
    assert ece(p, y) == pytest.approx(0.25)
    assert reliability(p, y).accuracy.tolist() == pytest.approx([0.55])


def test_a_calibrated_classifier_has_an_error_within_sampling_noise() -> None:
    p, y = draws(200_000, 3, 1.5)
    diagram = reliability(p, y)
    assert diagram.share.sum() == pytest.approx(1)
    deviation = (diagram.accuracy - diagram.confidence).abs()
    noise = (diagram.confidence * (1 - diagram.confidence) / (200_000 * diagram.share)).sqrt()
    assert (deviation < 4.5 * noise + 1e-9).all()
    assert ece(p.square() / p.square().sum(1, keepdim=True), y) > 20 * diagram.ece


def test_the_ends_of_the_bins_belong_below() -> None:
    p = torch.tensor([[0.75, 0.25], [0.5, 0.5], [1.0, 0.0]])
    assert reliability(p, torch.tensor([0, 0, 1]), bins=4).confidence.tolist() == [0.5, 0.75, 1.0]


def test_nothing_is_made_on_the_default_device() -> None:
    """A GPU's probabilities would not meet zeros of the CPU; here the default is another, too."""
    p, y = draws(100, 3, 1.0)
    with torch.device("meta"):
        found = reliability(p, y)
    assert found.ece == ece(p, y)


@pytest.mark.parametrize(
    ("p", "y"),
    [
        (torch.ones(3, 2), torch.zeros(3)),
        (torch.full((3, 2), torch.nan), torch.zeros(3)),
        (torch.full((3, 2), 0.5), torch.zeros(2)),
        (torch.zeros(0, 2), torch.zeros(0)),
        (torch.tensor([[1.5, -0.5]]), torch.zeros(1)),
    ],
)
def test_what_is_no_probability_is_refused(p: torch.Tensor, y: torch.Tensor) -> None:
    with pytest.raises(UserError, match="give"):
        ece(p, y)


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_of_no_class_is_refused(label: int) -> None:
    with pytest.raises(UserError, match="leave out what has no label"):
        ece(torch.eye(3), torch.tensor([0, 1, label]))
