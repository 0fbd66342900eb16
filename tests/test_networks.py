import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fewlabel.networks.convolutional import ConvClassifier
from fewlabel.networks.embeddings import NoiseEmbedding
from fewlabel.networks.perceptron import Perceptron
from fewlabel.networks.unet import UNet


def unet(channels: int = 1, levels: int = 2) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        attention = (False,) * (levels - 1) + (True,)
        return UNet(channels, (8, 32, 32)[:levels], 1, attention).double()


def conv_classifier(channels: int = 1, levels: int = 2, layers: int = 1) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ConvClassifier(channels, 3, (8, 16, 24)[:levels], (layers,) * levels).double()


def inputs(n: int, shape: tuple[int, int, int] = (1, 8, 8)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    u = torch.randn(n, *shape, generator=generator, dtype=torch.float64)
    return u, torch.linspace(-1.2, 0.8, n, dtype=torch.float64)


every_network = pytest.mark.parametrize("build", [unet, conv_classifier], ids=["unet", "conv"])


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


@pytest.mark.parametrize(
    ("shape", "levels", "pad"),
    [
        ((1, 9, 9), 2, (1, 1)),
        ((1, 28, 28), 3, (0, 0)),
        ((1, 30, 30), 3, (2, 2)),
        ((3, 8, 13), 3, (0, 3)),
        ((1, 5, 7), 3, (3, 1)),
    ],
)
def test_unet_pads_odd_sizes_by_reflection_and_crops(
    shape: tuple[int, int, int], levels: int, pad: tuple[int, int]
) -> None:
    network = unet(shape[0], levels)
    u, c_noise = inputs(2, shape)
    padded = np.pad(u.numpy(), [(0, 0), (0, 0), (0, pad[0]), (0, pad[1])], mode="reflect")
    with torch.no_grad():
        output = network(u, c_noise)
        expected = network.model(torch.from_numpy(padded), c_noise * 1000).sample
    assert output.shape == u.shape
    torch.testing.assert_close(
        output, expected[..., : shape[1], : shape[2]], rtol=1e-10, atol=1e-10
    )


@every_network
@pytest.mark.parametrize("size", [(9, 9), (28, 28), (30, 30), (5, 7)])
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


def test_the_embedding_tells_noise_levels_apart() -> None:
    """No two levels of the range look alike, and a few per cent of r are seen."""
    embedding = NoiseEmbedding(32).double()
    levels = torch.linspace(-1.8, 1.2, 301, dtype=torch.float64)  # 4 % of r apart
    angles = levels[:, None] * embedding.frequencies
    features = torch.cat([angles.sin(), angles.cos()], 1)
    distances = torch.cdist(features, features)
    apart = distances[~torch.eye(301, dtype=torch.bool)]
    assert apart.min() > 0.1 * apart.mean()
    with torch.no_grad():
        out = embedding(levels)
    assert torch.cdist(out, out)[~torch.eye(301, dtype=torch.bool)].min() > 1e-4


@pytest.mark.parametrize("layers", [1, 2])
def test_the_classifier_is_smooth_in_its_input(layers: int) -> None:
    """First and second derivatives against central differences, which converge: no kinks."""
    network = conv_classifier(layers=layers)
    u, c_noise = inputs(4)
    direction = torch.randn(
        u.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64
    )

    def slope(u: Tensor, create_graph: bool = False) -> Tensor:
        u = u.clone().requires_grad_() if not u.requires_grad else u
        total = network(u, c_noise).logsumexp(1).sum()
        return torch.autograd.grad(total, u, create_graph=create_graph)[0]

    h = 1e-4
    with torch.no_grad():
        forward = network(u + h * direction, c_noise).logsumexp(1)
        backward = network(u - h * direction, c_noise).logsumexp(1)
    first = (slope(u) * direction).flatten(1).sum(1)
    torch.testing.assert_close(first, (forward - backward) / (2 * h), rtol=1e-6, atol=1e-8)

    at = u.clone().requires_grad_()
    (second,) = torch.autograd.grad((slope(at, create_graph=True) * direction).sum(), at)
    errors = []
    for h in (2e-2, 1e-2):  # far enough to step over kinks, if there are any
        difference = (slope(u + h * direction) - slope(u - h * direction)) / (2 * h)
        errors.append(((second - difference).abs().max() / second.abs().max()).item())
    assert errors[1] < 5e-3
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.05)  # second order: smooth


@every_network
def test_channels_last_changes_nothing(build) -> None:
    network = build(3)
    u, c_noise = inputs(2, (3, 8, 8))
    with torch.no_grad():
        expected = network(u, c_noise)
        network = network.to(memory_format=torch.channels_last)
        output = network(u.contiguous(memory_format=torch.channels_last), c_noise)
    torch.testing.assert_close(output, expected, rtol=1e-9, atol=1e-9)


def test_features_are_what_the_head_classifies() -> None:
    network = conv_classifier()
    u, c_noise = inputs(3)
    features = network.features(u, c_noise)
    expected = features @ network.head.weight.T + network.head.bias
    torch.testing.assert_close(network(u, c_noise), expected, rtol=1e-12, atol=1e-12)


# Vectors


def perceptron(outputs: int = 3, classes: int = 0) -> Perceptron:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Perceptron(4, outputs, 16, 2, classes).double()


def vectors(n: int) -> tuple[Tensor, Tensor, Tensor]:
    u, c_noise = inputs(n, (1, 2, 2))
    return u.flatten(1), c_noise, torch.arange(n) % 3


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


# Labels


def conditional_unet() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return UNet(1, (8, 32), 1, (False, True), classes=3).double()


def conditional_inputs(network: nn.Module, n: int) -> tuple[Tensor, Tensor]:
    return inputs(n) if isinstance(network, UNet) else vectors(n)[:2]


every_conditional = pytest.mark.parametrize(
    "build", [conditional_unet, lambda: perceptron(4, 3)], ids=["unet", "perceptron"]
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


def test_an_unconditional_unet_refuses_labels() -> None:
    u, c_noise = inputs(2)
    with pytest.raises(ValueError, match="class_embedding"):
        unet()(u, c_noise, torch.tensor([0, 1]))
