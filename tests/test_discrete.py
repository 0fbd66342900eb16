"""The continuous process of discrete schedules, against diffusers' schedulers and VP."""

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

from fewlabel import process, samplers
from fewlabel.errors import UserError
from fewlabel.oracle import GaussianMixture
from fewlabel.process import VP, Discrete

SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_timesteps_have_the_noise_of_the_scheduler(schedule: str) -> None:
    scheduler = DDIMScheduler(beta_schedule=schedule, beta_end=0.01, num_train_timesteps=300)
    kept = scheduler.alphas_cumprod.double()
    ours = Discrete(schedule, beta_end=0.01, steps=300)
    t = torch.arange(300, dtype=torch.float64)
    assert (ours.alpha(t) ** 2 / kept - 1).abs().max() < 1e-6
    assert (ours.sigma(t) ** 2 / (1 - kept) - 1).abs().max() < 1e-6
    again = Discrete(betas=tuple(scheduler.betas.tolist()))
    assert torch.equal(again.sigma(t), ours.sigma(t))
    assert ours.t_max == again.t_max == 299


def test_drift_and_diffusion_belong_to_alpha_and_sigma() -> None:
    """Of d log α/dt = f and dσ²/dt = 2 f σ² + g², between timesteps."""
    ours, h = Discrete(steps=100, beta_end=0.2), 1e-4
    t = torch.tensor([0.3, 7.5, 50.2, 98.6], dtype=torch.float64)
    drift = (ours.alpha(t + h).log() - ours.alpha(t - h).log()) / (2 * h)
    assert (ours.drift(t) / drift - 1).abs().max() < 1e-6
    growth = (ours.sigma(t + h) ** 2 - ours.sigma(t - h) ** 2) / (2 * h)
    forward = 2 * ours.drift(t) * ours.sigma(t) ** 2 + ours.diffusion(t) ** 2
    assert (forward / growth - 1).abs().max() < 1e-6


def test_a_linear_schedule_of_many_steps_is_vp() -> None:
    steps, vp = 100_000, VP(0.1, 20.0)
    ours = Discrete("linear", 0.1 / steps, 20.0 / steps, steps)
    u = torch.linspace(0.01, 1, 50, dtype=torch.float64)
    ratio = ours.noise_ratio(u * steps - 1) / vp.noise_ratio(u)
    assert (ratio - 1).abs().max() < 1e-3


def test_times_and_noise_ratios_are_inverse() -> None:
    ours = Discrete()
    t = torch.tensor(np.random.default_rng(0).uniform(0, 999, 200))
    assert (ours.time_at(ours.noise_ratio(t)) - t).abs().max() < 1e-6
    beyond = ours.noise_ratio(torch.tensor([1200.0], dtype=torch.float64))  # on the last line
    assert torch.allclose(ours.time_at(beyond), torch.tensor([1200.0], dtype=torch.float64))


@pytest.mark.parametrize("sampler", samplers.SAMPLERS)
def test_every_sampler_draws_the_data(sampler: str) -> None:
    """One Gaussian with the exact score; DDIM is of order 1 and needs more steps."""
    data = GaussianMixture(torch.tensor([1.0]), torch.tensor([[0.7, -0.4]]), torch.tensor([0.3]))
    ours = Discrete()
    steps = 400 if sampler == "ddim" else None
    x = samplers.sample(data.score(ours), ours, (1000, 2), sampler, steps, seed=0)
    assert (x.mean(0) - torch.tensor([0.7, -0.4])).abs().max() < 0.04
    assert (x.std(0) / 0.3 - 1).abs().max() < 0.08


@pytest.mark.parametrize("sampler", ["dpm++", "heun"])
@pytest.mark.parametrize("steps", [1000, 4000])
def test_steps_are_spent_where_there_is_signal(sampler: str, steps: int) -> None:
    """The cosine schedule ends at σ/α = 20,000 and more; the linear one, with signal, at 157."""
    data = GaussianMixture(torch.tensor([1.0]), torch.tensor([[0.7, -0.4]]), torch.tensor([0.3]))

    def spread(process: Discrete) -> torch.Tensor:
        return samplers.sample(data.score(process), process, (1000, 2), sampler).std(0)

    ours, linear = spread(Discrete("squaredcos_cap_v2", steps=steps)), spread(Discrete())
    assert (ours / linear - 1).abs().max() < 0.03


def test_it_is_written_and_read_back() -> None:
    ours = Discrete(betas=(0.1, 0.2, 0.5))
    assert process.from_config({**ours.config(), "betas": [0.1, 0.2, 0.5]}) == ours


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"schedule": "quadratic"}, "quadratic"),
        ({"betas": (0.1, 1.0)}, "signal"),
        ({"beta_start": 0.0}, "noise"),
        ({"steps": 1}, "two"),
        ({"beta_start": 1e-8}, "begins without noise"),
        ({"beta_end": 0.5}, "ends without signal"),
    ],
)
def test_what_is_no_schedule_is_refused(wrong: dict, word: str) -> None:
    with pytest.raises(UserError, match=word):
        Discrete(**wrong)


def test_whole_timesteps_are_times() -> None:
    """As one types them: integers, at which α and σ are none."""
    ours, steps = Discrete(), torch.tensor([0, 1, 500, 999])
    for function in (ours.alpha, ours.sigma, ours.drift, ours.diffusion, ours.noise_ratio):
        assert torch.equal(function(steps), function(steps.float()))
    assert (ours.alpha(steps).square() + ours.sigma(steps).square()).allclose(torch.ones(4))
