"""The noise-conditional classifiers for images."""

import pytest
import torch
from network_cases import CLASSIFIERS, each, encoder, fourier_encoder, inputs, ncsnpp, unet
from torch import Tensor, nn

from fewlabel.classifier import input_grad

every_classifier = each(CLASSIFIERS)


def log_sum(logits: Tensor) -> Tensor:
    return logits.logsumexp(1)


@every_classifier
def test_a_classifier_is_smooth_in_its_input(build) -> None:
    """First and second derivatives against central differences, which converge: no kinks."""
    network = build()
    u, c_noise = inputs(4)
    direction = torch.randn(
        u.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64
    )

    def slope(u: Tensor, create_graph: bool = False) -> Tensor:
        return input_grad(lambda u: network(u, c_noise), log_sum, u, create_graph=create_graph)

    h = 1e-4
    with torch.no_grad():
        forward = network(u + h * direction, c_noise).logsumexp(1)
        backward = network(u - h * direction, c_noise).logsumexp(1)
    first = (slope(u) * direction).flatten(1).sum(1)
    torch.testing.assert_close(first, (forward - backward) / (2 * h), rtol=1e-6, atol=1e-8)

    at = u.clone().requires_grad_()
    (second,) = torch.autograd.grad((slope(at, create_graph=True) * direction).sum(), at)
    errors = []
    for h in (1e-2, 5e-3):  # far enough to step over kinks, if there are any
        difference = (slope(u + h * direction) - slope(u - h * direction)) / (2 * h)
        errors.append(((second - difference).abs().max() / second.abs().max()).item())
    assert errors[1] < 5e-3
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.05)  # second order: smooth


@every_classifier
def test_a_loss_on_the_gradient_has_the_gradient_that_differences_give(build) -> None:
    """What self-calibration does, with respect to the weights."""
    network = build()
    u, c_noise = inputs(2)

    def loss() -> Tensor:
        gradient = input_grad(lambda u: network(u, c_noise), log_sum, u, create_graph=True)
        return gradient.square().sum()

    weights = {n: w for n, w in network.named_parameters() if w.requires_grad}
    found = torch.autograd.grad(loss(), list(weights.values()), allow_unused=True)
    unused = [name for name, g in zip(weights, found, strict=True) if g is None]
    assert unused in ([], ["head.bias"])  # a constant of the logits of all classes
    generator, h = torch.Generator().manual_seed(4), 1e-5
    slope, starts, directions = 0.0, [w.data for w in weights.values()], []
    for weight, gradient in zip(weights.values(), found, strict=True):
        direction = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        directions.append(direction * weight.data.std(correction=0).clamp(min=0.01))
        slope += 0.0 if gradient is None else (gradient * directions[-1]).sum().item()
    ends = []
    for step in (h, -h):
        for weight, start, direction in zip(weights.values(), starts, directions, strict=True):
            weight.data = start + step * direction
        ends.append(loss().item())
    assert slope == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-6)


@pytest.mark.parametrize(("score", "kind"), [(unet, encoder), (ncsnpp, fourier_encoder)])
@pytest.mark.parametrize("classes", [0, 3], ids=["unconditional", "conditional"])
def test_an_encoder_takes_over_the_weights_of_a_score_network(score, kind, classes: int) -> None:
    """With them it sees what the score network sees at its deepest level."""
    network, classifier = score(levels=3, classes=classes), kind(levels=3)
    seen = []
    network.model.mid_block.register_forward_hook(lambda *call: seen.append(call[2]))
    if classes:
        nn.init.zeros_(network.model.class_embedding.weight)
    loaded = classifier.encoder.load_state_dict(network.state_dict(), strict=False)
    assert not loaded.missing_keys
    left_out = ("model.up_blocks", "model.conv_norm_out", "model.conv_out", "model.class_embed")
    assert all(key.startswith(left_out) for key in loaded.unexpected_keys)
    u, c_noise = inputs(2, (1, 9, 12))
    with torch.no_grad():
        network(u, c_noise)
        torch.testing.assert_close(
            classifier.encoder.run(u, c_noise), seen[0], rtol=1e-9, atol=1e-9
        )


@every_classifier
def test_features_are_what_the_head_classifies(build) -> None:
    network = build()
    u, c_noise = inputs(3)
    features = network.features(u, c_noise)
    expected = features @ network.head.weight.T + network.head.bias
    torch.testing.assert_close(network(u, c_noise), expected, rtol=1e-12, atol=1e-12)
