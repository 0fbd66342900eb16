import pytest
import torch
from network_cases import perceptron, vectors
from torch import Tensor


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_vectors_do_not_mix(training: bool) -> None:
    network = perceptron(classes=3).train(training)
    u, c_noise, y = vectors(6)
    with torch.no_grad():
        together = network(u, c_noise, y)
        alone = [network(u[i : i + 1], c_noise[i : i + 1], y[i : i + 1]) for i in range(6)]
        torch.testing.assert_close(together, torch.cat(alone), rtol=1e-12, atol=1e-12)
        u[2], c_noise[2], y[2] = 7 - 3 * u[2], 0.5, 0
        after = network(u, c_noise, y)
    others = [0, 1, 3, 4, 5]
    torch.testing.assert_close(together[others], after[others], rtol=1e-12, atol=1e-12)
    assert (after[2] - together[2]).abs().max() > 1e-3


def test_the_perceptron_depends_on_the_noise_level() -> None:
    network, (u, _, _) = perceptron(), vectors(1)
    levels = torch.tensor([-1.2, -0.6, 0.0, 0.6, 1.0], dtype=torch.float64)
    with torch.no_grad():
        output = network(u.expand(5, -1), levels)
    distances = torch.cdist(output, output) + 1e9 * torch.eye(5)
    assert distances.min() > 1e-2 * output.std()


@pytest.mark.parametrize("classes", [0, 3], ids=["unconditional", "conditional"])
def test_the_perceptron_is_smooth_in_input_and_noise_level(classes: int) -> None:
    """Gradients against central differences, which converge at their order: no kinks."""
    network = perceptron(classes=classes)
    u, c_noise, y = vectors(5)
    arguments = (y,) if classes else ()
    generator = torch.Generator().manual_seed(2)
    direction = torch.randn(u.shape, generator=generator, dtype=torch.float64)
    speed = torch.randn(5, generator=generator, dtype=torch.float64)

    def total(step: float) -> Tensor:
        with torch.no_grad():
            return network(u + step * direction, c_noise + step * speed, *arguments).sum()

    at = u.clone().requires_grad_(), c_noise.clone().requires_grad_()
    along = torch.autograd.grad(network(*at, *arguments).sum(), at)
    slope = ((along[0] * direction).sum() + (along[1] * speed).sum()).item()
    errors = [abs((total(h) - total(-h)).item() / (2 * h) - slope) for h in (2e-3, 1e-3)]
    assert errors[1] < 1e-3 * abs(slope)
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.05)


def test_the_parameter_gradient_of_the_perceptron_agrees_with_differences() -> None:
    network, (u, c_noise, y) = perceptron(classes=3), vectors(9)
    y[::2] = -1

    def loss() -> Tensor:
        return network(u, c_noise, y).square().sum()

    gradients = torch.autograd.grad(loss(), list(network.parameters()))
    generator, h = torch.Generator().manual_seed(4), 1e-5
    for parameter, gradient in zip(network.parameters(), gradients, strict=True):
        direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        origin = parameter.data
        ends = []
        for step in (h, -h):
            parameter.data = origin + step * direction
            ends.append(loss().item())
        parameter.data = origin
        assert gradient.abs().max() > 0  # every parameter takes part
        assert (gradient * direction).sum().item() == pytest.approx(
            (ends[0] - ends[1]) / (2 * h), rel=1e-5, abs=1e-6
        )


def test_the_head_of_the_perceptron_is_linear_in_its_features() -> None:
    network, (u, c_noise, y) = perceptron(classes=3), vectors(4)
    features = network.features(u, c_noise, y)
    expected = features @ network.head.weight.T + network.head.bias
    torch.testing.assert_close(network(u, c_noise, y), expected, rtol=1e-12, atol=1e-12)
