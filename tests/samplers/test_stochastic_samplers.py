"""Samplers that draw noise: their weak error, without any noise of a measurement.

For one Gaussian the score is affine in x, so every sampler here is an affine map of its start and
of all the noise it draws: x_end = c + A x_start + Σ_i B_i z_i. A batch whose rows differ in one
number each shows c, A and B_i; then mean and variance of the end are exact.
"""

from functools import partial

import numpy as np
import pytest
import torch
from sampler_cases import every_process
from torch import Tensor

from fewlabel import samplers
from fewlabel.oracle import GaussianMixture
from fewlabel.process import EDM, VE, VP, Process
from fewlabel.samplers import StepFunction, grids, solve

MEAN, STD = 1.5, 0.6


class Impulses:
    """Draw i is one for row i + 2 and zero for all others; takes the place of `SampleRandom`."""

    def __init__(self) -> None:
        self.row = 1

    def normal_like(self, x: Tensor) -> Tensor:
        self.row += 1
        noise = torch.zeros_like(x)
        noise[self.row] = 1
        return noise


def one_gaussian() -> GaussianMixture:
    mean = torch.tensor([[MEAN]], dtype=torch.float64)
    return GaussianMixture(torch.ones(1), mean, torch.tensor([STD], dtype=torch.float64))


def marginal(process: Process, t: Tensor) -> tuple[float, float]:
    """Mean and variance of p_t."""
    alpha, sigma = process.alpha(t).item(), process.sigma(t).item()
    return alpha * MEAN, (alpha * STD) ** 2 + sigma**2


def moments(function: StepFunction, process: Process, times: Tensor) -> tuple[float, float]:
    """Mean and variance at times[-1] of what starts as p_t at times[0]."""
    x = torch.zeros(2 + 2 * len(times), 1, dtype=torch.float64)
    x[1] = 1
    end = solve(function, one_gaussian().score(process), process, x, times, Impulses()).x[:, 0]
    offset, gain, weights = end[0], end[1] - end[0], end[2:] - end[0]
    mean, variance = marginal(process, times[0])
    return (offset + gain * mean).item(), (gain**2 * variance + weights.square().sum()).item()


def weak_error(function: StepFunction, process: Process, times: Tensor) -> float:
    """Of the mean and the variance, relative to the spread at the end; the larger."""
    mean, variance = moments(function, process, times)
    exact_mean, exact_variance = marginal(process, times[-1])
    return max(abs(mean - exact_mean) / exact_variance**0.5, abs(variance / exact_variance - 1))


PREDICTOR = partial(samplers.predictor_corrector, signal_to_noise=0.0)
ORDERS = {
    "ancestral": (samplers.SAMPLERS["ancestral"].function, 1),
    "em": (samplers.euler_maruyama, 1),
    "sde-dpm++": (samplers.sde_dpm_solver_2m, 2),
    "predictor": (PREDICTOR, 1),
}


@every_process
@pytest.mark.parametrize("name", ORDERS)
def test_the_weak_order_of_convergence(process: Process, name: str) -> None:
    function, order = ORDERS[name]
    if name == "em" and isinstance(process, VE):
        # on a geometric σ the terms of first order cancel: ∫ (w/(s²+w) − ½)/(s²+w)² dw = 0
        order = 2
    counts = [100, 200, 400]
    errors = [weak_error(function, process, grids.log_snr(process, n)) for n in counts]
    slope = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert abs(slope - order) < 0.1
    assert errors[-1] < (0.04 if order == 1 else 1e-3)


@every_process
@pytest.mark.parametrize(
    "name", [n for n in samplers.SAMPLERS if n not in ("dpm++", "heun", "ddim", "ode")]
)
def test_the_defaults_are_accurate(process: Process, name: str) -> None:
    """The spread is right to 1.5 %, with ancestral sampling to 3 %."""
    row = samplers.SAMPLERS[name]
    limit = 0.06 if name == "ancestral" else 0.03
    assert weak_error(row.function, process, row.grid(process, row.steps)) < limit


@pytest.mark.parametrize(
    ("process", "time"),
    [(VE(0.02, 20.0), 0.4), (VP(), 0.05), (VP(), 0.9), (EDM(0.01, 20.0), 0.3)],
)
@pytest.mark.parametrize("ratio", [0.04, 0.16, 0.4])
def test_the_corrector_stays_at_the_marginal(process: Process, time: float, ratio: float) -> None:
    """Between equal times the predictor does nothing; what the corrector keeps is known exactly.

    x ← x + ε s(x) + √(2ε) z with s = −(x − m)/v has the mean m and the variance v/(1 − ε/2v).
    """
    times = torch.full((301,), time, dtype=torch.float64)
    corrector = partial(samplers.predictor_corrector, signal_to_noise=ratio)
    mean, variance = moments(corrector, process, times)
    exact_mean, exact_variance = marginal(process, times[0])
    epsilon = 2 * (ratio * process.sigma(times[0]).item()) ** 2
    assert mean == pytest.approx(exact_mean, abs=1e-9)
    stationary = exact_variance / (1 - epsilon / (2 * exact_variance))
    forgotten = (1 - epsilon / exact_variance) ** (2 * (len(times) - 1))
    expected = stationary + forgotten * (exact_variance - stationary)
    assert variance == pytest.approx(expected, rel=1e-9)
    assert 1 <= variance / exact_variance < 1 + 1.2 * ratio**2


@every_process
def test_the_corrector_mends_what_is_wrong(process: Process) -> None:
    """A start of the wrong mean and spread is drawn to the marginal."""
    time = process.time_at(torch.tensor(0.5, dtype=torch.float64))
    times = time.expand(600)
    x = torch.zeros(2 + 2 * len(times), 1, dtype=torch.float64)
    x[1] = 1
    score, function = one_gaussian().score(process), samplers.predictor_corrector
    end = solve(function, score, process, x, times, Impulses()).x[:, 0]
    mean, variance = marginal(process, time)
    assert (end[1] - end[0]).item() < 1e-4  # of where it started nothing is left
    assert end[0].item() == pytest.approx(mean, abs=1e-3)
    spread = (end[2:] - end[0]).square().sum().item()
    assert spread == pytest.approx(variance, rel=0.02)
