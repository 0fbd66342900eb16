"""Exact mixtures: the data whose answer is known.

For p_0(x) = Σ_k w_k N(x; μ_k, s_k² I) the perturbed density is again a mixture,
p_t(x) = Σ_k w_k N(x; α μ_k, v_k I) with v_k = α² s_k² + σ², so density, scores and posterior are
closed forms at every noise level. Everything is computed with log-sum-exp, nothing is added.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fewlabel.errors import UserError
from fewlabel.process import Process, broadcast
from fewlabel.score import ScoreFunction

__all__ = ["GaussianMixture"]


class GaussianMixture:
    """A mixture of isotropic Gaussians whose component k is class k.

    Args:
        weights: w_k, (K,), positive; normalised to sum to one.
        means: μ_k, (K, D).
        stds: s_k, (K,), not negative.

    Raises:
        UserError: for shapes that do not fit, or weights that are not positive.
    """

    def __init__(self, weights: Tensor, means: Tensor, stds: Tensor) -> None:
        weights, means, stds = (torch.as_tensor(v) for v in (weights, means, stds))
        if means.dim() != 2 or weights.shape != means.shape[:1] or stds.shape != weights.shape:
            raise UserError(
                f"mixture: weights {tuple(weights.shape)}, means {tuple(means.shape)} and stds "
                f"{tuple(stds.shape)} do not fit; they are (K,), (K, D) and (K,)"
            )
        if not (weights > 0).all() or (stds < 0).any():
            raise UserError("mixture: weights must be positive and stds not negative")
        self.weights, self.means, self.stds = weights / weights.sum(), means, stds

    def sample(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Draw n pairs (x0, y): (n, D) and (n,)."""
        y = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        noise = torch.randn(n, self.means.shape[1], generator=generator, dtype=self.means.dtype)
        return self.means[y] + self.stds[y, None] * noise, y

    def log_joint(self, process: Process) -> Callable[[Tensor, Tensor], Tensor]:
        """(x, t) → log w_k + log N(x; α μ_k, v_k I), (B, K)."""

        def function(x: Tensor, t: Tensor) -> Tensor:
            offset, variance = self._components(x, t, process)
            square = offset.square().sum(-1)
            log_normal = -(square / variance + x.shape[1] * torch.log(2 * math.pi * variance)) / 2
            return self.weights.log() + log_normal

        return function

    def log_density(self, process: Process) -> Callable[[Tensor, Tensor], Tensor]:
        """(x, t) → log p_t(x), (B,)."""
        joint = self.log_joint(process)
        return lambda x, t: joint(x, t).logsumexp(-1)

    def log_posterior(self, process: Process) -> Callable[[Tensor, Tensor], Tensor]:
        """(x, t) → log p_t(y|x) for every class, (B, K)."""
        joint = self.log_joint(process)
        return lambda x, t: joint(x, t).log_softmax(-1)

    def score(self, process: Process) -> ScoreFunction:
        """(x, t) → ∇_x log p_t(x), (B, D)."""
        posterior = self.log_posterior(process)

        def function(x: Tensor, t: Tensor) -> Tensor:
            offset, variance = self._components(x, t, process)
            pulls = offset / variance[..., None]
            return (posterior(x, t).exp()[..., None] * pulls).sum(1)

        return function

    def class_score(self, process: Process) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        """(x, t, y) → ∇_x log p_t(x|y), (B, D), for labels y of shape () or (B,)."""

        def function(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
            offset, variance = self._components(x, t, process)
            rows = torch.arange(len(x), device=x.device)
            y = torch.as_tensor(y, device=x.device).expand(len(x))
            return offset[rows, y] / variance.expand(len(x), -1)[rows, y, None]

        return function

    def likelihood_score(self, process: Process) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        """(x, t, y) → ∇_x log p_t(y|x) = class score − score, (B, D)."""
        of_class, of_all = self.class_score(process), self.score(process)
        return lambda x, t, y: of_class(x, t, y) - of_all(x, t)

    def _components(self, x: Tensor, t: Tensor, process: Process) -> tuple[Tensor, Tensor]:
        """α μ_k − x, (B, K, D), and v_k, (B, K) or (1, K)."""
        alpha, sigma = (broadcast(v(t), x).reshape(-1, 1) for v in (process.alpha, process.sigma))
        variance = alpha**2 * self.stds**2 + sigma**2
        return alpha[..., None] * self.means - x[:, None, :], variance
