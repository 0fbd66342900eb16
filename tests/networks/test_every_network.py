"""What holds for every network for images."""

import pytest
import torch
from network_cases import CLASSIFIERS, UNETS, each, inputs

every_network = each(UNETS | CLASSIFIERS)


@every_network
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_samples_do_not_mix(build, training: bool) -> None:
    network = build().train(training)
    u, c_noise = inputs(5)
    with torch.no_grad():
        together = network(u, c_noise)
        alone = torch.cat([network(u[i : i + 1], c_noise[i : i + 1]) for i in range(5)])
        changed = u.clone()
        changed[2] = 7 - 3 * changed[2]
        after = network(changed, c_noise)
    torch.testing.assert_close(together, alone, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(together[[0, 1, 3, 4]], after[[0, 1, 3, 4]], rtol=1e-10, atol=1e-10)
    assert (after[2] - together[2]).abs().max() > 1e-3


@every_network
def test_samples_do_not_mix_in_the_gradient(build) -> None:
    network = build()
    u, c_noise = inputs(3)
    u.requires_grad_()
    (gradient,) = torch.autograd.grad(network(u, c_noise)[1].square().sum(), u)
    assert gradient[[0, 2]].abs().max() == 0
    assert gradient[1].abs().max() > 1e-4


@every_network
@pytest.mark.parametrize("size", [(9, 9), (28, 28), (30, 30), (5, 7), (33, 47)])
def test_every_pixel_of_any_size_matters(build, size: tuple[int, int]) -> None:
    """The last row and column too, whatever is padded or pooled."""
    network = build(1, 3)
    u, c_noise = inputs(1, (1, *size))
    u.requires_grad_()
    output = network(u, c_noise)
    assert output.isfinite().all()
    (gradient,) = torch.autograd.grad(output.square().sum(), u)
    assert (gradient.abs() > 1e-3 * gradient.abs().mean()).double().mean() > 0.9
    assert (gradient[..., -1, :].abs() > 1e-3 * gradient.abs().mean()).double().mean() > 0.6
    assert (gradient[..., :, -1].abs() > 1e-3 * gradient.abs().mean()).double().mean() > 0.6


@every_network
def test_the_output_depends_on_the_noise_level(build) -> None:
    network = build()
    u, _ = inputs(1)
    levels = torch.tensor([-1.2, -0.6, 0.0, 0.6, 1.0], dtype=torch.float64)
    with torch.no_grad():
        output = network(u.expand(5, -1, -1, -1), levels).flatten(1)
    distances = torch.cdist(output, output) + 1e9 * torch.eye(5)
    assert distances.min() > 1e-2 * output.std()


@every_network
def test_channels_last_changes_nothing(build) -> None:
    network = build(3)
    u, c_noise = inputs(2, (3, 8, 8))
    with torch.no_grad():
        expected = network(u, c_noise)
        network = network.to(memory_format=torch.channels_last)
        output = network(u.contiguous(memory_format=torch.channels_last), c_noise)
    torch.testing.assert_close(output, expected, rtol=1e-9, atol=1e-9)
