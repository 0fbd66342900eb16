import numpy as np
import pytest
import torch
from diffusers.models.resnet import ResnetBlock2D
from network_cases import UNETS, each, inputs, unet
from torch import nn

from fewlabel.networks.levels import initialise
from fewlabel.networks.unet import Blocks, UNet


@each(UNETS)
@pytest.mark.parametrize(
    ("shape", "levels", "pad"),
    [
        ((1, 1, 1), 3, (3, 3)),
        ((4, 2, 1), 3, (2, 3)),
        ((3, 33, 47), 3, (3, 1)),
        ((1, 9, 9), 2, (1, 1)),
        ((1, 28, 28), 3, (0, 0)),
        ((1, 30, 30), 3, (2, 2)),
        ((3, 8, 13), 3, (0, 3)),
        ((1, 5, 7), 3, (3, 1)),
    ],
)
def test_unet_pads_odd_sizes_by_reflection_and_crops(
    build, shape: tuple[int, int, int], levels: int, pad: tuple[int, int]
) -> None:
    network = build(shape[0], levels)
    u, c_noise = inputs(2, shape)
    padded = np.pad(u.numpy(), [(0, 0), (0, 0), (0, pad[0]), (0, pad[1])], mode="reflect")
    with torch.no_grad():
        output = network(u, c_noise)
        expected = network.run(torch.from_numpy(padded), c_noise)
    assert output.shape == u.shape
    torch.testing.assert_close(
        output, expected[..., : shape[1], : shape[2]], rtol=1e-10, atol=1e-10
    )


@each(UNETS)
def test_an_unconditional_unet_refuses_labels(build) -> None:
    u, c_noise = inputs(2)
    with pytest.raises(ValueError, match="class_embedding"):
        build()(u, c_noise, torch.tensor([0, 1]))


@pytest.mark.parametrize("kind", ["plain", "ddpm++", "ncsn++"])
def test_the_levels_of_ncsnpp_get_the_image_beside_the_features(kind: Blocks) -> None:
    """So they see it even if the first convolution lets nothing through."""
    network = unet(3, 3, blocks=kind)
    nn.init.zeros_(network.model.conv_in.weight)
    u, c_noise = inputs(2, (3, 8, 8))
    with torch.no_grad():
        change = (network(u, c_noise) - network(-u, c_noise)).abs().max()
    assert (change > 1e-2) == (kind == "ncsn++")


@pytest.mark.parametrize("kind", ["ddpm++", "ncsn++"])
def test_a_network_begins_next_to_zero_and_learns_in_every_weight(kind: Blocks) -> None:
    """At zero the denoiser is the best linear one; the loss moves whatever is not behind zeros."""
    torch.manual_seed(0)
    network = UNet(3, (32, 64), 1, (False, True), blocks=kind)
    u, c_noise = (v.float() for v in inputs(4, (3, 8, 8)))
    output = network(u, c_noise)
    assert output.abs().max() < 1e-3
    initialise(network.model, nn.Conv2d(1, 1, 1))  # as before, but for the last convolution
    network.model.conv_out.reset_parameters()
    loss = (network(u, c_noise) - u).square().sum()
    gradients = torch.autograd.grad(loss, list(network.parameters()))
    assert all(gradient.abs().max() > 0 for gradient in gradients)


def test_dropout_acts_in_training_alone() -> None:
    network = UNet(3, (32, 32), 1, (False, True), blocks="ncsn++", dropout=0.5).double()
    network.model.conv_out.reset_parameters()
    for block in network.modules():
        if isinstance(block, ResnetBlock2D):
            block.conv2.reset_parameters()
    u, c_noise = inputs(2, (3, 8, 8))
    with torch.no_grad():
        assert not torch.equal(network(u, c_noise), network(u, c_noise))
        network.eval()
        assert torch.equal(network(u, c_noise), network(u, c_noise))
