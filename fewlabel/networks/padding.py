"""Padding of images to sizes that a network divides."""

import torch
from torch import Tensor

__all__ = ["padded"]


def padded(u: Tensor, multiple: int) -> Tensor:
    """Reflect images (B, C, H, W) at the right and bottom until `multiple` divides their sides.

    Where the padding is longer than the image it is reflected again; one pixel is repeated.
    """
    for dim in (2, 3):
        size = u.shape[dim]
        if size % multiple:
            period = max(2 * (size - 1), 1)
            places = torch.arange(size + -size % multiple, device=u.device) % period
            u = u.index_select(dim, torch.minimum(places, period - places))
    return u
