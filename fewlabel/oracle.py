"""Exact mixtures: the data whose answer is known.

For p_0(x) = Σ_c w_c N(x; μ_c, s_c² I) the perturbed density is again a mixture,
p_t(x) = Σ_c w_c N(x; α μ_c, v_c I) with v_c = α² s_c² + σ², so density, scores and posterior are
closed forms at every noise level. Everything is computed with log-sum-exp, nothing is added.

A class is one component or several; a point cloud is a mixture with a component a point, s_c = 0.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fewlabel.batch import labels_of
from fewlabel.errors import UserError
from fewlabel.process import Process, broadcast
from fewlabel.score import ScoreFunction

__all__ = ["GaussianMixture", "point_cloud"]

_CHUNK = 2**21
"""Numbers in the largest intermediate, (B, C, D), for a chunk of x: 16 MB in float64."""

_Rows = Callable[[Tensor, Tensor, Tensor], Tensor]


class GaussianMixture:
    """A mixture of C isotropic Gaussians, each of which belongs to one of K classes.

    Args:
        weights: w_c, (C,), positive; normalised to sum to one.
        means: μ_c, (C, D).
        stds: s_c, (C,), not negative.
        classes: the class of each component, (C,) integers in 0..K−1, each class at least once;
            None if component c is class c.

    Raises:
        UserError: for shapes that do not fit, no component, weights that are not positive and
            finite, negative stds, or classes that are not 0..K−1, each with a component.
    """

    def __init__(
        self, weights: Tensor, means: Tensor, stds: Tensor, classes: Tensor | None = None
    ) -> None:
        weights, means, stds = (torch.as_tensor(v) for v in (weights, means, stds))
        if not means.is_floating_point():
            means = means.to(torch.get_default_dtype())
        if (
            means.dim() != 2
            or not len(means)
            or weights.shape != means.shape[:1]
            or stds.shape != weights.shape
        ):
            raise UserError(
                f"mixture: weights {tuple(weights.shape)}, means {tuple(means.shape)} and stds "
                f"{tuple(stds.shape)} do not fit; they are (C,), (C, D) and (C,)"
            )
        if not ((weights > 0) & weights.isfinite()).all() or not (stds >= 0).all():
            raise UserError("mixture: weights must be positive and finite, stds not negative")
        self.weights, self.means, self.stds = weights / weights.sum(), means, stds
        self.classes = _checked_classes(classes, len(weights))
        self.n_classes = int(self.classes.max()) + 1

    def sample(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Draw n pairs (x0, y): (n, D) and (n,)."""
        c = torch.multinomial(self.weights.cpu(), n, replacement=True, generator=generator)
        noise = torch.randn(n, self.means.shape[1], generator=generator, dtype=self.means.dtype)
        classes = self.classes.cpu()[c].to(self.means.device)
        c, noise = c.to(self.means.device), noise.to(self.means.device)
        return self.means[c] + self.stds[c, None] * noise, classes

    def log_joint(self, process: Process) -> Callable[[Tensor, Tensor], Tensor]:
        """(x, t) → log p_t(x, y) = log Σ_{c in y} w_c N(x; α μ_c, v_c I), (B, K)."""

        def rows(offset: Tensor, variance: Tensor, _: Tensor) -> Tensor:
            of_components = self._log_components(offset, variance)
            if self.n_classes == len(self.weights):
                return of_components[:, self.classes.argsort()]
            of_classes = [
                of_components[:, self.classes == y].logsumexp(-1) for y in range(self.n_classes)
            ]
            return torch.stack(of_classes, -1)

        return lambda x, t: self._in_chunks(rows, x, t, process)

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

        def rows(offset: Tensor, variance: Tensor, _: Tensor) -> Tensor:
            return _pull(self._log_components(offset, variance), offset, variance)

        return lambda x, t: self._in_chunks(rows, x, t, process)

    def class_score(self, process: Process) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        """(x, t, y) → ∇_x log p_t(x|y), (B, D), for labels y of shape () or (B,).

        It raises a `UserError` for a label of no component.
        """

        def rows(offset: Tensor, variance: Tensor, y: Tensor) -> Tensor:
            others = self.classes.to(y.device) != y[:, None]
            if others.all(1).any():
                raise UserError("a label is of no class of the mixture; give classes it has")
            of_class = self._log_components(offset, variance).masked_fill(others, -math.inf)
            return _pull(of_class, offset, variance)

        return lambda x, t, y: self._in_chunks(rows, x, t, process, y)

    def likelihood_score(self, process: Process) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        """(x, t, y) → ∇_x log p_t(y|x) = class score − score, (B, D); see `class_score`."""
        of_class, of_all = self.class_score(process), self.score(process)
        return lambda x, t, y: of_class(x, t, y) - of_all(x, t)

    def _log_components(self, offset: Tensor, variance: Tensor) -> Tensor:
        """The terms log w_c + log N(x; α μ_c, v_c I), (B, C)."""
        square = offset.square().sum(-1)
        log_scale = offset.shape[-1] * torch.log(2 * math.pi * variance)
        return self.weights.log() - (square / variance + log_scale) / 2

    def _in_chunks(
        self, rows: _Rows, x: Tensor, t: Tensor, process: Process, y: Tensor | int = 0
    ) -> Tensor:
        """rows(α μ_c − x, v_c, y) for a few samples at a time, so that (B, C, D) stays small."""
        if x.shape[1:] != self.means.shape[1:]:
            raise UserError(
                f"mixture: points of shape {tuple(x.shape)}, but means have "
                f"{self.means.shape[1]} dimensions; give (B, {self.means.shape[1]})"
            )
        alpha, sigma = (
            broadcast(v(t), x).reshape(-1, 1).expand(len(x), 1)
            for v in (process.alpha, process.sigma)
        )
        labels = labels_of(y, x)
        size = max(1, _CHUNK // self.means.numel())
        parts = []
        for begin in range(0, len(x), size):
            part = slice(begin, begin + size)
            offset = alpha[part, :, None] * self.means - x[part, None, :]
            variance = alpha[part] ** 2 * self.stds**2 + sigma[part] ** 2
            parts.append(rows(offset, variance, labels[part]))
        return torch.cat(parts)


def point_cloud(points: Tensor, labels: Tensor) -> GaussianMixture:
    """The empirical distribution of labelled points, (1/N) Σ_n δ(x − x_n), as a mixture.

    Args:
        points: x_n, (N, D).
        labels: the class of each point, (N,) integers from 0, each class at least once.

    Raises:
        UserError: for shapes that do not fit or a class without a point.
    """
    points = torch.as_tensor(points)
    ones = torch.ones(len(points), dtype=points.dtype, device=points.device)
    return GaussianMixture(ones, points, 0 * ones, labels)


def _checked_classes(classes: Tensor | None, n_components: int) -> Tensor:
    if classes is None:
        return torch.arange(n_components)
    classes = torch.as_tensor(classes)
    if classes.shape != (n_components,) or classes.is_floating_point():
        raise UserError(
            f"mixture: classes {tuple(classes.shape)} ({classes.dtype}) do not fit "
            f"{n_components} components; give one integer for each"
        )
    if classes.min() < 0 or (classes.bincount() == 0).any():
        raise UserError("mixture: classes must be 0..K−1, each with at least one component")
    return classes.long()


def _pull(log_components: Tensor, offset: Tensor, variance: Tensor) -> Tensor:
    """Σ_c r_c (α μ_c − x)/v_c with r = softmax of the components' logarithms, (B, D)."""
    weights = log_components.softmax(-1) / variance
    return (weights[:, None, :] @ offset)[:, 0]
