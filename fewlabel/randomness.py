"""Random numbers that depend on what they are for, not on what was drawn before.

Training: the draws of a step come from (seed, step), so a resumed run needs no generator state.
Each stage of a run has a seed of its own, `seed_of("stage", seed, stage)`. The draws are made for
the whole global batch and each process keeps its own rows, so the number of processes does not
change them (but for dropout, of which each process draws its own). Sampling: the draws of a sample
come from (seed, its index), so the batch size does not change them.
Everything is drawn on the CPU, so the device does not either.
"""

import hashlib
import operator
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

__all__ = ["SampleRandom", "StepRandom", "generator_for", "seed_of", "seeded"]


def generator_for(*key: int | str) -> torch.Generator:
    """A CPU generator that is a function of the key alone.

    Raises:
        TypeError: for a part of the key that is neither text nor an integer.
    """
    plain = tuple(part if isinstance(part, str) else operator.index(part) for part in key)
    digest = hashlib.blake2b(repr(plain).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def seed_of(*key: int | str) -> int:
    """A seed that is a function of the key alone, such as that of a stage of a run.

    Raises:
        TypeError: for a part of the key that is neither text nor an integer.
    """
    return generator_for(*key).initial_seed()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within the block PyTorch's own generator, by which weights begin, is as after this seed."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


class StepRandom:
    """The random numbers of one training step, one row for each example of this process.

    Args:
        seed: the seed of the run.
        step: the training step.
        purpose: what the numbers are for; other purposes draw independent numbers.
        rank: index of this process.
        world: number of processes.
    """

    def __init__(
        self, seed: int, step: int, purpose: str = "", rank: int = 0, world: int = 1
    ) -> None:
        self._generator = generator_for("step", seed, step, purpose)
        self._rank, self._world = rank, world

    def normal_like(self, x: Tensor) -> Tensor:
        """Standard normal numbers, shaped like x."""
        noise = torch.randn(len(x) * self._world, *x.shape[1:], generator=self._generator)
        return self._own_rows(noise, x)

    def quantiles_like(self, x: Tensor) -> Tensor:
        """Stratified uniform numbers in (0, 1), one a row of x, in random order; (B,).

        x is float32 or float64: in others the largest numbers would be 1.
        One number falls in each of the global batch's equal strata; each alone is uniform.
        """
        n = len(x) * self._world
        strata = torch.randperm(n, generator=self._generator)
        jitter = torch.rand(n, generator=self._generator, dtype=torch.float64)
        quantiles = (strata + jitter.clamp(1e-6, 1 - 1e-6)) / n
        return self._own_rows(quantiles.float().clamp(1e-6, 1 - 1e-6), x)

    def distinct_like(self, x: Tensor, n: int) -> Tensor:
        """One of 0, …, n − 1 a row of x, no two alike in a global batch of at most n; (B,)."""
        rounds = -(-len(x) * self._world // n)
        chosen = [torch.randperm(n, generator=self._generator) for _ in range(rounds)]
        return self._of_rank(torch.cat(chosen), x)

    def _own_rows(self, values: Tensor, x: Tensor) -> Tensor:
        return self._of_rank(values, x).to(x.dtype if x.is_floating_point() else torch.float32)

    def _of_rank(self, values: Tensor, x: Tensor) -> Tensor:
        return values[self._rank * len(x) : (self._rank + 1) * len(x)].to(x.device)


class SampleRandom:
    """The random numbers of a batch of samples, each with a generator of its own.

    Args:
        seed: the seed of the request.
        indices: the index of each sample in the request.
        purpose: what the numbers are for; other purposes draw independent numbers.
    """

    def __init__(self, seed: int, indices: Sequence[int], purpose: str = "sample") -> None:
        self._generators = [generator_for(purpose, seed, index) for index in indices]

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Standard normal numbers, (number of samples, *shape), float32 on the CPU."""
        return torch.stack([torch.randn(*shape, generator=g) for g in self._generators])

    def normal_like(self, x: Tensor) -> Tensor:
        """Standard normal numbers, shaped like x, one row a sample."""
        return self.normal(x.shape[1:]).to(x)
