import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor, nn

from fewlabel.errors import UserError
from fewlabel.metrics import GaussianStatistics, fid, frechet_distance


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def covariance(n: int, seed: int) -> Tensor:
    a = normal(n, n, seed=seed)
    return a @ a.T / n + 0.1 * torch.eye(n, dtype=torch.float64)


def by_sqrtm(mean_r: Tensor, cov_r: Tensor, mean_g: Tensor, cov_g: Tensor) -> float:
    root = np.real(sqrtm(cov_r.numpy() @ cov_g.numpy()))
    shift = (mean_r - mean_g).square().sum().item()
    return shift + float(torch.trace(cov_r) + torch.trace(cov_g)) - 2 * float(np.trace(root))


def test_commuting_covariances_have_the_closed_form() -> None:
    a, b = torch.tensor([1.0, 4.0, 9.0]), torch.tensor([16.0, 1.0, 0.0])
    shift = torch.tensor([1.0, -2.0, 0.5])
    expected = 5.25 + ((a.sqrt() - b.sqrt()) ** 2).sum().item()
    distance = frechet_distance(shift, torch.diag(a), torch.zeros(3), torch.diag(b))
    assert distance == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("n", [2, 5, 30])
def test_non_commuting_covariances_agree_with_scipy(n: int) -> None:
    gaussians = normal(n, seed=1), covariance(n, 2), normal(n, seed=3), covariance(n, 4)
    assert frechet_distance(*gaussians) == pytest.approx(by_sqrtm(*gaussians), abs=1e-8)


@pytest.mark.parametrize("lowest", [1e-1, 1e-4, 1e-8])
@pytest.mark.parametrize("rank", [40, 25])
def test_wide_spectra_and_deficient_rank_keep_the_closed_form(lowest: float, rank: int) -> None:
    """Covariances of the same eigenvectors and of known eigenvalues."""
    rotation = torch.linalg.qr(normal(40, 40, seed=20)).Q
    a = torch.logspace(0, np.log10(lowest), 40, dtype=torch.float64)
    b = a.roll(7).where(torch.arange(40) < rank, 0.0)
    covariances = [rotation @ torch.diag(v) @ rotation.T for v in (a, b)]
    zeros = torch.zeros(40)
    distance = frechet_distance(zeros, covariances[0], zeros, covariances[1])
    assert distance == pytest.approx((a.sqrt() - b.sqrt()).square().sum().item(), abs=1e-8)


def test_features_of_very_different_scales() -> None:
    """Σ s_i of independent features, whose variances differ by 1e12, is that of each."""
    real = torch.linalg.qr(normal(50, 8, seed=21) - normal(50, 8, seed=21).mean(0)).Q
    scales = torch.logspace(-6, 0, 8, dtype=torch.float64)
    other = scales.flip(0)
    expected = ((scales - other).square().sum() / 49).item()
    assert fid(real * scales, real * other) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("sizes", [(500,), (1, 99, 300, 100), (250, 250)])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_statistics_of_batches_are_those_of_all(sizes: tuple[int, ...], offset: float) -> None:
    real, fake = normal(500, 20, seed=22) + offset, normal(400, 20, seed=23) * 1.2 + offset
    streamed = GaussianStatistics()
    for batch in real.split(sizes):
        streamed.add(batch)
    assert streamed.count == 500
    torch.testing.assert_close(streamed.mean, real.mean(0), rtol=1e-12, atol=1e-12)
    centred = real - offset  # exact up to the rounding of real itself
    torch.testing.assert_close(streamed.covariance(), torch.cov(centred.T), rtol=1e-10, atol=1e-11)
    assert fid(streamed, fake) == pytest.approx(fid(real, fake), rel=1e-10)
    assert fid(fake, streamed) == pytest.approx(fid(streamed, fake), rel=1e-12)


def test_statistics_of_fewer_samples_than_features() -> None:
    real, fake = normal(30, 50, seed=24), normal(20, 50, seed=25) + 1
    streams = [GaussianStatistics(), GaussianStatistics()]
    for stream, rows in zip(streams, (real, fake), strict=True):
        for batch in rows.split(8):
            stream.add(batch.float().double())
    assert fid(*streams) == pytest.approx(fid(real.float(), fake.float()), rel=1e-10)


def test_statistics_refuse() -> None:
    stream = GaussianStatistics().add(torch.zeros(1, 3))
    with pytest.raises(UserError, match="real features: 1 sample"):
        fid(stream, torch.zeros(5, 3))
    with pytest.raises(UserError, match="fake features: 0 sample"):
        fid(torch.zeros(5, 3), GaussianStatistics())
    with pytest.raises(UserError, match="has 4 dimensions, those before 3"):
        stream.add(torch.zeros(2, 4))
    with pytest.raises(UserError, match="NaN"):
        stream.add(torch.full((2, 3), torch.nan))
    with pytest.raises(UserError, match="3 dimensions and fake ones 4"):
        fid(stream.add(torch.zeros(1, 3)), torch.zeros(5, 4))


