"""The loop that drives every sampler: what a callback sees, stopping, and values out of range."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from mixtures import MEANS, STDS, three_classes
from sampler_cases import NO_NOISE, carry, every_process, start
from torch import Tensor

from fewlabel import samplers
from fewlabel.errors import TrainingError
from fewlabel.oracle import GaussianMixture
from fewlabel.process import EDM, VP, Process
from fewlabel.randomness import SampleRandom
from fewlabel.samplers import SAMPLERS, Sampler, Step, grids
from fewlabel.samplers.ode import integrate

every_sampler = pytest.mark.parametrize("sampler", SAMPLERS)
CALLS_A_STEP = {name: 2 if name in ("heun", "pc") else 1 for name in SAMPLERS if name != "ode"}
N = 9


class Counted:
    """The exact score of three classes, which counts how often it is asked."""

    def __init__(self, process: Process) -> None:
        self._exact, self.calls = three_classes(torch.float32).score(process), 0

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        self.calls += 1
        return self._exact(x, t)


def posterior_mean(process: Process, x: Tensor, t: Tensor) -> Tensor:
    """E[x0 | x_t = x] of the three classes: each one's, weighted by its probability."""
    means, variances = torch.tensor(MEANS), torch.tensor(STDS) ** 2
    alpha, sigma = process.alpha(t), process.sigma(t)
    gain = alpha * variances / (alpha**2 * variances + sigma**2)
    of_class = means + gain[:, None] * (x[:, None] - alpha * means)
    posterior = three_classes(torch.float32).log_posterior(process)(x, t).exp()
    return (posterior[..., None] * of_class).sum(1)


@every_process
@every_sampler
def test_a_callback_sees_the_way_from_noise_to_the_sample(process: Process, sampler: str) -> None:
    steps: list[Step] = []
    score, shape = three_classes(torch.float32).score(process), (5, 2)
    x = samplers.sample(score, process, shape, sampler, N, seed=3, callback=steps.append)
    noise = SampleRandom(3, range(5)).normal((2,))
    assert torch.equal(steps[0].x, process.prior(noise))
    assert torch.equal(steps[-1].denoised, x)
    for step in steps:
        expected = posterior_mean(process, step.x, step.t)
        torch.testing.assert_close(step.denoised, expected, rtol=1e-3, atol=2e-3)
    assert [step.index for step in steps] == [*range(len(steps))]
    times, done = [step.t.item() for step in steps], [step.done for step in steps]
    assert all(later < earlier for earlier, later in pairwise(times))
    assert all(earlier < later for earlier, later in pairwise(done))
    assert (done[0], done[-1]) == (0, 1)
    if sampler == "ode":
        assert (times[0], times[-1]) == pytest.approx((process.t_max, process.t_min))
        return
    assert times == SAMPLERS[sampler].grid(process, N).float().tolist()
    assert done == pytest.approx([i / (N - 1) for i in range(N)])


@every_sampler
def test_a_callback_that_looks_changes_nothing(sampler: str) -> None:
    process, plain, watched = VP(), Counted(VP()), Counted(VP())
    x = samplers.sample(plain, process, (4, 2), sampler, N, seed=1)
    looked: list[Tensor] = []
    same = samplers.sample(
        watched, process, (4, 2), sampler, N, seed=1, callback=lambda s: looked.append(s.denoised)
    )
    assert torch.equal(same, x)
    more = {"ode": len(looked) - 1, "heun": 1}  # the points where they ask for no score
    assert watched.calls - plain.calls == more.get(sampler, 0)


@pytest.mark.parametrize("k", [0, 1, 4])
@pytest.mark.parametrize("sampler", CALLS_A_STEP)
def test_it_stops_within_a_step(sampler: str, k: int) -> None:
    process, score, steps = EDM(0.01, 20.0), Counted(EDM(0.01, 20.0)), list[Step]()

    def stop(step: Step) -> bool:
        steps.append(step)
        return step.index < k

    x = samplers.sample(score, process, (4, 2), sampler, N, callback=stop)
    assert len(steps) == k + 1
    assert score.calls == CALLS_A_STEP[sampler] * k + 1  # the last one denoises what is there
    at, t = steps[-1].x, steps[-1].t
    torch.testing.assert_close(x, posterior_mean(process, at, t), rtol=1e-3, atol=1e-3)


def test_the_adaptive_solver_stops_within_a_step_of_its_own() -> None:
    process, score, calls = EDM(0.01, 20.0), Counted(EDM(0.01, 20.0)), list[int]()

    def stop(step: Step) -> bool:
        calls.append(score.calls)
        return step.t > 1.0

    x = samplers.sample(score, process, (4, 2), "ode", callback=stop)
    assert len(calls) > 5
    assert max(later - earlier for earlier, later in pairwise(calls)) < 30
    assert score.calls == calls[-1] + 1
    assert x.isfinite().all()


