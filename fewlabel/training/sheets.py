"""Sheets of samples while a score model trains, to see how far it is."""

from pathlib import Path

import torch

from fewlabel import guidance, samplers
from fewlabel.pictures.grid import image_grid
from fewlabel.pictures.scatter import scatter
from fewlabel.score import ScoreModel

__all__ = ["draw_sheet"]

_IMAGES = 16
_POINTS = 512
_STEPS = 12


def draw_sheet(
    model: ScoreModel, shape: tuple[int, ...], path: Path, seed: int, classes: int = 0
) -> Path:
    """Draw a few samples of a score model: a grid of 16 images, or 512 points.

    The same seed gives the same noise, so that sheets of different steps show one picture coming
    out. It costs about as much as 12 × 16 / (3 × batch) training steps.

    Args:
        model: the model with averaged weights.
        shape: the shape of one example.
        path: the PNG file to write.
        seed: fixes the noise.
        classes: of a conditional model, how many there are: they are drawn in turn.
    """
    n = _POINTS if len(shape) == 1 else _IMAGES
    device = next(model.parameters()).device
    labels = torch.arange(n, device=device) % classes if classes else None
    score = model if labels is None else guidance.conditional(model, labels)
    with torch.no_grad():
        x = samplers.sample(
            score, model.process, (n, *shape), steps=_STEPS, seed=seed, device=device
        )
    x, title = x.cpu(), path.stem.replace("-", " ")
    if len(shape) == 1:
        return scatter({"samples": x}, path, title)
    return image_grid(x.clamp(-1, 1), path, title)
