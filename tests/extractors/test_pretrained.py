import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    CLIPConfig,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    PreTrainedModel,
    ResNetConfig,
    ResNetModel,
    ViTConfig,
    ViTModel,
)

from fewlabel.errors import UserError
from fewlabel.extractors.pretrained import transformers_extractor

MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.25, 0.5]
SETTINGS = {"image_mean": MEAN, "image_std": STD, "size": {"height": 16, "width": 16}}
SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 16,
    "patch_size": 8,
}


def saved(model: PreTrainedModel, folder: Path, **settings: object) -> str:
    model.eval().save_pretrained(folder)
    content = json.dumps({**SETTINGS, **settings})
    (folder / "preprocessor_config.json").write_text(content)
    return str(folder)


def vit(pooled: bool = True) -> ViTModel:
    torch.manual_seed(0)
    return ViTModel(ViTConfig(**SMALL), add_pooling_layer=pooled)


def images(channels: int = 3, side: int = 16) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(3, channels, side, side, generator=generator) * 2 - 1


def normalised(x: Tensor) -> Tensor:
    unit = (x + 1) / 2
    return torch.stack([(unit[:, c] - MEAN[c]) / STD[c] for c in range(3)], dim=1)


def test_the_pooled_output_of_normalised_images(tmp_path: Path) -> None:
    model = vit()
    extractor = transformers_extractor(saved(model, tmp_path / "vit"))
    expected = model(pixel_values=normalised(images())).pooler_output.detach()
    features, own = extractor.read(images())
    torch.testing.assert_close(features, expected)
    assert own is None
    assert extractor.name == f"vit-{extractor.key[:8]}"
    grey = images(channels=1)
    expected = extractor.read(grey.expand(-1, 3, -1, -1))[0]
    torch.testing.assert_close(extractor.read(grey)[0], expected)


def test_the_class_token_where_the_weights_have_no_pooling(tmp_path: Path) -> None:
    """The library would make one up at random."""
    model = vit(pooled=False)
    folder = saved(model, tmp_path / "dino")
    first, second = transformers_extractor(folder), transformers_extractor(folder)
    assert first.key == second.key
    expected = model(pixel_values=normalised(images())).last_hidden_state[:, 0].detach()
    torch.testing.assert_close(first.read(images())[0], expected)


def test_images_get_the_size_that_the_model_sees_after_cropping(tmp_path: Path) -> None:
    model = Dinov2Model(Dinov2Config(**SMALL, mlp_ratio=2))
    crop = {"height": 16, "width": 16}
    settings = {"size": {"shortest_edge": 20}, "crop_size": crop, "do_center_crop": True}
    extractor = transformers_extractor(saved(model, tmp_path / "dinov2", **settings))
    expected = model(pixel_values=normalised(images())).pooler_output.detach()
    torch.testing.assert_close(extractor.read(images())[0], expected)
    twice = images().repeat_interleave(2, -1).repeat_interleave(2, -2)
    flat = torch.ones(1, 3, 16, 16) * 0.3
    torch.testing.assert_close(
        extractor.read(torch.ones(1, 3, 64, 64) * 0.3)[0], extractor.read(flat)[0]
    )
    assert extractor.read(twice)[0].shape == expected.shape


def test_images_are_resized_as_pillow_does(tmp_path: Path) -> None:
    """Bicubic and antialiased: a checkerboard of pixels becomes grey, edges do not overshoot."""
    net = ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1]))
    size = {"height": 12, "width": 20}
    extractor = transformers_extractor(saved(net, tmp_path / "resnet", size=size))
    seen: list[Tensor] = []
    extractor.network.model.register_forward_pre_hook(
        lambda module, args, named: seen.append(named["pixel_values"]), with_kwargs=True
    )
    x = images(side=50)[:, :, :33].sign()
    x[0] = (torch.arange(33)[:, None] + torch.arange(50)) % 2 * 2 - 1
    x[1] = torch.where(torch.arange(50) < 25, -1.0, 1.0)
    extractor.read(x)
    pictures = [Image.fromarray(channel.numpy()) for channel in x.flatten(0, 1)]
    resized = [np.asarray(p.resize((20, 12), Image.Resampling.BICUBIC)) for p in pictures]
    expected = torch.from_numpy(np.stack(resized)).clamp(-1, 1).reshape(3, 3, 12, 20)
    torch.testing.assert_close(seen[0], normalised(expected), rtol=1e-4, atol=1e-4)
    assert expected[0].abs().max() < 0.2


