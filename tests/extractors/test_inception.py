import hashlib
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from fewlabel.errors import UserError
from fewlabel.extractors import inception
from fewlabel.extractors.inception import Inception, inception_extractor, resize_tf1


@pytest.fixture(scope="module")
def network() -> Inception:
    """The network with random weights that keep the size of what passes."""
    torch.manual_seed(0)
    found = Inception()
    for part in found.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight)
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.bias, std=0.1)
            part.running_mean.normal_(std=0.1)
    return found.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def weights(network: Inception, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The network's weights as files .pth and .safetensors, 96 MB each."""
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    torch.save(network.state_dict(), path)
    save_file(network.state_dict(), path.with_suffix(".safetensors"))
    yield path
    path.unlink()
    path.with_suffix(".safetensors").unlink()


def images(channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    levels = torch.randint(0, 256, (2, channels, 20, 20), generator=generator)
    return levels / 127.5 - 1


def test_as_many_weights_as_published(network: Inception) -> None:
    """Keras counts 23,817,352 to train and 34,432 statistics, with 1000 classes and no gains."""
    gains = sum(m.weight.numel() for m in network.modules() if isinstance(m, nn.BatchNorm2d))
    eight_more_classes = 8 * (2048 + 1)
    parameters = sum(p.numel() for p in network.parameters())
    assert parameters - gains - eight_more_classes == 23_817_352
    statistics = [b for n, b in network.named_buffers() if "running" in n]
    assert sum(b.numel() for b in statistics) == 34_432
    assert len(network.state_dict()) == 566  # tensors of the converted file


def seen(network: Inception, part: str) -> tuple[Tensor, Tensor]:
    """What comes into a part of the network and what leaves it."""
    found: list[Tensor] = []
    hook = network.get_submodule(part).register_forward_hook(
        lambda module, inputs, output: found.extend((inputs[0], output))
    )
    network(images())
    hook.remove()
    return found[0], found[1]


def test_levels_have_the_published_sizes(network: Inception) -> None:
    """Szegedy et al. 2016, table 1."""
    found: dict[str, tuple[int, ...]] = {}

    def note(name: str) -> RemovableHandle:
        return network.get_submodule(name).register_forward_pre_hook(
            lambda module, inputs: found.update({name: tuple(inputs[0].shape[1:])})
        )

    published = {
        "Conv2d_1a_3x3": (3, 299, 299),
        "Conv2d_2a_3x3": (32, 149, 149),
        "Conv2d_2b_3x3": (32, 147, 147),
        "Conv2d_3b_1x1": (64, 73, 73),
        "Mixed_6a": (288, 35, 35),
        "Mixed_7a": (768, 17, 17),
        "Mixed_7b": (1280, 8, 8),
        "Mixed_7c": (2048, 8, 8),
    }
    hooks = [note(name) for name in published]
    network(images())
    for hook in hooks:
        hook.remove()
    assert found == published


PUBLISHED = {  # the branches in their order; "/" halves the size, "|" is side by side
    "Mixed_5b": (
        "branch1x1:1x1",
        "branch5x5_1:1x1 branch5x5_2:5x5",
        "branch3x3dbl_1:1x1 branch3x3dbl_2:3x3 branch3x3dbl_3:3x3",
        "mean branch_pool:1x1",
    ),
    "Mixed_6a": (
        "branch3x3:3x3/",
        "branch3x3dbl_1:1x1 branch3x3dbl_2:3x3 branch3x3dbl_3:3x3/",
        "max/",
    ),
    "Mixed_6b": (
        "branch1x1:1x1",
        "branch7x7_1:1x1 branch7x7_2:1x7 branch7x7_3:7x1",
        "branch7x7dbl_1:1x1 branch7x7dbl_2:7x1 branch7x7dbl_3:1x7 branch7x7dbl_4:7x1"
        " branch7x7dbl_5:1x7",
        "mean branch_pool:1x1",
    ),
    "Mixed_7a": (
        "branch3x3_1:1x1 branch3x3_2:3x3/",
        "branch7x7x3_1:1x1 branch7x7x3_2:1x7 branch7x7x3_3:7x1 branch7x7x3_4:3x3/",
        "max/",
    ),
    "Mixed_7b": (
        "branch1x1:1x1",
        "branch3x3_1:1x1 branch3x3_2a:1x3|branch3x3_2b:3x1",
        "branch3x3dbl_1:1x1 branch3x3dbl_2:3x3 branch3x3dbl_3a:1x3|branch3x3dbl_3b:3x1",
        "mean branch_pool:1x1",
    ),
}


def layer(weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    """A layer of the published network, written with functions alone."""
    stride = 2 if name.endswith("/") else 1
    if name == "mean":
        return functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    if name == "max/":
        return functional.max_pool2d(x, 3, 2)
    name, kernel = name.strip("/").split(":")
    filters = weights[f"{name}.conv.weight"]
    height, width = filters.shape[2:]
    assert kernel == f"{height}x{width}"
    padding = (height // 2, width // 2) if stride == 1 else 0
    x = functional.conv2d(x, filters, None, stride, padding)
    parts = ("running_mean", "running_var", "weight", "bias")
    scaled = functional.batch_norm(x, *(weights[f"{name}.bn.{part}"] for part in parts), eps=1e-3)
    return scaled.relu()


@pytest.mark.parametrize("block", PUBLISHED)
def test_blocks_are_wired_as_published(network: Inception, block: str) -> None:
    """One of each kind, by the names of the converted weights."""
    part = network.get_submodule(block)
    weights, branches = part.state_dict(), []
    inputs = weights[f"{PUBLISHED[block][0].split(':')[0]}.conv.weight"].shape[1]
    x = torch.randn(1, inputs, 9, 9, generator=torch.Generator().manual_seed(0))
    for names in PUBLISHED[block]:
        y = x
        for forked in names.split():
            y = torch.cat([layer(weights, name, y) for name in forked.split("|")], 1)
        branches.append(y)
    torch.testing.assert_close(part(x), torch.cat(branches, 1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("block", ["Mixed_5b", "Mixed_6e", "Mixed_7b"])
def test_means_do_not_count_the_padding(network: Inception, block: str) -> None:
    before, _ = seen(network, block)
    pooled, _ = seen(network, f"{block}.branch_pool")
    ones = torch.ones(1, 1, *before.shape[2:])
    kernel = torch.ones(1, 1, 3, 3)
    sums = functional.conv2d(before.flatten(0, 1)[:, None], kernel, padding=1)
    means = sums / functional.conv2d(ones, kernel, padding=1)
    torch.testing.assert_close(pooled, means.reshape(before.shape), rtol=1e-4, atol=1e-4)


def test_the_last_block_takes_maxima(network: Inception) -> None:
    before, _ = seen(network, "Mixed_7c")
    pooled, _ = seen(network, "Mixed_7c.branch_pool")
    around = functional.unfold(functional.pad(before, [1] * 4, value=-torch.inf), 3)
    maxima = around.reshape(2, 2048, 9, 8, 8).amax(2)
    assert torch.equal(pooled, maxima)


def test_features_are_means_of_the_last_level(network: Inception) -> None:
    features, log_prob = network(images())
    torch.testing.assert_close(features, seen(network, "Mixed_7c")[1].mean((2, 3)))
    without_bias = network.fc(features) - network.fc.bias
    torch.testing.assert_close(log_prob, without_bias.log_softmax(-1))


def test_resizing_is_that_of_tensorflow_1() -> None:
    """Pixel i comes from i·n/side: neither corners nor centres are aligned."""
    row = torch.tensor([[[[0.0, 1.0]]]])
    assert resize_tf1(row.expand(1, 1, 2, 2), 4)[0, 0, 0].tolist() == [0.0, 0.5, 1.0, 1.0]
    ramp = torch.arange(37.0).expand(1, 1, 37, 37)
    expected = (torch.arange(299) * 37 / 299).clamp(max=36)
    torch.testing.assert_close(resize_tf1(ramp, 299)[0, 0, 5], expected)
    torch.testing.assert_close(resize_tf1(ramp.mT, 299)[0, 0, :, 5], expected)
    same = torch.rand(1, 3, 299, 299)
    torch.testing.assert_close(resize_tf1(same, 299), same)


def test_images_are_read_as_bytes_and_grey_ones_as_coloured(network: Inception) -> None:
    grey = images(channels=1)
    features, _ = network(grey)
    torch.testing.assert_close(features, network(grey.expand(-1, 3, -1, -1))[0])
    assert torch.equal(network((grey + 0.4 / 127.5).clamp(-1, 1))[0], features)
    seen_by_it: list[Tensor] = []
    hook = network.Conv2d_1a_3x3.register_forward_pre_hook(
        lambda module, inputs: seen_by_it.append(inputs[0])
    )
    network(torch.tensor([-1.0, 1.0]).reshape(2, 1, 1, 1).expand(2, 3, 9, 9))
    hook.remove()
    ends = torch.tensor([-1.0, 127 / 128]).reshape(2, 1, 1, 1)  # (v − 128)/128 of 0 and 255
    torch.testing.assert_close(seen_by_it[0], ends.expand(2, 3, 299, 299))


def test_weights_from_files(
    network: Inception, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"SHA-256 begins with .* and should with 6726825d"):
        inception_extractor(weights)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    monkeypatch.setattr(inception, "SHA256", digest)
    known = inception_extractor(str(weights))
    other = inception_extractor(weights.with_suffix(".safetensors"))
    assert known.key == other.key
    assert (known.name, other.name) == (f"inception-{digest[:8]}", f"inception-{other.key[:8]}")
    features, log_prob = known.read(images())
    expected = network(images())
    torch.testing.assert_close(features, expected[0])
    torch.testing.assert_close(log_prob, expected[1])


class Trap:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.mark,)


def test_wrong_files_are_refused_and_not_opened(tmp_path: Path) -> None:
    (tmp_path / "trap.pth").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    save_file({"fc.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    for name, message in (
        ("trap.pth", "trap.pth are not pt_inception-2015-12-05-6726825d.pth"),
        ("other.safetensors", "not those of the FID Inception network"),
        ("broken.safetensors", "not those of the FID Inception network"),
        ("missing.pth", "cannot be read .No such file"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            inception_extractor(tmp_path / name)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "sprung").exists()


def test_vectors_and_four_channels_are_refused(network: Inception) -> None:
    extractor = inception.NetworkExtractor("inception", "key", network)
    for wrong in (torch.zeros(3, 2), torch.zeros(3, 4, 8, 8)):
        with pytest.raises(UserError, match="inception cannot read images of shape") as caught:
            extractor.read(wrong)
        assert "\n" not in str(caught.value)
