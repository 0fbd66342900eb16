"""`samplers.sample`: prior, grid, sampler and the last step together, for every sampler."""

import math
from itertools import pairwise

import pytest
import torch
from mixtures import MEANS, STDS, WEIGHTS, SmoothNetwork, three_classes
from sampler_cases import every_process
from torch import Tensor

from fewlabel import guidance, samplers
from fewlabel.errors import UserError
from fewlabel.oracle import GaussianMixture
from fewlabel.process import EDM, VE, VP, Process, SubVP
from fewlabel.score import ScoreModel

every_sampler = pytest.mark.parametrize("sampler", samplers.SAMPLERS)


class QuickRandom:
    """One generator for the batch: thousands of samples with one of their own would take long."""

    def __init__(self, seed: int, indices: range) -> None:
        self._generator, self._n = torch.Generator().manual_seed(seed), len(indices)

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        return torch.randn(self._n, *shape, generator=self._generator)

    def normal_like(self, x: Tensor) -> Tensor:
        return self.normal(x.shape[1:])


WIDE = [VE(0.002, 80.0), VP(), SubVP(), EDM(0.002, 80.0)]


@pytest.mark.parametrize("process", WIDE, ids=[process.name for process in WIDE])
@every_sampler
def test_guided_samples_are_those_of_the_class(
    process: Process, sampler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samplers, "SampleRandom", QuickRandom)
    mixture, n = three_classes(torch.float32), 800
    labels = torch.arange(3).repeat_interleave(n)
    likelihood = mixture.likelihood_score(process)
    score = guidance.classifier(mixture.score(process), likelihood, labels)
    all_classes = samplers.sample(score, process, (3 * n, 2), sampler)
    # the prior is N(0, σ²), not N(α μ, α² s² + σ²): the flow carries its mean to an offset
    to_prior = 1 / process.noise_ratio(torch.tensor(process.t_max)).item()
    for k, x in enumerate(all_classes.split(n)):
        prior_bias = STDS[k] * to_prior * max(abs(m) for m in MEANS[k])
        error = (x.mean(0) - torch.tensor(MEANS[k])).abs().max()
        assert error < 4 * STDS[k] / math.sqrt(n) + prior_bias
        spread = x.std(0) / STDS[k] - 1
        assert spread.abs().max() < 4 / math.sqrt(2 * n) + 0.03  # 3 %: of a finite grid
        assert torch.corrcoef(x.T)[0, 1].abs() < 4 / math.sqrt(n)


@every_sampler
def test_unguided_samples_have_the_shares_of_the_classes(
    sampler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samplers, "SampleRandom", QuickRandom)
    process, mixture, n = EDM(0.002, 80.0), three_classes(torch.float32), 4000
    x = samplers.sample(mixture.score(process), process, (n, 2), sampler)
    posterior = mixture.log_posterior(process)(x, torch.tensor(process.t_min)).exp()
    for share, weight in zip(posterior.mean(0).tolist(), WEIGHTS, strict=True):
        assert abs(share - weight) < 4 * math.sqrt(weight * (1 - weight) / n) + 0.01


@every_process
@every_sampler
def test_a_sample_does_not_depend_on_its_batch(process: Process, sampler: str) -> None:
    score = three_classes(torch.float32).score(process)
    whole = samplers.sample(score, process, (10, 2), sampler, steps=12, seed=3)
    parts = [
        samplers.sample(score, process, (n, 2), sampler, steps=12, seed=3, first=first)
        for first, n in [(0, 3), (3, 1), (4, 6)]
    ]
    within = 1e-3 if sampler == "ode" else 1e-6  # its steps are shared by the batch
    torch.testing.assert_close(torch.cat(parts), whole, rtol=within, atol=within)
    other = samplers.sample(score, process, (10, 2), sampler, steps=12, seed=4)
    assert ((other - whole).abs() > 1e-3).any(1).all()


@pytest.mark.parametrize("sampler", ["ancestral", "sde-dpm++", "pc", "em"])
def test_samplers_that_draw_noise_do_so_on_the_way(
    sampler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From one and the same start the samples part."""
    process = EDM(0.01, 20.0)
    monkeypatch.setattr(EDM, "prior", lambda self, noise: torch.ones_like(noise))
    x = samplers.sample(
        three_classes(torch.float32).score(process), process, (9, 2), sampler, steps=20
    )
    assert torch.pdist(x).min() > 1e-4


@every_sampler
def test_samples_are_float32_and_hold_no_graph(sampler: str) -> None:
    process = EDM(0.01, 20.0)
    score = ScoreModel(SmoothNetwork(2, 2), process, 1.0)
    x = samplers.sample(score, process, (4, 2), sampler, steps=4)
    assert x.dtype == torch.float32
    assert not x.requires_grad


@every_sampler
def test_images_are_drawn_as_images(sampler: str) -> None:
    """A wide Gaussian of any shape, by its score alone: −x/(α² s² + σ²)."""
    process = VP()

    def score(x: Tensor, t: Tensor) -> Tensor:
        return -x / (process.alpha(t) ** 2 / 4 + process.sigma(t) ** 2)

    x = samplers.sample(score, process, (12, 3, 4, 4), sampler)
    assert x.shape == (12, 3, 4, 4)
    assert x.std().item() == pytest.approx(0.5, rel=0.03 + 4 / math.sqrt(2 * x.numel()))


EVALUATIONS = {
    "heun": lambda n: 2 * n - 1,
    "pc": lambda n: 2 * n - 1,
    **dict.fromkeys(["dpm++", "ddim", "ancestral", "sde-dpm++", "em"], lambda n: n),
}


def test_the_evaluations_of_every_sampler_are_counted() -> None:
    assert {*EVALUATIONS, "ode"} == set(samplers.SAMPLERS)


@pytest.mark.parametrize("steps", [2, 5, 12])
@pytest.mark.parametrize("sampler", EVALUATIONS)
def test_the_number_of_score_evaluations(sampler: str, steps: int) -> None:
    """2 (N − 1) + 1 or N: the last one denoises."""
    process = EDM(0.01, 20.0)
    exact, asked = three_classes(torch.float32).score(process), []

    def score(x: Tensor, t: Tensor) -> Tensor:
        asked.append(t.item())
        return exact(x, t)

    samplers.sample(score, process, (3, 2), sampler, steps)
    assert len(asked) == EVALUATIONS[sampler](steps)
    assert asked[0] == process.t_max
    assert asked.count(process.t_max) == 1  # second evaluations belong to the later time
    assert asked[-1] == pytest.approx(process.t_min)
    assert all(later <= earlier for earlier, later in pairwise(asked))


@pytest.mark.parametrize("sampler", ["dpm++", "ancestral", "pc"])
def test_sampling_ends_with_the_posterior_mean(sampler: str) -> None:
    """From one grid point before: the sample is E[x0 | x], without the last noise."""
    process = EDM(0.5, 20.0)
    mixture = GaussianMixture(
        torch.ones(2), torch.tensor([[-3.0], [3.0]]), torch.tensor([0.0, 0.0])
    )
    x = samplers.sample(mixture.score(process), process, (200, 1), sampler, steps=40)
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
