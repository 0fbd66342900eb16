"""Training times: their distributions, by scipy's quantile functions."""

import math

import numpy as np
import pytest
import torch
from mixtures import CosineVP
from scipy.stats import kstest, lognorm, norm, uniform

from fewlabel.errors import UserError
from fewlabel.objectives import LogitNormal, LogNormal, Times, Uniform, default_times
from fewlabel.objectives.times import times_from_config
from fewlabel.process import EDM, VE, VP, Discrete, Process, SubVP
from fewlabel.randomness import StepRandom


@pytest.mark.parametrize(
    ("process", "times", "distribution"),
    [
        (VE(), None, uniform()),
        (EDM(), None, lognorm(s=1.2, scale=math.exp(-1.2))),
        (EDM(), LogNormal(-0.4, 1.3), lognorm(s=1.3, scale=math.exp(-0.4))),
        (VP(epsilon=0.02), None, uniform(0.02, 0.98)),
        (VP(), Uniform(0.1, 0.6), uniform(0.1, 0.5)),
        (SubVP(), None, uniform(0.001, 0.999)),
        (Discrete(), None, uniform(0, 999)),
    ],
)
def test_times_have_their_distribution(
    process: Process, times: Times | None, distribution
) -> None:
    times = times or default_times(process)
    u = torch.linspace(0.001, 0.999, 99, dtype=torch.float64)
    found = times.quantile(u, process)
    np.testing.assert_allclose(found, distribution.ppf(u.numpy()), rtol=1e-10)
    # one number a stratum: the empirical distribution is nowhere further off than one part in n
    n = 2000
    quantiles = StepRandom(0, 0).quantiles_like(torch.zeros(n, 1, dtype=torch.float64))
    drawn = times.quantile(quantiles, process)
    assert kstest(drawn.numpy(), distribution.cdf).statistic < 1.01 / n


@pytest.mark.parametrize("process", [VE(0.03, 12.0), VP(), CosineVP()], ids=lambda p: p.name)
def test_the_logarithm_of_the_noise_ratio_is_normal_whatever_the_process(process: Process) -> None:
    u = torch.linspace(0.2, 0.8, 61, dtype=torch.float64)
    t = LogNormal(-0.3, 0.7).quantile(u, process)
    log_ratio = process.noise_ratio(t).log()
    np.testing.assert_allclose(log_ratio, norm(-0.3, 0.7).ppf(u.numpy()), rtol=1e-8, atol=1e-8)


def test_the_logit_of_the_place_of_a_time_is_normal() -> None:
    process, u = VP(epsilon=0.02), torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    place = (LogitNormal(0.4, 0.9).quantile(u, process) - 0.02) / 0.98
    np.testing.assert_allclose(torch.logit(place), norm(0.4, 0.9).ppf(u.numpy()), atol=1e-9)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"name": "lognormal", "std": 0.0}, "std=0 is not positive"),
        ({"name": "lognormal", "std": math.nan}, "std=nan is not positive"),
        ({"name": "logitnormal", "std": math.inf}, "std=inf is not positive and finite"),
        ({"name": "lognormal", "mean": math.nan}, "mean=nan is not finite"),
        ({"name": "lognormal", "mean": 40.0}, "leaves float32"),
        ({"name": "uniform", "low": 0.5, "high": 0.5}, "low=0.5 is not below high=0.5"),
        ({"name": "uniform", "low": math.inf}, "inf is not finite"),
        ({"name": ["uniform"]}, "are unknown; choose one of uniform, lognormal, logitnormal"),
        ({"mean": 1.0}, "times None are unknown"),
        ({"name": "uniform", "mean": 1.0}, "times uniform have no parameter 'mean'"),
    ],
)
def test_refuses_configs(config: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        times_from_config(config, EDM())
