"""Samplers that draw nothing, against solutions of high order, closed forms and diffusers."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, EDMDPMSolverMultistepScheduler, HeunDiscreteScheduler
from mixtures import SmoothNetwork, three_classes
from sampler_cases import NO_NOISE, Given, carry, every_process, start
from scipy.integrate import solve_ivp
from torch import Tensor

from fewlabel import guidance
from fewlabel.oracle import GaussianMixture
from fewlabel.process import EDM, VP, Process
from fewlabel.samplers import ddim, dpm_solver_2m, grids, heun, sde_dpm_solver_2m, solve
from fewlabel.samplers.ode import integrate
from fewlabel.score import ScoreFunction, ScoreModel

ORDERS = {"heun": 2, "dpm++": 2, "ddim": 1}


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


def guided_score(process: Process) -> ScoreFunction:
    mixture = three_classes()
    likelihood = mixture.likelihood_score(process)
    return guidance.classifier(mixture.score(process), likelihood, label=2, scale=1.5)


@every_process
@pytest.mark.parametrize("sampler", ORDERS)
def test_the_order_of_convergence(process: Process, sampler: str) -> None:
    """On the grid the sampler is used with, against a solution of order 8."""
    score, x = guided_score(process), start(process)
    exact = reference(score, process, x)
    counts = [100, 200, 400]
    errors = []
    for steps in counts:
        end = carry(sampler, score, process, x, steps)
        assert end.dtype == torch.float64
        errors.append((end - exact).square().mean().sqrt().item())
    order = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert ORDERS[sampler] - 0.15 < order < ORDERS[sampler] + 0.25
    assert errors[-1] < (2e-4 if ORDERS[sampler] == 2 else 2e-2)


@every_process
@pytest.mark.parametrize("sampler", ["heun", "dpm++", "ode"])
def test_one_gaussian_flows_along_its_closed_form(process: Process, sampler: str) -> None:
    """x_t − α μ keeps its proportion to √(α² s² + σ²)."""
    mean, std = torch.tensor([[1.0, -2.0]], dtype=torch.float64), 0.7
    mixture = GaussianMixture(torch.ones(1), mean, torch.tensor([std], dtype=torch.float64))
    x = start(process)
    end = carry(sampler, mixture.score(process), process, x, 800)
    ends = torch.tensor([process.t_max, process.t_min], dtype=torch.float64)
    alpha, sigma = process.alpha(ends), process.sigma(ends)
    spread = torch.sqrt(alpha**2 * std**2 + sigma**2)
    exact = alpha[1] * mean + (x - alpha[0] * mean) * spread[1] / spread[0]
    torch.testing.assert_close(end, exact, rtol=0, atol=2e-4)


@every_process
def test_the_adaptive_solver_agrees_with_many_steps_of_heun(process: Process) -> None:
    score, x = guided_score(process), start(process)
    many = carry("heun", score, process, x, 400)
    torch.testing.assert_close(carry("ode", score, process, x, 2), many, rtol=0, atol=1e-3)


def test_the_steps_are_those_of_the_most_demanding_sample() -> None:
    """Among many samples that stand still one is as exact as if it were alone."""

    def swing(t: Tensor, x: Tensor) -> Tensor:
        return torch.cos(5 * t) * (x[:, 1:] * torch.tensor([[1.0, 0.0]])).to(x)

    x = torch.zeros(3000, 2, dtype=torch.float64)
    x[7, 1] = 1
    ends = torch.tensor([0.0, 10.0], dtype=torch.float64)
    together, alone = integrate(swing, x, ends), integrate(swing, x[7:8], ends)
    torch.testing.assert_close(together[7:8], alone, rtol=0, atol=1e-12)
    assert abs(alone[0, 0].item() - math.sin(50) / 5) < 1e-4
    exact = integrate(swing, x[7:8], ends, rtol=1e-9, atol=1e-9)
    assert abs(exact[0, 0].item() - math.sin(50) / 5) < 1e-8


@every_process
def test_the_adaptive_solver_asks_nothing_outside_the_process(process: Process) -> None:
    exact, asked = three_classes().score(process), []

    def score(x: Tensor, t: Tensor) -> Tensor:
        asked.append(t.item())
        return exact(x, t)

    carry("ode", score, process, start(process), 2)
    assert min(asked) == pytest.approx(process.t_min, rel=1e-6, abs=1e-9)
    assert max(asked) == pytest.approx(process.t_max, rel=1e-6)
    assert len(asked) < 300


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
            x = process.prior(noise)
            ours = solve(dpm_solver_2m, score, process, x, times[: i + 1], NO_NOISE)
            torch.testing.assert_close(ours.x, theirs, rtol=1e-5, atol=1e-5)
        scaled = scheduler.scale_model_input(theirs, timestep)
        with torch.no_grad():
            output = network(scaled, timestep.expand(9))
        theirs = scheduler.step(output, timestep, theirs).prev_sample
    torch.testing.assert_close(ours.denoised, theirs, rtol=1e-5, atol=1e-5)


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
    ours = solve(heun, score, process, x, times, NO_NOISE)
    torch.testing.assert_close(ours.denoised, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_ddim_agrees_with_diffusers(eta: float) -> None:
    """Step by step, on the discrete variance-preserving grid of linear betas."""
    scheduler = DDIMScheduler(1000, 1e-4, 0.02, "linear", clip_sample=False)
    scheduler.set_timesteps(50)
    remaining = scheduler.alphas_cumprod.double()[scheduler.timesteps]  # ᾱ = α²
    process = VP()
    times = process.time_at(torch.sqrt((1 - remaining) / remaining))
    score, theirs = three_classes().score(process), start(process)
    noise = torch.randn(49, *theirs.shape, generator=torch.Generator().manual_seed(1))
    for i, timestep in enumerate(scheduler.timesteps[:-1]):
        predicted = -process.sigma(times[i]) * score(theirs, times[i])
        theirs = scheduler.step(
            predicted, timestep, theirs, eta, variance_noise=noise[i].double()
        ).prev_sample
        way = score, process, start(process), times[: i + 2], Given(noise)
        ours = solve(partial(ddim, eta=eta), *way).x
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("steps", [3, 10, 40])
def test_the_sde_solver_agrees_with_diffusers(steps: int) -> None:
    process = EDM(0.005, 40.0)
    scheduler = EDMDPMSolverMultistepScheduler(
        process.sigma_min,
        process.sigma_max,
        1.0,
        algorithm_type="sde-dpmsolver++",
        lower_order_final=False,
    )
    scheduler.set_timesteps(steps)
    times, x = grids.karras(process, steps), start(process)
    score = ScoreModel(SmoothNetwork(2, 2).double(), process, 1.0)
    generator, theirs = torch.Generator().manual_seed(1), x
    for timestep in scheduler.timesteps[:-1]:
        scaled = scheduler.scale_model_input(theirs, timestep)
        with torch.no_grad():
            output = score.network(scaled, timestep.expand(len(x)))
        theirs = scheduler.step(output, timestep, theirs, generator=generator).prev_sample
    generator.manual_seed(1)
    noise = torch.stack(
        [torch.randn(x.shape, generator=generator, dtype=x.dtype) for _ in times[1:]]
    )
    ours = solve(sde_dpm_solver_2m, score, process, x, times, Given(noise)).x
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