@every_process
def test_the_adaptive_solver_shows_points_of_its_way(process: Process) -> None:
    """Of one Gaussian, x − α μ keeps its proportion to √(α² s² + σ²)."""
    mean, std = torch.tensor([[1.0, -2.0]]), 0.7
    mixture = GaussianMixture(torch.ones(1), mean, torch.tensor([std]))
    steps: list[Step] = []
    samplers.sample(mixture.score(process), process, (6, 2), "ode", callback=steps.append)
    assert len(steps) > 5

    def place(step: Step) -> Tensor:
        alpha, sigma = process.alpha(step.t), process.sigma(step.t)
        return (step.x - alpha * mean) / torch.sqrt(alpha**2 * std**2 + sigma**2)

    for step in steps:
        torch.testing.assert_close(place(step), place(steps[0]), rtol=0, atol=2e-3)
        ratio = process.noise_ratio(torch.stack([steps[0].t, step.t, steps[-1].t])).log()
        assert step.done == pytest.approx(
            float((ratio[0] - ratio[1]) / (ratio[0] - ratio[2])), abs=1e-4
        )


@pytest.mark.parametrize("answer", [False, torch.tensor(False), np.False_])
def test_false_of_every_kind_stops(answer: object) -> None:
    process = EDM(0.01, 20.0)
    score = Counted(process)
    samplers.sample(score, process, (2, 2), steps=N, callback=lambda step: answer)
    assert score.calls == 1


@pytest.mark.parametrize("answer", [None, True, torch.tensor(True)])
def test_none_and_true_go_on(answer: object) -> None:
    process = EDM(0.01, 20.0)
    score = Counted(process)
    samplers.sample(score, process, (2, 2), steps=N, callback=lambda step: answer)
    assert score.calls == N


@every_process
def test_a_step_of_ones_own_is_all_that_a_sampler_needs(process: Process) -> None:
    """Euler's method in (x/α, σ/α), in other words than DDIM's: it is the same step."""

    def euler(step: Step, s: Tensor) -> Tensor:
        t, alpha = step.t, process.alpha(s)
        slope = -process.sigma(t) * step.score
        h = process.noise_ratio(s) - process.noise_ratio(t)
        return alpha * (step.x / process.alpha(t) + h * slope)

    score, x = three_classes().score(process), start(process)
    times = grids.log_snr(process, 20)
    ours = samplers.solve(euler, score, process, x, times, NO_NOISE).x
    torch.testing.assert_close(ours, carry("ddim", score, process, x, 20))
    row = Sampler(euler, grids.log_snr, 20)
    drawn = samplers.sample(three_classes(torch.float32).score(process), process, (3, 2), row)
    assert drawn.shape == (3, 2)


@every_sampler
def test_a_score_that_is_not_finite_is_told_with_its_place(sampler: str) -> None:
    process = EDM(0.01, 20.0)
    exact = three_classes(torch.float32).score(process)

    def broken(x: Tensor, t: Tensor) -> Tensor:
        bad = torch.zeros_like(x)
        bad[1] = math.nan
        return exact(x, t) + (bad if t < 1.0 else 0.0)

    seen: list[Step] = []
    message = "the score is not finite at log" if sampler == "ode" else "1 of 3 samples are not"
    with pytest.raises(TrainingError, match=f"{message}.*guidance scale"):
        samplers.sample(broken, process, (3, 2), sampler, 12, callback=seen.append)
    assert all(step.x.isfinite().all() for step in seen)
    assert min(step.t.item() for step in seen) < 2.0  # the place is that of the fault


@every_sampler
def test_the_last_step_is_looked_at_too(sampler: str) -> None:
    process = EDM(0.01, 20.0)
    exact = three_classes(torch.float32).score(process)

    def broken(x: Tensor, t: Tensor) -> Tensor:
        return exact(x, t) * (math.inf if asked[0] else 1.0)

    asked = [False]

    def last(step: Step) -> None:
        asked[0] = step.done == 1

    with pytest.raises(TrainingError, match=r"3 of 3 samples are not finite at time 0\.01, "):
        samplers.sample(broken, process, (3, 2), sampler, 12, callback=last)


def test_an_equation_whose_slope_is_not_finite_is_told() -> None:
    with pytest.raises(TrainingError, match="the score is not finite"):
        integrate(lambda t, x: x * math.nan, torch.ones(2, 1), torch.tensor([0.0, 1.0]))
