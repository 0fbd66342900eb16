"""Padding of images to sizes that a network divides."""

from torch import Tensor
from torch.nn import functional

__all__ = ["padded"]


def padded(u: Tensor, multiple: int) -> Tensor:
    """Reflect images (B, C, H, W) at the right and bottom until `multiple` divides their sides."""
    height, width = u.shape[-2:]
    padding = (0, -width % multiple, 0, -height % multiple)
    return functional.pad(u, padding, mode="reflect") if any(padding) else u
