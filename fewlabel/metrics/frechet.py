"""The Fréchet distance between two sets of features, each summed up as a Gaussian.

d² = ‖μ_R − μ_G‖² + Tr(Σ_R + Σ_G − 2(Σ_R Σ_G)^½).

With factors Σ_R = AᵀA and Σ_G = BᵀB, (Σ_R Σ_G)^½ has the trace Σ_i s_i(A Bᵀ), the sum of singular
values. So no square root of a non-symmetric matrix is needed, and a covariance of deficient rank
(fewer samples than features) costs no accuracy.

Heusel et al. 2017, "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash
Equilibrium", arXiv 1706.08500; Dowson & Landau 1982 for the distance.
"""

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from fewlabel.errors import UserError

__all__ = ["Array", "fid", "frechet_distance"]

Array = Tensor | NDArray[Any]
"""What a metric accepts: a tensor on any device, or a NumPy array."""


def fid(real: Array, fake: Array) -> float:
    """The Fréchet distance between features of real and of generated images.

    ‖μ_R−μ_G‖² + Tr(Σ_R+Σ_G−2(Σ_RΣ_G)^½), with means and unbiased covariances (N−1) in float64.
    With Inception-v3 features this is the FID of Heusel et al. 2017, arXiv 1706.08500. Its bias
    falls with the number of samples: compare only figures from equally many samples.

    Args:
        real: (N, F) features, N ≥ 2.
        fake: (M, F) features of the same extractor, M ≥ 2.

    Returns:
        The squared distance, in [0, ∞).

    Raises:
        UserError: not two dimensions, fewer than two samples, values that are not finite, or
            different numbers of features.
    """
    real, fake = _features(real, "real"), _features(fake, "fake")
    if real.shape[1] != fake.shape[1]:
        raise UserError(
            f"real features have {real.shape[1]} dimensions and fake ones {fake.shape[1]}: "
            "use the same feature extractor for both"
        )
    return _distance(real.mean(0), _sample_factor(real), fake.mean(0), _sample_factor(fake))


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
    cross = torch.linalg.svdvals(factor_r @ factor_g.T).sum()
    traces = factor_r.square().sum() + factor_g.square().sum()
    distance = (mean_r - mean_g).square().sum() + traces - 2 * cross
    return max(0.0, distance.item())


def _sample_factor(features: Tensor) -> Tensor:
    """A with AᵀA = the unbiased covariance; (min(N, F), F)."""
    centred = (features - features.mean(0)) / (len(features) - 1) ** 0.5
    if len(centred) <= centred.shape[1]:
        return centred
    return torch.linalg.qr(centred, mode="r").R


def _covariance_factor(covariance: Tensor, name: str) -> Tensor:
    """A with AᵀA = the covariance; (F, F)."""
    size = covariance.abs().max()
    if not torch.allclose(covariance, covariance.T, rtol=0.0, atol=1e-8 * size.item()):
        raise UserError(f"{name} is not symmetric: give a covariance matrix")
    values, vectors = torch.linalg.eigh(covariance)
    if values.min() < -1e-8 * size:
        raise UserError(
            f"{name} has the negative eigenvalue {values.min():.3g}: give a covariance"
        )
    rounding = len(values) * torch.finfo(values.dtype).eps * size
    values = torch.where(values > rounding, values, 0.0)
    return values.sqrt()[:, None] * vectors.T


def _features(features: Array, name: str) -> Tensor:
    array = _float64(features, f"{name} features")
    if array.ndim != 2:
        raise UserError(f"{name} features have shape {tuple(array.shape)}: give (N, F)")
    if len(array) < 2:
        raise UserError(f"{name} features: {len(array)} sample(s), a covariance needs 2 or more")
    return array


def _float64(array: Array, name: str) -> Tensor:
    tensor = torch.as_tensor(array).detach().to("cpu", torch.float64)
    if tensor.numel() == 0:
        raise UserError(f"{name}: empty, shape {tuple(tensor.shape)}: give at least 2 samples")
    if not tensor.isfinite().all():
        bad = int((~tensor.isfinite()).sum())
        raise UserError(f"{name}: {bad} value(s) are NaN or infinite: check images and extractor")
    return tensor
