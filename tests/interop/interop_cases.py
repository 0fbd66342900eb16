"""Small models of other libraries, with random weights."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    DDIMPipeline,
    DDIMScheduler,
    ScoreSdeVePipeline,
    ScoreSdeVeScheduler,
    UNet2DModel,
)
from torch import Tensor, nn

SIZE = 8


def random_weights(model: nn.Module, seed: int = 0) -> None:
    """Weights and biases so that every part of the network matters."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in model.parameters():
            scale = value[0].numel() ** -0.5 if value.dim() > 1 else 0.2
            value.add_(scale * torch.randn(value.shape, generator=generator))


def unet(**settings: Any) -> UNet2DModel:
    """A small unconditional network."""
    model = UNet2DModel(
        **{
            "sample_size": SIZE,
            "in_channels": 1,
            "out_channels": 1,
            "block_out_channels": (8, 16),
            "layers_per_block": 1,
            "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
            "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
            "norm_num_groups": 4,
            "attention_head_dim": 4,
            **settings,
        }
    )
    random_weights(model)
    return model.eval()


def ddim_folder(path: Path, network: UNet2DModel | None = None, **schedule: Any) -> DDIMPipeline:
    """A DDIM pipeline, also as a folder."""
    pipeline = DDIMPipeline(network or unet(), DDIMScheduler(clip_sample=False, **schedule))
    pipeline.save_pretrained(path)
    return pipeline


def ve_folder(path: Path, **settings: Any) -> ScoreSdeVePipeline:
    """A score-SDE VE pipeline with blocks that hand the image on, also as a folder."""
    skips = {
        "down_block_types": ("SkipDownBlock2D", "AttnSkipDownBlock2D"),
        "up_block_types": ("AttnSkipUpBlock2D", "SkipUpBlock2D"),
        "block_out_channels": (32, 64),
        "norm_num_groups": None,
        "attention_head_dim": None,
        "in_channels": 3,
        "out_channels": 3,
    }
    network = unet(time_embedding_type="fourier", **skips, **settings)
    pipeline = ScoreSdeVePipeline(network, ScoreSdeVeScheduler(sigma_max=50.0))
    pipeline.save_pretrained(path)
    return pipeline


def changed_json(path: Path, **values: Any) -> None:
    """Change keys of a JSON file."""
    found = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(found | values), encoding="utf-8")


def images(n: int, channels: int = 1, seed: int = 0) -> Tensor:
    """Standard normal noise, shaped like images."""
    return torch.randn(n, channels, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
