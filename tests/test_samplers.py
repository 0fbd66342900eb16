import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import EDMDPMSolverMultistepScheduler, HeunDiscreteScheduler
from mixtures import (
    MEANS,
    PROCESS_NAMES,
    PROCESSES,
    STDS,
    WEIGHTS,
    SmoothNetwork,
    three_classes,
)
from scipy.integrate import solve_ivp
from torch import Tensor

from fewlabel import guidance, samplers
from fewlabel.errors import UserError
from fewlabel.oracle import GaussianMixture
from fewlabel.process import EDM, VE, Process
from fewlabel.samplers import grids
from fewlabel.score import ScoreFunction, ScoreModel, denoised

every_process = pytest.mark.parametrize("process", PROCESSES, ids=PROCESS_NAMES)
every_sampler = pytest.mark.parametrize("sampler", ["heun", "dpm++"])


def start(process: Process, n: int = 12) -> Tensor:
    """Samples at t_max, float64."""
    noise = torch.randn(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return process.prior(noise)


def reference(score: ScoreFunction, process: Process, x: Tensor) -> Tensor:
    """The probability-flow ODE dx = [f x − ½ g² s] dt in the process's own time, by scipy.

    Nothing of it is in common with the samplers, which know only the noise ratio.
    """

    def slope(t: float, x: np.ndarray) -> np.ndarray:
        time = torch.tensor(t, dtype=torch.float64)
        points = torch.from_numpy(x).reshape(-1, 2)
        drift = process.drift(time) * points
        return (drift - process.diffusion(time) ** 2 * score(points, time) / 2).flatten().numpy()

    ends = (process.t_max, process.t_min)
    flow = solve_ivp(slope, ends, x.flatten().numpy(), "DOP853", rtol=1e-12, atol=1e-12)
    return torch.from_numpy(flow.y[:, -1]).reshape(-1, 2)


def guided_score(process: Process, scale: float) -> ScoreFunction:
    mixture = three_classes()
    likelihood = mixture.likelihood_score(process)
    return guidance.classifier(mixture.score(process), likelihood, label=2, scale=scale)


@every_process
@every_sampler
@pytest.mark.parametrize("scale", [0.0, 1.5], ids=["unconditional", "guided"])
def test_convergence_is_of_second_order(process: Process, sampler: str, scale: float) -> None:
    """On the grid the sampler is used with, against a solution of order 8."""
    score, x = guided_score(process, scale), start(process)
    exact = reference(score, process, x)
    row = samplers.SAMPLERS[sampler]
    counts = [100, 200, 400, 800]
    errors = []
    for steps in counts:
        end = row.function(score, process, x, row.grid(process, steps))
        assert end.dtype == torch.float64
        errors.append((end - exact).square().mean().sqrt().item())
    order = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert 1.85 < order < 2.25
    assert errors[-1] < 1e-3


@every_process
@every_sampler
def test_one_gaussian_flows_along_its_closed_form(process: Process, sampler: str) -> None:
    """x_t − α μ keeps its proportion to √(α² s² + σ²)."""
    mean, std = torch.tensor([[1.0, -2.0]], dtype=torch.float64), 0.7
    mixture = GaussianMixture(torch.ones(1), mean, torch.tensor([std], dtype=torch.float64))
    x = start(process)
    row = samplers.SAMPLERS[sampler]
    end = row.function(mixture.score(process), process, x, row.grid(process, 1000))
    ends = torch.tensor([process.t_max, process.t_min], dtype=torch.float64)
    alpha, sigma = process.alpha(ends), process.sigma(ends)
    spread = torch.sqrt(alpha**2 * std**2 + sigma**2)
    exact = alpha[1] * mean + (x - alpha[0] * mean) * spread[1] / spread[0]
    torch.testing.assert_close(end, exact, rtol=0, atol=2e-4)


@pytest.mark.parametrize("steps", [3, 10, 18, 40])
def test_dpm_solver_agrees_with_diffusers(steps: int) -> None:
    """A network, its preconditioning, the grid, the solver and the last step, all by diffusers."""
    sigma_data, network = 0.7, SmoothNetwork(2, 2).double()
    process = EDM(0.005, 40.0)
    scheduler = EDMDPMSolverMultistepScheduler(
        process.sigma_min, process.sigma_max, sigma_data, lower_order_final=False
    )
    scheduler.set_timesteps(steps)
    noise = torch.randn(9, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    theirs = process.prior(noise)
    times = grids.karras(process, steps)
    score = ScoreModel(network, process, sigma_data)
    for i, timestep in enumerate(scheduler.timesteps):
        if i:  # ours so far, over the first i steps
            ours = samplers.dpm_solver_2m(score, process, process.prior(noise), times[: i + 1])
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
        scaled = scheduler.scale_model_input(theirs, timestep)
        with torch.no_grad():
            output = network(scaled, timestep.expand(9))
        theirs = scheduler.step(output, timestep, theirs).prev_sample
    last = denoised(score(ours, times[-1]), ours, times[-1], process)
    torch.testing.assert_close(last, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("steps", [3, 10, 40])
def test_heun_agrees_with_diffusers(steps: int) -> None:
    scheduler = HeunDiscreteScheduler(use_karras_sigmas=True, beta_schedule="scaled_linear")
    scheduler.set_timesteps(steps)
    process = EDM(scheduler.sigmas[-2].item(), scheduler.sigmas[0].item())
    score = three_classes().score(process)
    x = theirs = start(process)
    for i, timestep in enumerate(scheduler.timesteps):
        at = scheduler.sigmas[i]  # of this evaluation: each but the first comes twice
        noise = -at * score(theirs, at.double())
        theirs = scheduler.step(noise, timestep, theirs).prev_sample
    times = grids.karras(process, steps)
    ours = samplers.heun(score, process, x, times)
    last = denoised(score(ours, times[-1]), ours, times[-1], process)
    torch.testing.assert_close(last, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("process", [VE(0.002, 80.0), EDM(0.002, 80.0)], ids=["ve", "edm"])
@every_sampler
def test_guided_samples_are_those_of_the_class(process: Process, sampler: str) -> None:
    mixture, n = three_classes(torch.float32), 4000
    for k in range(3):
        score = guidance.classifier(mixture.score(process), mixture.likelihood_score(process), k)
        x = samplers.sample(score, process, (n, 2), sampler, seed=k)
        # the prior is N(0, σ²), not N(μ, s² + σ²): the flow carries its mean to an offset of μ s/σ
        prior_bias = STDS[k] / process.sigma_max * max(abs(m) for m in MEANS[k])
        error = (x.mean(0) - torch.tensor(MEANS[k])).abs().max()
        assert error < 4 * STDS[k] / math.sqrt(n) + prior_bias
        spread = x.std(0) / STDS[k] - 1
        assert spread.abs().max() < 4 / math.sqrt(2 * n) + 0.02  # 2 %: of a finite grid
        assert torch.corrcoef(x.T)[0, 1].abs() < 4 / math.sqrt(n)


@every_sampler
def test_unguided_samples_have_the_shares_of_the_classes(sampler: str) -> None:
    process, mixture, n = EDM(0.002, 80.0), three_classes(torch.float32), 4000
    x = samplers.sample(mixture.score(process), process, (n, 2), sampler)
    posterior = mixture.log_posterior(process)(x, torch.tensor(process.t_min)).exp()
    for share, weight in zip(posterior.mean(0).tolist(), WEIGHTS, strict=True):
        assert abs(share - weight) < 4 * math.sqrt(weight * (1 - weight) / n) + 0.01


@every_sampler
def test_a_sample_does_not_depend_on_its_batch(sampler: str) -> None:
    process = VE(0.01, 20.0)
    score = three_classes(torch.float32).score(process)
    whole = samplers.sample(score, process, (10, 2), sampler, steps=12, seed=3)
    parts = [
        samplers.sample(score, process, (n, 2), sampler, steps=12, seed=3, first=first)
        for first, n in [(0, 3), (3, 1), (4, 6)]
    ]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-5, atol=1e-5)
    other = samplers.sample(score, process, (10, 2), sampler, steps=12, seed=4)
    assert ((other - whole).abs() > 1e-3).any(1).all()


@every_sampler
def test_samples_are_float32_and_hold_no_graph(sampler: str) -> None:
    process = EDM(0.01, 20.0)
    score = ScoreModel(SmoothNetwork(2, 2), process, 1.0)
    x = samplers.sample(score, process, (4, 2), sampler, steps=4)
    assert x.dtype == torch.float32
    assert not x.requires_grad


@every_process
@pytest.mark.parametrize("grid", [grids.karras, grids.log_snr])
@pytest.mark.parametrize("steps", [2, 3, 50])
def test_grids_decrease_from_end_to_end(process: Process, grid, steps: int) -> None:
    times = grid(process, steps)
    assert times.shape == (steps,)
    assert times[0].item() == process.t_max
    assert times[-1].item() == process.t_min
    assert (times.diff() < 0).all()


@every_process
def test_the_spacing_of_the_grids(process: Process) -> None:
    ends = torch.tensor([process.t_max, process.t_min], dtype=torch.float64)
    high, low = process.noise_ratio(ends).tolist()
    for rho in (7.0, 3.0):
        ratios = process.noise_ratio(grids.karras(process, 20, rho))
        expected = [
            (high ** (1 / rho) + i / 19 * (low ** (1 / rho) - high ** (1 / rho))) ** rho
            for i in range(20)
        ]
        np.testing.assert_allclose(ratios.numpy(), expected, rtol=1e-10)
    even = process.noise_ratio(grids.log_snr(process, 20))
    np.testing.assert_allclose(even.numpy(), np.geomspace(high, low, 20), rtol=1e-10)


@pytest.mark.parametrize(
    ("schedule", "grid"), [("karras", grids.karras), ("exponential", grids.log_snr)]
)
def test_grids_agree_with_diffusers(schedule: str, grid) -> None:
    scheduler = EDMDPMSolverMultistepScheduler(0.003, 60.0, sigma_schedule=schedule)
    scheduler.set_timesteps(17)
    ours = grid(EDM(0.003, 60.0), 17)
    torch.testing.assert_close(ours.float(), scheduler.sigmas[:-1], rtol=1e-5, atol=0)


@pytest.mark.parametrize("steps", [2, 5, 12])
@pytest.mark.parametrize(
    ("sampler", "evaluations"), [("heun", lambda n: 2 * n - 1), ("dpm++", lambda n: n)]
)
def test_the_number_of_score_evaluations(sampler: str, evaluations, steps: int) -> None:
    """2 (N − 1) + 1 and N: the last one denoises."""
    process = EDM(0.01, 20.0)
    exact, asked = three_classes(torch.float32).score(process), []

    def score(x: Tensor, t: Tensor) -> Tensor:
        asked.append(t.item())
        return exact(x, t)

    samplers.sample(score, process, (3, 2), sampler, steps)
    assert len(asked) == evaluations(steps)
    assert asked[0] == process.t_max
    assert asked[-1] == pytest.approx(process.t_min)
    assert all(later <= earlier for earlier, later in pairwise(asked))


def test_sampling_ends_with_the_posterior_mean() -> None:
    """From one grid point before: the sample is E[x0 | x], without the last noise."""
    process = EDM(0.5, 20.0)
    mixture = GaussianMixture(
        torch.ones(2), torch.tensor([[-3.0], [3.0]]), torch.tensor([0.0, 0.0])
    )
    x = samplers.sample(mixture.score(process), process, (200, 1), steps=40)
    # x_{t_min} has noise of 0.5; the mean of two points given x is one of them to 1e-4
    distance = (x.abs() - 3).abs()
    assert distance.quantile(0.95) < 1e-3
    assert 0.4 < (x > 0).float().mean() < 0.6


@pytest.mark.parametrize(
    ("sampler", "steps", "message"),
    [
        ("euler", 10, r"sampler 'euler' is unknown; choose one of dpm\+\+, heun"),
        ("heun", 1, "steps=1 is too few"),
        ("dpm++", 0, "steps=0 is too few"),
    ],
)
def test_refuses(sampler: str, steps: int, message: str) -> None:
    process = EDM()
    with pytest.raises(UserError, match=message):
        samplers.sample(three_classes().score(process), process, (1, 2), sampler, steps)
