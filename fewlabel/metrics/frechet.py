"""The Fréchet distance between two sets of features, each summed up as a Gaussian.

d² = ‖μ_R − μ_G‖² + Tr(Σ_R + Σ_G − 2(Σ_R Σ_G)^½).

With factors Σ_R = AᵀA and Σ_G = BᵀB, (Σ_R Σ_G)^½ has the trace Σ_i s_i(A Bᵀ), the sum of singular
values. So no square root of a non-symmetric matrix is needed, and a covariance of deficient rank
(fewer samples than features) costs no accuracy.

Heusel et al. 2017, "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash
Equilibrium", arXiv 1706.08500; Dowson & Landau 1982 for the distance.
"""

import torch
from torch import Tensor

from fewlabel.errors import UserError
from fewlabel.metrics.checks import Array, checked_features, finite, refuse_other_width

__all__ = ["GaussianStatistics", "fid", "frechet_distance"]

_EPS = torch.finfo(torch.float64).eps
_TOLERANCE = 1e-8  # of the trace of (Σ_R Σ_G)^½


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
        self._scatter: Tensor | None = None

    def add(self, features: Array) -> "GaussianStatistics":
        """Count in a batch of features (m, F), m ≥ 1, and return the statistics themselves.

        Raises:
            UserError: not two dimensions, no samples, NaN or infinite values, or another F.
        """
        rows = checked_features(features, "a batch of", least=1)
        mean = rows.mean(0, dtype=torch.float64)
        centred = (rows - mean).numpy()
        scatter = torch.from_numpy(centred.T @ centred)  # NumPy sees the symmetry: half the work
        if self.mean is None or self._scatter is None:
            self.count, self.mean, self._scatter = len(rows), mean, scatter
            return self
        if mean.shape != self.mean.shape:
            raise UserError(
                f"a batch of features has {len(mean)} dimensions, those before {len(self.mean)}: "
                "use the same feature extractor for all"
            )
        delta, n = mean - self.mean, self.count + len(rows)
        self._scatter += scatter.addr_(delta, delta, alpha=self.count * len(rows) / n)
        self.mean = self.mean + delta * (len(rows) / n)
        self.count = n
        return self

    def covariance(self) -> Tensor:
        """The unbiased covariance (N−1), (F, F).

        Raises:
            UserError: fewer than two samples.
        """
        if self._scatter is None or self.count < 2:
            raise UserError(f"{self.count} sample(s): a covariance needs 2 or more")
        return self._scatter / (self.count - 1)


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
    mean_r, factor_r = _gaussian(real, "real")
    mean_g, factor_g = _gaussian(fake, "fake")
    refuse_other_width(len(mean_r), len(mean_g))
    return _distance(mean_r, factor_r, mean_g, factor_g)


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
    factor_r = _covariance_factor(covariances[0], "cov_r")
    factor_g = _covariance_factor(covariances[1], "cov_g")
    return _distance(means[0], factor_r, means[1], factor_g)


def _distance(mean_r: Tensor, factor_r: Tensor, mean_g: Tensor, factor_g: Tensor) -> float:
    traces = factor_r.square().sum() + factor_g.square().sum()
    cross = _sum_of_singular_values(factor_r @ factor_g.T)
    distance = (mean_r - mean_g).square().sum() + traces - 2 * cross
    return max(0.0, distance.item())


def _sum_of_singular_values(product: Tensor) -> Tensor:
    """Σ_i s_i, by the eigenvalues s_i² of the Gram matrix where that is accurate enough.

    They take half the time or less, but an error of ε s_max² in s² is one of ε s_max²/2s in s,
    or of √ε s_max where s is smaller than that.
    """
    if not product.numel():  # a covariance of rank 0
        return product.new_zeros(())
    wide = product if len(product) <= product.shape[1] else product.T
    array = wide.numpy()
    squares = torch.linalg.eigvalsh(torch.from_numpy(array @ array.T)).clamp_min(0.0)
    values, rounding = squares.sqrt(), _EPS * squares.max()
    lost = squares <= rounding
    error = lost.sum() * rounding.sqrt() + (rounding / (2 * values[~lost])).norm()
    return values.sum() if error <= _TOLERANCE * values.sum() else torch.linalg.svdvals(wide).sum()


def _gaussian(features: Array | GaussianStatistics, name: str) -> tuple[Tensor, Tensor]:
    """The mean (F,) and an A with AᵀA = the unbiased covariance, (≤ F, F)."""
    if not isinstance(features, GaussianStatistics):
        rows = checked_features(features, name)
        if len(rows) <= rows.shape[1]:  # no need of an (F, F) matrix
            mean = rows.mean(0, dtype=torch.float64)
            return mean, _contrasts(rows - mean) / (len(rows) - 1) ** 0.5
        features = GaussianStatistics().add(rows)
    if features.mean is None or features.count < 2:
        raise UserError(f"{name} features: {features.count} sample(s): give at least 2")
    return features.mean, _factor(features.covariance())


def _contrasts(centred: Tensor) -> Tensor:
    """N − 1 rows with the same AᵀA as N rows whose sum is 0, (N−1, F).

    The Householder reflection that takes (1, ..., 1) to the first axis leaves nothing there, so
    that the singular value of 0 that centring makes is gone.
    """
    return centred[1:] + centred[0] / (len(centred) ** 0.5 - 1)


def _covariance_factor(covariance: Tensor, name: str) -> Tensor:
    """A with AᵀA = the covariance of a user; (≤ F, F)."""
    size = covariance.abs().max()
    if not torch.allclose(covariance, covariance.T, rtol=0.0, atol=1e-8 * size.item()):
        raise UserError(f"{name} is not symmetric: give a covariance matrix")
    lowest = torch.linalg.eigvalsh(covariance)[0]
    if lowest < -1e-8 * size:
        raise UserError(f"{name} has the negative eigenvalue {lowest:.3g}: give a covariance")
    return _factor(covariance)


def _factor(covariance: Tensor) -> Tensor:
    """A with AᵀA = the covariance: Cholesky's, or of its eigenvectors where rank is deficient.

    An eigenvalue that could be rounding alone counts as 0: its root would not be small.
    """
    factor, failed = torch.linalg.cholesky_ex(covariance, upper=True)
    rounding = len(covariance) * _EPS
    pivots, variances = factor.diagonal().square(), covariance.diagonal()
    if not failed and bool((pivots > rounding * variances).all()):
        return factor
    values, vectors = torch.linalg.eigh(covariance)
    kept = values > rounding * values[-1]
    return values[kept].sqrt()[:, None] * vectors.T[kept]


def _float64(array: Array, name: str) -> Tensor:
    return finite(torch.as_tensor(array).detach().to("cpu", torch.float64), name)
