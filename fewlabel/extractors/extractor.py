"""Feature extractors: what turns images into the vectors between which distances are measured.

An extractor is anything with a name, a key and `read`: the judge, or a `NetworkExtractor` around
the Inception network, a model of the transformers library or a module of the user's. Figures of
different extractors measure different things and must not be compared.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from fewlabel.data import Dataset
from fewlabel.data.dataset import Indices
from fewlabel.errors import UserError
from fewlabel.networks.weights_key import weights_key

__all__ = ["Extractor", "NetworkExtractor", "in_parts", "module_extractor"]

_BATCH = 32
_ROWS = 128  # examples of a dataset that are held in memory


class Extractor(Protocol):
    """What makes features of images.

    Attributes:
        name: what a report calls it.
        key: a hash of its weights and of what is done to an image before they see it.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def key(self) -> str: ...  # noqa: D102

    def read(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features and verdicts, in batches of its own.

        Args:
            images: (N, C, H, W) in [−1, 1], or vectors (N, D).

        Returns:
            Features (N, F), float32, and log-probabilities (N, K) of the extractor's own
            classes, or None if it has none; both on the CPU.

        Raises:
            UserError: for images that it cannot read, or features that are not finite.
        """
        ...


@dataclass(frozen=True)
class NetworkExtractor:
    """An extractor around a network; see `Extractor`.

    Attributes:
        name: what a report calls it.
        key: a hash of its weights and of what is done to an image before they see it.
        network: takes (n, C, H, W) in [−1, 1]; gives features (n, F), or (n, F, h, w) of which
            the mean over places is taken, or a pair of these and log-probabilities (n, K).
        device: where it computes.
    """

    name: str
    key: str
    network: Callable[[Tensor], Tensor | tuple[Tensor, Tensor]] = field(repr=False)
    device: str | torch.device = "cpu"

    @torch.no_grad()
    def read(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features (N, F) and log-probabilities (N, K), or None; see `Extractor.read`."""
        features, log_probs = [], []
        for x in images.split(_BATCH):
            of_batch, own = self._batch(x)
            features.append(of_batch)
            if own is not None:
                log_probs.append(own)
        return torch.cat(features), torch.cat(log_probs) if log_probs else None

    def _batch(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        try:
            found = self.network(x.to(self.device))
        except (RuntimeError, ValueError) as error:
            reason = str(error).split("\n")[0]
            raise UserError(
                f"extractor {self.name} cannot read images of shape {tuple(x.shape[1:])} "
                f"({reason}): choose another, or bring the images to its form in its forward"
            ) from error
        features, own = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
        if isinstance(features, Tensor) and features.ndim == 4:
            features = features.mean((2, 3))
        for name, value in (("features", features), ("log-probabilities", own)):
            if value is not None or name == "features":
                _check(value, len(x), f"extractor {self.name}: {name}")
        return features.float().cpu(), None if own is None else own.float().cpu()


def module_extractor(module: nn.Module, name: str | None = None) -> NetworkExtractor:
    """An extractor of a module's output, which is a copy of the module in evaluation mode.

    Its key is the hash of its weights and of how its parts are called.

    Args:
        module: takes images (n, C, H, W) in [−1, 1] on the device of its weights, and gives what
            `NetworkExtractor.network` does.
        name: what a report calls it; by default the class and the first digits of the key.
    """
    still = copy.deepcopy(module).eval().requires_grad_(False)
    key = weights_key(still)
    first = next(still.parameters(), None)
    device = "cpu" if first is None else first.device
    return NetworkExtractor(name or f"{type(module).__name__}-{key[:8]}", key, still, device)


def in_parts(dataset: Dataset, indices: Indices) -> Iterator[Tensor]:
    """Examples of a dataset, part by part, so that few of them are in memory at a time."""
    for start in range(0, len(indices), _ROWS):
        yield dataset.examples(indices[start : start + _ROWS])


def _check(value: object, n: int, what: str) -> None:
    """Raise unless the value is (n, F) and finite."""
    if not isinstance(value, Tensor):
        raise UserError(f"{what} are a {type(value).__name__}: give a tensor (n, F)")
    if value.ndim != 2 or len(value) != n or not value.shape[1]:
        raise UserError(
            f"{what} of {n} images have shape {tuple(value.shape)}: give (n, F) or (n, F, h, w)"
        )
    if not value.isfinite().all():
        raise UserError(
            f"{what} hold NaN or infinite values: check its weights and the images, which are in "
            "[−1, 1]"
        )
