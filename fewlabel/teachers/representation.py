"""What a score model has learned of images, as features that tell classes apart."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from fewlabel.data import Dataset, cache_folder, keep_features, kept_features
from fewlabel.data.dataset import fingerprint_of, rows_at_once, rows_key
from fewlabel.errors import UserError
from fewlabel.networks.weights_key import weights_key
from fewlabel.progress import Task
from fewlabel.score import ScoreModel

__all__ = ["half_whitened", "half_whitening", "representation"]

_FORMAT = 1
_NOISE = 0.2  # σ/(α σ_data) that the network is told
_GRID = 4
_PIXELS = 2**18  # of the images that are looked at together
_MOST = 256
_EXAMPLES = 8192  # by which directions are found
_DIRECTIONS = 128
_NOTHING = 1e-6  # of the greatest variance: rounding

Features = NDArray[np.float32]


def representation(
    score: ScoreModel, dataset: Dataset, indices: NDArray[np.int64], task: Task
) -> Features:
    """What the levels of a UNet's way up hold of each image; of vectors x the x/σ_data.

    The network sees the clean image and is told of a little noise, σ/α = 0.2 σ_data. Each level
    is averaged over a grid of 4 × 4 places and divided by its standard deviation, so that all
    count alike; what is kept of them together are the 128 strongest directions, half whitened.
    That diffusion models learn such features: Xiang et al. 2023, "Denoising Diffusion Autoencoders
    are Unified Self-supervised Learners", arXiv 2303.09769.

    They are kept in the cache, named after the weights, the dataset and the examples.

    Args:
        score: an unconditional score model of images, whose network holds a `model` as diffusers
            builds it; not used for vectors.
        dataset: the data.
        indices: which examples.
        task: shows how many are done.

    Returns:
        (N, F), in the order of the indices.
    """
    if len(dataset.shape) == 1:
        return (dataset.examples(indices) / score.sigma_data).numpy()
    facts = score.process.config(), score.sigma_data
    weights = weights_key(score.network, *facts)
    key = fingerprint_of(_FORMAT, weights, dataset.fingerprint, rows_key(indices))
    path = cache_folder() / "representations" / f"{key}.safetensors"
    kept = kept_features(path)
    if kept is None:
        kept = torch.from_numpy(_computed(score, dataset, indices, task))
        keep_features(path, kept)
    return kept.numpy()


def half_whitened(features: Features) -> Features:
    """The 128 strongest directions of features (N, F) of any scale, half whitened; (N, ≤ 128).

    Raises:
        UserError: if all examples have the same features.
    """
    if not features.std() > 0:
        raise UserError("all examples have the same features: nothing tells them apart")
    features = features / np.float32(features.std())
    return half_whitening(_few(features), _DIRECTIONS)(features)


def half_whitening(features: Features, most: int) -> Callable[[Features], Features]:
    """A map onto the directions of greatest variance in which strong ones are held back.

    Along direction i, of standard deviation s_i, features are divided by √s_i: their spread is
    √s_i then, so that a few directions do not decide alone which examples are neighbours. Those
    of next to no variance are not raised above it.

    Args:
        features: (N, F) to find the directions by.
        most: directions kept.

    Returns:
        What maps (M, F) to (M, min(N, F, most)).
    """
    from sklearn.decomposition import PCA

    kept = min(most, *features.shape)
    components = PCA(kept, svd_solver="randomized", random_state=0).fit(features)
    variances = components.explained_variance_
    scale = np.maximum(variances, _NOTHING * variances.max()) ** 0.25
    return lambda x: (components.transform(x) / scale).astype(np.float32)


def _few(rows: NDArray[Any]) -> NDArray[Any]:
    """Enough of them to find directions by."""
    return rows[:: -(-len(rows) // _EXAMPLES)]


@torch.no_grad()
def _computed(
    score: ScoreModel, dataset: Dataset, indices: NDArray[np.int64], task: Task
) -> Features:
    few = _few(indices)
    all_at_once = len(few) == len(indices)
    done, total = 0, len(indices) if all_at_once else len(few) + len(indices)

    def seen(which: NDArray[np.int64]) -> Iterator[list[Tensor]]:
        nonlocal done
        for levels in _levels(score, dataset, which):
            yield levels
            done += len(levels[0])
            task.set(done, total)

    looks: Iterable[list[Tensor]] = list(seen(few))
    some = [torch.cat(level) for level in zip(*looks, strict=True)]
    spreads = [level.std() for level in some]

    def joined(levels: Sequence[Tensor]) -> Features:
        each = zip(levels, spreads, strict=True)
        return torch.cat([level / spread for level, spread in each], 1).numpy()

    reduce = half_whitening(joined(some), _DIRECTIONS)
    if not all_at_once:
        looks = seen(indices)
    return np.concatenate([reduce(joined(levels)) for levels in looks])


def _levels(
    score: ScoreModel, dataset: Dataset, indices: NDArray[np.int64]
) -> Iterator[list[Tensor]]:
    """Each level of the way up, averaged over a grid, (B, ·), a batch of examples at a time."""
    device = next(score.parameters()).device
    t = score.process.time_at(torch.tensor(_NOISE * score.sigma_data, device=device))
    levels: list[Tensor] = []
    batch = rows_at_once(dataset.shape, _MOST, _PIXELS)

    def keep(module: nn.Module, inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
        hidden = output if isinstance(output, Tensor) else output[0]
        down, across = (min(_GRID, side) for side in hidden.shape[-2:])
        pooled = functional.adaptive_avg_pool2d(hidden, (down, across))
        levels.append(pooled.flatten(1).cpu())

    blocks: nn.ModuleList = score.network.model.up_blocks  # type: ignore[union-attr,assignment]
    handles = [block.register_forward_hook(keep) for block in blocks]
    try:
        for start in range(0, len(indices), batch):
            levels.clear()
            x = dataset.examples(indices[start : start + batch]).to(device)
            score.forward(score.process.alpha(t) * x, t)  # a compiled call would keep the hooks
            yield list(levels)
    finally:
        for handle in handles:
            handle.remove()
