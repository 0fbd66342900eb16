"""A name for the weights of a network."""

import hashlib
import json

import torch
from torch import Tensor, nn

__all__ = ["weights_key"]


def weights_key(module: nn.Module, *facts: object) -> str:
    """A hash of a module's weights, of how its parts are called, and of facts that JSON can hold.

    Equal on every machine for equal weights. What `forward` does beyond that is not in it.
    """
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps([type(module).__qualname__, repr(module), facts]).encode())
    for name, value in module.state_dict().items():
        if isinstance(value, Tensor):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
