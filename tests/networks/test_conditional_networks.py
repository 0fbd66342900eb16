"""Networks that are given labels."""

import torch
from network_cases import UNETS, each, inputs, perceptron, vectors
from torch import Tensor, nn

from fewlabel.networks.unet import UNet


def conditional(build):
    return lambda: build(classes=3)


def conditional_inputs(network: nn.Module, n: int) -> tuple[Tensor, Tensor]:
    return inputs(n) if isinstance(network, UNet) else vectors(n)[:2]


every_conditional = each(
    {name: conditional(build) for name, build in {**UNETS, "perceptron": perceptron}.items()}
)


@every_conditional
def test_no_label_is_a_label_of_its_own(build) -> None:
    """None and −1 are the same, and differ from each class, as the classes from each other."""
    network = build()
    u, c_noise = (v.expand(5, *v.shape[1:]) for v in conditional_inputs(network, 1))
    with torch.no_grad():
        given = network(u, c_noise, torch.tensor([-1, 0, 1, 2, -1]))
        none = network(u, c_noise)
    assert torch.equal(none, network(u, c_noise, torch.full((5,), -1)))
    torch.testing.assert_close(given[[0, 4]], none[[0, 4]], rtol=1e-10, atol=1e-10)
    flat = given[:4].flatten(1)
    distances = torch.cdist(flat, flat) + 1e9 * torch.eye(4)
    assert distances.min() > 1e-2 * flat.std()


@every_conditional
def test_a_label_belongs_to_its_row(build) -> None:
    network = build()
    u, c_noise = conditional_inputs(network, 4)
    with torch.no_grad():
        before = network(u, c_noise, torch.tensor([0, 1, 2, -1]))
        after = network(u, c_noise, torch.tensor([0, 2, 2, -1]))
    torch.testing.assert_close(before[[0, 2, 3]], after[[0, 2, 3]], rtol=1e-10, atol=1e-10)
    assert (before[1] - after[1]).abs().max() > 1e-3


@every_conditional
def test_only_the_labels_of_a_batch_are_learned_from_it(build) -> None:
    network = build()
    u, c_noise = conditional_inputs(network, 3)
    table = next(m for m in network.modules() if isinstance(m, nn.Embedding)).weight
    loss = network(u, c_noise, torch.tensor([1, -1, 1])).square().sum()
    (gradient,) = torch.autograd.grad(loss, table)
    touched = gradient.abs().amax(1) > 1e-6
    assert touched.tolist() == [True, False, True, False]  # none, 0, 1, 2
