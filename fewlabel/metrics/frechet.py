"""The Fréchet distance between two sets of features, each summed up as a Gaussian.

d² = ‖μ_R − μ_G‖² + Tr(Σ_R + Σ_G − 2(Σ_R Σ_G)^½).

(Σ_R Σ_G)^½ has the trace Σ_i s_i, where the s_i² are the eigenvalues of Σ_G Σ_R, a symmetric
generalised problem; or, with factors Σ_R = AᵀA and Σ_G = BᵀB, the s_i are the singular values of
A Bᵀ. So no square root of a non-symmetric matrix is needed, and a covariance of deficient rank
(fewer samples than features) costs no accuracy.

Heusel et al. 2017, "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash
Equilibrium", arXiv 1706.08500; Dowson & Landau 1982 for the distance.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import LinAlgError, eigh
from scipy.linalg.blas import dsyrk
from torch import Tensor

from fewlabel.errors import UserError
from fewlabel.metrics.checks import Array, checked_features, finite, refuse_other_width

__all__ = ["GaussianStatistics", "fid", "frechet_distance"]

_EPS = torch.finfo(torch.float64).eps
_TOLERANCE = 1e-8  # of the trace of (Σ_R Σ_G)^½
_ROWS = 1024


class GaussianStatistics:
    """Count, mean and covariance of features that come in batches; float64.

    A batch of m samples with the mean μ_b and the scatter S_b, its sum of squares about μ_b, is
    merged into n samples with μ and S by, where δ = μ_b − μ,

        S ← S + S_b + δδᵀ nm/(n+m),   μ ← μ + δ m/(n+m)

    so that nothing cancels, wherever the mean is (Chan, Golub & LeVeque 1983, "Algorithms for
    computing the sample variance"). It holds F² numbers, whatever the number of samples.

    Attributes:
        count: N, the samples so far.
        mean: (F,), or None before the first batch.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean: Tensor | None = None
        self._scatter = np.zeros((0, 0))  # its lower triangle, 0 above

    def add(self, features: Array) -> "GaussianStatistics":
        """Count in a batch of features (m, F), m ≥ 1, and return the statistics themselves.

        Raises:
            UserError: not two dimensions, no samples, NaN or infinite values, or another F.
        """
        return self._add(checked_features(features, "a batch of", least=1))

    def _add(self, rows: Tensor) -> "GaussianStatistics":
        width = rows.shape[1]
        if self.mean is None:
            self.mean = torch.zeros(width, dtype=torch.float64)
            self._scatter = np.zeros((width, width), order="F")
        if len(self.mean) != width:
            raise UserError(
                f"a batch of features has {width} dimensions, those before {len(self.mean)}: "
                "use the same feature extractor for all"
            )
        for block in rows.split(_ROWS):  # no more of them at a time in float64
            n, m = self.count, len(block)
            summed = np.empty((m + 1, width))  # S_b + δδᵀ nm/(n+m) is summedᵀ summed
            apart = summed[:m]
            apart[:] = block.numpy()
            mean = apart.mean(0)
            apart -= mean
            delta = mean - self.mean.numpy()
            summed[m] = (n * m / (n + m)) ** 0.5 * delta
            self._scatter = dsyrk(1.0, summed.T, 1.0, self._scatter, lower=1, overwrite_c=1)
            self.mean, self.count = self.mean + torch.from_numpy(delta) * (m / (n + m)), n + m
        return self

    def covariance(self) -> Tensor:
        """The unbiased covariance (N−1), (F, F).

        Raises:
            UserError: fewer than two samples.
        """
        if self.count < 2:
            raise UserError(f"{self.count} sample(s): a covariance needs 2 or more")
        lower = torch.from_numpy(self._scatter / (self.count - 1))
        return lower + lower.tril(-1).T


def fid(real: Array | GaussianStatistics, fake: Array | GaussianStatistics) -> float:
    """The Fréchet distance between features of real and of generated images.

    ‖μ_R−μ_G‖² + Tr(Σ_R+Σ_G−2(Σ_RΣ_G)^½), with means and unbiased covariances (N−1) in float64.
    With Inception-v3 features this is the FID of Heusel et al. 2017, arXiv 1706.08500. Its bias
    falls with the number of samples: compare only figures from equally many samples.

    Args:
        real: (N, F) features, N ≥ 2, or what `GaussianStatistics` gathered of them.
        fake: (M, F) features of the same extractor, M ≥ 2, or their statistics.

    Returns:
        The squared distance, in [0, ∞).

    Raises:
        UserError: not two dimensions, fewer than two samples, values that are not finite, or
            different numbers of features.
    """
    mean_r, spread_r = _gaussian(real, "real")
    mean_g, spread_g = _gaussian(fake, "fake")
    refuse_other_width(len(mean_r), len(mean_g))
    return _distance(mean_r, spread_r, mean_g, spread_g)


def frechet_distance(mean_r: Array, cov_r: Array, mean_g: Array, cov_g: Array) -> float:
    """The squared Fréchet distance between the Gaussians N(μ_R, Σ_R) and N(μ_G, Σ_G).

    ‖μ_R−μ_G‖² + Tr(Σ_R+Σ_G−2(Σ_RΣ_G)^½), in float64 (Dowson & Landau 1982; arXiv 1706.08500).

    Args:
        mean_r: (F,).
        cov_r: (F, F), symmetric and positive semi-definite.
        mean_g: (F,).
        cov_g: (F, F), symmetric and positive semi-definite.

    Returns:
        The squared distance, in [0, ∞).

    Raises:
        UserError: shapes that do not agree, values that are not finite, or a matrix that is no
            covariance.
    """
    means = _float64(mean_r, "mean_r"), _float64(mean_g, "mean_g")
    covariances = _float64(cov_r, "cov_r"), _float64(cov_g, "cov_g")
    n = means[0].numel()
    if any(mean.shape != (n,) for mean in means) or any(c.shape != (n, n) for c in covariances):
        shapes = ", ".join(str(tuple(a.shape)) for a in (*means, *covariances))
        raise UserError(f"means and covariances have shapes {shapes}: give (F,) and (F, F)")
    for covariance, name in zip(covariances, ("cov_r", "cov_g"), strict=True):
        _refuse_no_covariance(covariance, name)
    return _distance(means[0], _Spread(covariances[0], 1), means[1], _Spread(covariances[1], 1))


@dataclass(frozen=True)
class _Spread:
    """n times a covariance Σ, (F, F), read below its diagonal; or A with AᵀA = nΣ if smaller."""

    matrix: Tensor
    n: int
    is_factor: bool = False

    def trace(self) -> Tensor:
        """Tr Σ."""
        total = self.matrix.square().sum() if self.is_factor else self.matrix.trace()
        return total / self.n

    def factor(self) -> Tensor:
        """An A with AᵀA = nΣ."""
        return self.matrix if self.is_factor else _factor(self.matrix)


def _distance(mean_r: Tensor, spread_r: _Spread, mean_g: Tensor, spread_g: _Spread) -> float:
    cross = None
    if not (spread_r.is_factor or spread_g.is_factor):
        cross = _sum_of_roots(spread_r.matrix, spread_g.matrix)
    if cross is None:
        cross = _sum_of_singular_values(spread_r.factor() @ spread_g.factor().T)
    cross = cross / (spread_r.n * spread_g.n) ** 0.5
    distance = (mean_r - mean_g).square().sum() + spread_r.trace() + spread_g.trace() - 2 * cross
    return max(0.0, distance.item())


def _sum_of_roots(matrix_r: Tensor, matrix_g: Tensor) -> Tensor | None:
    """Σ_i s_i by the eigenvalues s_i² of Σ_G Σ_R; None where that is not accurate enough."""
    a, b = matrix_g.numpy(), matrix_r.numpy()
    try:
        squares = eigh(a, b, type=2, eigvals_only=True, driver="gv", check_finite=False)
    except LinAlgError:  # Σ_R is of deficient rank
        return None
    return _accurate_sum(torch.from_numpy(squares))


def _sum_of_singular_values(product: Tensor) -> Tensor:
    """Σ_i s_i, by the eigenvalues s_i² of the Gram matrix where that is accurate enough.

    They take half the time or less.
    """
    if not product.numel():  # a covariance of rank 0
        return product.new_zeros(())
    wide = product if len(product) <= product.shape[1] else product.T
    array = wide.numpy()  # NumPy sees the symmetry: half the work
    squares = torch.linalg.eigvalsh(torch.from_numpy(array @ array.T))
    found = _accurate_sum(squares)
    return torch.linalg.svdvals(wide).sum() if found is None else found


def _accurate_sum(squares: Tensor) -> Tensor | None:
    """Σ_i s_i of computed s_i²; None where their rounding could show.

    An error of ε s_max² in s² is one of ε s_max²/2s in s, or of √ε s_max where s is smaller.
    """
    values, rounding = squares.clamp_min(0.0).sqrt(), _EPS * squares.max()
    lost = squares <= rounding
    error = lost.sum() * rounding.sqrt() + (rounding / (2 * values[~lost])).norm()
    return values.sum() if error <= _TOLERANCE * values.sum() else None


def _gaussian(features: Array | GaussianStatistics, name: str) -> tuple[Tensor, _Spread]:
    """The mean (F,) and the unbiased covariance."""
    if not isinstance(features, GaussianStatistics):
        rows = checked_features(features, name)
        if len(rows) <= rows.shape[1]:  # no need of an (F, F) matrix
            mean = rows.mean(0, dtype=torch.float64)
            return mean, _Spread(_contrasts(rows - mean), len(rows) - 1, is_factor=True)
        features = GaussianStatistics()._add(rows)
    if features.mean is None or features.count < 2:
        raise UserError(f"{name} features: {features.count} sample(s): give at least 2")
    return features.mean, _Spread(torch.from_numpy(features._scatter), features.count - 1)


def _contrasts(centred: Tensor) -> Tensor:
    """N − 1 rows with the same AᵀA as N rows whose sum is 0, (N−1, F).

    The Householder reflection that takes (1, ..., 1) to the first axis leaves nothing there, so
    that the singular value of 0 that centring makes is gone.
    """
    return centred[1:] + centred[0] / (len(centred) ** 0.5 - 1)


def _refuse_no_covariance(covariance: Tensor, name: str) -> None:
    """Raise a `UserError` if a user's matrix is no covariance."""
    size = covariance.abs().max()
    if not torch.allclose(covariance, covariance.T, rtol=0.0, atol=1e-8 * size.item()):
        raise UserError(f"{name} is not symmetric: give a covariance matrix")
    lowest = torch.linalg.eigvalsh(covariance)[0]
    if lowest < -1e-8 * size:
        raise UserError(f"{name} has the negative eigenvalue {lowest:.3g}: give a covariance")


def _factor(covariance: Tensor) -> Tensor:
    """A with AᵀA = the covariance: Cholesky's, or of its eigenvectors where rank is deficient.

    An eigenvalue that could be rounding alone counts as 0: its root would not be small.
    """
    factor, failed = torch.linalg.cholesky_ex(covariance)
    rounding = len(covariance) * _EPS
    pivots, variances = factor.diagonal().square(), covariance.diagonal()
    if not failed and bool((pivots > rounding * variances).all()):
        return factor.T
    values, vectors = torch.linalg.eigh(covariance)
    kept = values > rounding * values[-1]
    return values[kept].sqrt()[:, None] * vectors.T[kept]


def _float64(array: Array, name: str) -> Tensor:
    return finite(torch.as_tensor(array).detach().to("cpu", torch.float64), name)