def test_fid_is_the_distance_of_the_sample_gaussians() -> None:
    real, fake = normal(50, 6, seed=5), normal(40, 6, seed=6) * 2 + 1
    gaussians = real.mean(0), torch.cov(real.T), fake.mean(0), torch.cov(fake.T)
    assert fid(real, fake) == pytest.approx(by_sqrtm(*gaussians), abs=1e-8)
    assert fid(real, fake) == pytest.approx(frechet_distance(*gaussians), abs=1e-8)


def test_fid_agrees_with_torchmetrics() -> None:
    judge = pytest.importorskip("torchmetrics.image.fid")

    class Identity(nn.Module):
        num_features = 16

        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)

    real, fake = normal(300, 1, 4, 4, seed=7), normal(200, 1, 4, 4, seed=8) * 1.5 + 0.3
    metric = judge.FrechetInceptionDistance(feature=Identity(), normalize=True)
    metric.set_dtype(torch.float64)
    metric.update(real, real=True)
    metric.update(fake, real=False)
    assert fid(real.flatten(1), fake.flatten(1)) == pytest.approx(
        metric.compute().item(), rel=1e-4
    )


def test_fid_of_numpy_arrays_and_float32() -> None:
    real, fake = normal(20, 3, seed=9), normal(30, 3, seed=10)
    assert fid(real.numpy(), fake.numpy()) == fid(real, fake)
    assert fid(real.float(), fake.float()) == pytest.approx(fid(real, fake), rel=1e-5)


def test_fid_does_not_change_under_rotation_and_shift() -> None:
    real, fake = normal(60, 8, seed=11), normal(60, 8, seed=12) * 0.5
    rotation = torch.linalg.qr(normal(8, 8, seed=13)).Q
    moved = fid(real @ rotation + 3, fake @ rotation + 3)
    assert moved == pytest.approx(fid(real, fake), rel=1e-10)


def test_fid_is_symmetric_and_zero_on_the_same_samples() -> None:
    real, fake = normal(60, 8, seed=11), normal(50, 8, seed=12)
    assert fid(real, fake) == pytest.approx(fid(fake, real), rel=1e-12)
    assert 0.0 <= fid(real, real.flip(0)) < 1e-10


def test_fewer_samples_than_features() -> None:
    """Features in a 3-dimensional subspace: the distance is the one within it."""
    inside = torch.linalg.qr(normal(200, 3, seed=14)).Q.T
    real, fake = normal(10, 3, seed=15), normal(12, 3, seed=16) + 1
    assert fid(real @ inside, fake @ inside) == pytest.approx(fid(real, fake), rel=1e-10)
    r, g = real @ inside, fake @ inside
    distance = frechet_distance(r.mean(0), torch.cov(r.T), g.mean(0), torch.cov(g.T))
    assert distance == pytest.approx(fid(real, fake), rel=1e-7)


@pytest.mark.parametrize(
    ("real", "fake", "message"),
    [
        (torch.zeros(1, 3), torch.zeros(5, 3), "real features: 1 sample"),
        (torch.zeros(5, 3), torch.zeros(0, 3), r"fake features: 0 sample\(s\)"),
        (torch.zeros(5, 3), torch.full((5, 3), torch.nan), "fake features: 15 value.* NaN"),
        (torch.full((5, 3), torch.inf), torch.zeros(5, 3), "real features: 15 .* infinite"),
        (torch.zeros(5, 3), torch.zeros(5, 4), "3 dimensions and fake ones 4: use the same"),
        (torch.zeros(5, 3, 2), torch.zeros(5, 4), r"real features have shape \(5, 3, 2\)"),
    ],
)
def test_fid_refuses(real: Tensor, fake: Tensor, message: str) -> None:
    with pytest.raises(UserError, match=message):
        fid(real, fake)


@pytest.mark.parametrize(
    ("cov_r", "message"),
    [
        (torch.eye(3), r"give \(F,\) and \(F, F\)"),
        (torch.tensor([[1.0, 0.5], [0.0, 1.0]]), "cov_r is not symmetric"),
        (torch.tensor([[1.0, 2.0], [2.0, 1.0]]), "negative eigenvalue -1"),
    ],
)
def test_frechet_distance_refuses(cov_r: Tensor, message: str) -> None:
    with pytest.raises(UserError, match=message):
        frechet_distance(torch.zeros(2), cov_r, torch.zeros(2), torch.eye(2))
