"""Vision models of the transformers library as feature extractors (the extra `transformers`).

Only weights stored as safetensors are read, and code that comes with a model is never run.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fewlabel.errors import UserError
from fewlabel.extractors.extractor import NetworkExtractor
from fewlabel.networks.weights_key import weights_key

__all__ = ["transformers_extractor"]

_SETTINGS = "preprocessor_config.json"


def transformers_extractor(source: str, device: str | torch.device = "cpu") -> NetworkExtractor:
    """The pooled output of a vision model, or its class token if it pools nothing.

    Images are scaled and normalised as the model's `preprocessor_config.json` says. They are
    resized to what the model sees after its own cropping (bicubic, antialiased), so that nothing
    is cut off. Of a model of images and texts the part that sees is taken.

    Args:
        source: a folder, or a name on the hub, such as "facebook/dinov2-small"; a name may be
            downloaded by the library.
        device: where to compute.

    Raises:
        UserError: if the library is missing or finds no such model, or it is no vision model.
    """
    model, settings = _loaded(source)
    try:
        network = _Pretrained(model, settings)
    except (KeyError, TypeError, ValueError):
        raise UserError(
            f"transformers:{source} says no size, image_mean and image_std of images in its "
            f"{_SETTINGS}: choose a vision model"
        ) from None
    network.to(device).eval().requires_grad_(False)
    key = weights_key(network, network.size)
    title = Path(source).expanduser().resolve().name or source
    return NetworkExtractor(f"{title}-{key[:8]}", key, network, device)


class _Pretrained(nn.Module):
    """Images (n, C, H, W) in [−1, 1] → (n, F)."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, settings: dict[str, Any]) -> None:
        super().__init__()
        self.model = model
        self.size = _size(settings)
        for name in ("mean", "std"):
            value = torch.tensor(settings[f"image_{name}"], dtype=torch.float32)
            self.register_buffer(name, value.reshape(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] == 1:
            x = x.expand(-1, len(self.mean), -1, -1)
        x = functional.interpolate(x, self.size, mode="bicubic", antialias=True)
        found = self.model(pixel_values=(x.clamp(-1, 1) / 2 + 0.5 - self.mean) / self.std)
        pooled = getattr(found, "pooler_output", None)
        if pooled is not None:
            return pooled
        hidden = found.last_hidden_state
        return hidden[:, 0] if hidden.ndim == 3 else hidden


def _size(settings: dict[str, Any]) -> tuple[int, int]:
    """Height and width of what the model sees."""
    size = settings["crop_size" if settings.get("do_center_crop") else "size"]
    if isinstance(size, dict) and "shortest_edge" in size:
        size = size["shortest_edge"]
    if isinstance(size, dict):
        return int(size["height"]), int(size["width"])
    return int(size), int(size)


def _loaded(source: str) -> tuple[nn.Module, dict[str, Any]]:
    """The part of a model that sees, and the settings of its images."""
    try:
        import transformers
        from transformers.utils import cached_file
    except ImportError:
        raise UserError(
            f"transformers:{source} needs the library `transformers`: install the extra, pip "
            "install 'fewlabel[transformers]'"
        ) from None
    folder = Path(source).expanduser()
    if source.startswith(("/", ".", "~")) and not folder.is_dir():
        raise UserError(f"transformers:{source}: there is no such folder: check the path")
    where = str(folder) if folder.is_dir() else source
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    try:
        file = cached_file(where, _SETTINGS)
        settings = json.loads(Path(str(file)).read_text(encoding="utf-8"))
        model, report = transformers.AutoModel.from_pretrained(
            where, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
    except Exception as error:  # the library, and the hub's, raise anything
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"transformers:{source} cannot be loaded ({reason}): give the name or the folder of "
            "a vision model with safetensors"
        ) from None
    return _seeing(model, set(report["missing_keys"]), source), settings


def _seeing(model: Any, missing: set[str], source: str) -> nn.Module:
    """The part that sees, without a pooling that its weights do not know."""
    pooler = {name for name in missing if "pooler." in name}
    if missing - pooler:
        raise UserError(
            f"transformers:{source} has no weights for {min(missing - pooler)}: take a complete "
            "model"
        )
    seeing = getattr(model, "vision_model", model)
    if pooler:  # made up at random
        seeing.pooler = None
    return seeing.float()
