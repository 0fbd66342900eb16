from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fewlabel.errors import UserError
from fewlabel.extractors.extractor import module_extractor
from fewlabel.networks.weights_key import weights_key


def images(n: int, channels: int = 3) -> Tensor:
    return torch.rand(n, channels, 6, 5, generator=torch.Generator().manual_seed(0)) * 2 - 1


class Fixed(nn.Module):
    """Gives whatever a function makes of the images."""

    def __init__(self, function: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> object:
        return self.function(x)


def test_maps_are_averaged_over_places() -> None:
    features, own = module_extractor(nn.Identity()).read(images(70))
    torch.testing.assert_close(features, images(70).mean((2, 3)))
    assert own is None


def test_batches_do_not_change_features_and_verdicts() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(90, 7))
    extractor = module_extractor(Fixed(lambda x: (module(x), x[:, 0, 0].log_softmax(-1))))
    features, own = extractor.read(images(70))
    torch.testing.assert_close(features, module(images(70)).detach())
    torch.testing.assert_close(own, images(70)[:, 0, 0].log_softmax(-1))
    alone, _ = extractor.read(images(70)[50:51])
    torch.testing.assert_close(alone[0], features[50])


def test_the_module_is_read_as_it_was_and_in_evaluation_mode() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5), nn.Flatten(), nn.Linear(90, 2))
    module(images(40))  # the batch norm takes note
    extractor = module_extractor(module)
    assert module.training
    expected = module.eval()(images(40)).detach()
    with torch.no_grad():
        module[3].weight.zero_()
    torch.testing.assert_close(extractor.read(images(40))[0], expected)
    assert extractor.key != module_extractor(module).key


def test_keys_tell_weights_kinds_and_facts_apart() -> None:
    torch.manual_seed(0)
    first = nn.Sequential(nn.Linear(4, 4), nn.SiLU())
    second = nn.Sequential(nn.Linear(4, 4), nn.SiLU())
    keys = {weights_key(first), weights_key(second), weights_key(first, 299)}
    second.load_state_dict(first.state_dict())
    keys |= {weights_key(nn.Sequential(first[0], nn.ReLU())), weights_key(first.double())}
    assert len(keys) == 5
    assert weights_key(second) in keys
    assert weights_key(nn.Linear(2, 2).bfloat16()) not in keys


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x[:, 0, 0, 0], r"features of 3 images have shape \(3,\)"),
        (lambda x: x.flatten(1)[:2], r"have shape \(2, 90\): give \(n, F\)"),
        (lambda x: x.flatten(1)[:, :0], r"have shape \(3, 0\)"),
        (lambda x: [x], "features are a list"),
        (lambda x: (x, x, x), "features are a tuple"),
        (lambda x: x.mean((2, 3)).log(), "features hold NaN"),
        (lambda x: (x, x.mean((1, 2, 3))), "log-probabilities of 3 images have shape"),
        (lambda x: x @ x, r"Fixed-.* cannot read images of shape \(3, 6, 5\)"),
    ],
)
def test_refuses_what_is_no_features(function: Callable[[Tensor], object], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        module_extractor(Fixed(function)).read(images(3))
    assert "\n" not in str(caught.value)