def test_maps_are_averaged_and_of_two_towers_the_seeing_one_is_taken(tmp_path: Path) -> None:
    net = ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1]))
    extractor = transformers_extractor(saved(net, tmp_path / "resnet", size=16))
    expected = net(pixel_values=normalised(images())).pooler_output.detach().flatten(1)
    torch.testing.assert_close(extractor.read(images())[0], expected)

    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    clip = CLIPModel(CLIPConfig(text_config=text, vision_config=SMALL, projection_dim=8))
    extractor = transformers_extractor(saved(clip, tmp_path / "clip"))
    expected = clip.vision_model(pixel_values=normalised(images())).pooler_output.detach()
    torch.testing.assert_close(extractor.read(images())[0], expected)


def test_keys_tell_weights_and_settings_apart(tmp_path: Path) -> None:
    model = vit()
    folders = [saved(model, tmp_path / "a"), saved(model, tmp_path / "b", image_mean=[0.5] * 3)]
    folders.append(saved(model, tmp_path / "c", size=32))
    with torch.no_grad():
        model.layernorm.bias.add_(1)
    folders.append(saved(model, tmp_path / "d"))
    keys = [transformers_extractor(folder).key for folder in folders]
    assert len(set(keys)) == 4
    assert transformers_extractor(saved(vit(), tmp_path / "e")).key == keys[0]


def test_code_that_comes_with_a_model_is_never_run(tmp_path: Path) -> None:
    folder = Path(saved(vit(), tmp_path / "vit"))
    config = json.loads((folder / "config.json").read_text())
    mark = tmp_path / "sprung"
    (folder / "trap.py").write_text(f"open({str(mark)!r}, 'w')\nclass Trap: ...\n")
    for kind in ("vit", "unheard-of"):
        mapping = {"AutoModel": "trap.Trap", "AutoConfig": "trap.Trap"}
        content = json.dumps({**config, "model_type": kind, "auto_map": mapping})
        (folder / "config.json").write_text(content)
        if kind == "vit":
            transformers_extractor(str(folder)).read(images())
        else:
            with pytest.raises(UserError, match="cannot be loaded"):
                transformers_extractor(str(folder))
    assert not mark.exists()


def without_settings(folder: Path) -> None:
    (folder / "preprocessor_config.json").unlink()


def without_mean(folder: Path) -> None:
    (folder / "preprocessor_config.json").write_text('{"size": 16}')


def pickled(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def incomplete(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights.pop("layernorm.weight")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def damaged(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-10])


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (without_settings, "cannot be loaded .*preprocessor_config.json"),
        (without_mean, "says no size, image_mean and image_std"),
        (pickled, "cannot be loaded .*safetensors"),
        (incomplete, "has no weights for layernorm.weight"),
        (damaged, "cannot be loaded"),
    ],
)
def test_refuses_wrong_folders(tmp_path: Path, harm: Callable[[Path], None], message: str) -> None:
    folder = saved(vit(), tmp_path / "vit")
    harm(Path(folder))
    with pytest.raises(UserError, match=message) as caught:
        transformers_extractor(folder)
    assert "\n" not in str(caught.value)


def test_refuses_what_is_not_there_and_what_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such folder"):
        transformers_extractor(str(tmp_path / "nowhere"))
    wrong = transformers_extractor(saved(vit(), tmp_path / "vit", size=24))
    with pytest.raises(UserError, match=r"vit-.* cannot read images of shape") as caught:
        wrong.read(images())
    assert "\n" not in str(caught.value)
