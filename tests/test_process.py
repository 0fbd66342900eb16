import math

import pytest
import torch
from mixtures import PROCESS_NAMES, PROCESSES, CosineVP
from torch import Tensor

from fewlabel.errors import UserError
from fewlabel.process import EDM, VE, VP, Process, SubVP, broadcast, from_config

every_process = pytest.mark.parametrize("process", PROCESSES, ids=PROCESS_NAMES)
with_betas = pytest.mark.parametrize(
    "process", [*PROCESSES, VP(0.2, 9.0), SubVP()], ids=[*PROCESS_NAMES, "vp", "subvp"]
)


def times(process: Process) -> Tensor:
    return torch.linspace(process.t_min, process.t_max, 41, dtype=torch.float64)


def derivative(function, t: Tensor) -> Tensor:
    t = t.clone().requires_grad_()
    value = function(t)
    if not value.requires_grad:  # a constant
        return torch.zeros_like(t)
    return torch.autograd.grad(value.sum(), t)[0]


@with_betas
def test_drift_and_diffusion_follow_from_alpha_and_sigma(process: Process) -> None:
    t = times(process)
    drift = derivative(lambda t: process.alpha(t).log(), t)
    square = derivative(lambda t: process.sigma(t) ** 2, t) - 2 * drift * process.sigma(t) ** 2
    torch.testing.assert_close(process.drift(t), drift, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(process.diffusion(t) ** 2, square, rtol=1e-12, atol=0)


@with_betas
def test_time_at_inverts_the_noise_ratio(process: Process) -> None:
    t = times(process)
    ratio = process.noise_ratio(t)
    assert (ratio.diff() > 0).all()
    torch.testing.assert_close(process.time_at(ratio), t, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ratio, process.sigma(t) / process.alpha(t), rtol=0, atol=0)


def test_the_ends_of_the_processes() -> None:
    ve, edm = VE(0.02, 30.0), EDM(0.003, 70.0)
    for process in (ve, edm):
        ends = torch.tensor([process.t_min, process.t_max], dtype=torch.float64)
        expected = torch.tensor([process.sigma_min, process.sigma_max], dtype=torch.float64)
        torch.testing.assert_close(process.sigma(ends), expected, rtol=1e-12, atol=0)
    middle = ve.sigma(torch.tensor(0.5, dtype=torch.float64))
    assert middle.item() == pytest.approx(math.sqrt(0.02 * 30), rel=1e-12)


@pytest.mark.parametrize("betas", [(0.1, 20.0), (0.5, 9.0)])
def test_vp_has_the_variance_that_sub_vp_has_as_standard_deviation(
    betas: tuple[float, float],
) -> None:
    """It is 1 − α², with α² = exp(−∫₀ᵗ β) of β from the first to the last on a straight line."""
    vp, sub = VP(*betas), SubVP(*betas)
    t = times(vp)
    mean = torch.lerp(*torch.tensor(betas, dtype=torch.float64), t / 2)
    kept = torch.exp(-t * mean)
    for process in (vp, sub):
        torch.testing.assert_close(process.alpha(t) ** 2, kept, rtol=1e-12, atol=0)
    torch.testing.assert_close(vp.sigma(t) ** 2, 1 - kept, rtol=1e-12, atol=0)
    torch.testing.assert_close(sub.sigma(t), vp.sigma(t) ** 2, rtol=1e-12, atol=0)


@every_process
def test_perturbed_samples_have_mean_and_spread_of_the_kernel(process: Process) -> None:
    n = 20_000
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(3, n, generator=generator, dtype=torch.float64)
    x0 = torch.tensor([-1.5, 0.0, 2.0], dtype=torch.float64)[:, None].expand(3, n)
    t = times(process)[[3, 20, 37]]
    x = process.perturb(x0, t, noise)
    sigma = process.sigma(t)
    assert (((x.mean(1) - process.alpha(t) * x0[:, 0]) / sigma).abs() < 4 / n**0.5).all()
    assert ((x.std(1) / sigma - 1).abs() < 4 / (2 * n) ** 0.5).all()


@every_process
def test_perturb_takes_one_time_a_sample(process: Process) -> None:
    generator = torch.Generator().manual_seed(1)
    x0, noise = torch.randn(2, 5, 3, 4, 4, generator=generator, dtype=torch.float64)
    t = times(process)[::10]
    together = process.perturb(x0, t, noise)
    for i in range(5):
        alone = process.alpha(t[i]) * x0[i] + process.sigma(t[i]) * noise[i]
        torch.testing.assert_close(together[i], alone, rtol=1e-14, atol=1e-14)


@every_process
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_prior_has_the_spread_of_the_last_time(process: Process, dtype: torch.dtype) -> None:
    noise = torch.randn(4, 2, dtype=dtype, generator=torch.Generator().manual_seed(0))
    prior = process.prior(noise)
    assert prior.dtype == dtype
    sigma = process.sigma(torch.tensor(process.t_max, dtype=torch.float64)).item()
    torch.testing.assert_close(prior, sigma * noise)


@every_process
def test_the_density_of_the_prior_is_that_of_all_its_numbers(process: Process) -> None:
    noise = torch.randn(
        3, 2, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    x, sigma = process.prior(noise), process.sigma(torch.tensor(process.t_max).double())
    expected = torch.distributions.Normal(0, sigma).log_prob(x).sum((1, 2, 3))
    torch.testing.assert_close(process.prior_log_density(x), expected, rtol=1e-10, atol=0)


def test_broadcast_multiplies_sample_by_sample() -> None:
    x = torch.ones(3, 2, 4, 4)
    scaled = broadcast(torch.tensor([1.0, 2.0, 3.0]), x) * x
    assert scaled.mean((1, 2, 3)).tolist() == [1.0, 2.0, 3.0]
    assert (broadcast(torch.tensor(5.0), x) * x).unique().tolist() == [5.0]


@pytest.mark.parametrize("process", [VE(0.03, 12.0), EDM(0.01, 9.0)])
def test_config_round_trip(process: Process) -> None:
    again = from_config(process.config())
    assert again == process
    assert type(again) is type(process)
    assert from_config(process.config() | {"sigma_max": 13.0}) != process


@pytest.mark.parametrize("cls", [VE, EDM])
@pytest.mark.parametrize(
    ("low", "high"), [(2.0, 1.0), (1.0, 1.0), (0.0, 1.0), (-1.0, 1.0), (0.1, math.inf),
                      (math.nan, 1.0), (0.1, math.nan)]
)  # fmt: skip
def test_refuses_sigmas_out_of_order(cls: type, low: float, high: float) -> None:
    with pytest.raises(UserError, match="0 < sigma_min < sigma_max"):
        cls(sigma_min=low, sigma_max=high)


@pytest.mark.parametrize("cls", [VP, SubVP])
@pytest.mark.parametrize(
    "wrong",
    [
        *({"beta_min": value} for value in (0.0, -1.0, 20.0, 30.0, math.nan)),
        *({"beta_max": value} for value in (0.1, math.inf, math.nan)),
        *({"epsilon": value} for value in (0.0, 1.0, math.nan)),
    ],
    ids=str,
)
def test_refuses_betas_and_times_out_of_order(cls: type, wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match=f"process {cls.name}: .*0 < beta_min < beta_max and"):
        cls(**wrong)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"name": "vq"}, "process 'vq' is unknown; choose one of ve, vp, subvp, edm"),
        ({}, "process None is unknown"),
        ({"name": "ve", "p_mean": 1.0}, "process ve has no parameter 'p_mean'"),
        ({"name": "edm", "p_mean": -1.2}, "process edm has no parameter 'p_mean'"),
        ({"name": ["ve"]}, "is unknown"),
        ({"name": "ve", "sigma_min": "low"}, "are numbers in some range; got"),
        ({"name": "discrete", "betas": "abc"}, "are numbers in some range; got"),
        ({"name": "discrete", "schedule": "linear", "steps": -5}, "discrete"),
    ],
)
def test_refuses_configs(config: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        from_config(config)


def test_the_tests_own_process_preserves_variance() -> None:
    t = times(CosineVP())
    total = CosineVP().alpha(t) ** 2 + CosineVP().sigma(t) ** 2
    torch.testing.assert_close(total, torch.ones_like(t), rtol=1e-14, atol=0)
