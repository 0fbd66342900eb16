import math

import numpy as np
import pytest
import torch
from mixtures import (
    PROCESS_NAMES,
    PROCESSES,
    ExactDenoiser,
    SmoothNetwork,
    places,
    three_classes,
)
from scipy.integrate import simpson
from scipy.stats import norm
from torch import Tensor, nn

from fewlabel.batch import Batch
from fewlabel.objectives import DenoisingScoreMatching, LogNormal
from fewlabel.oracle import GaussianMixture
from fewlabel.process import EDM, Process
from fewlabel.randomness import StepRandom
from fewlabel.score import Prediction, ScoreModel, denoised, score_weight

every_process = pytest.mark.parametrize("process", PROCESSES, ids=PROCESS_NAMES)


class Zero(nn.Module):
    def forward(self, u: Tensor, c_noise: Tensor) -> Tensor:
        return torch.zeros_like(u)


@every_process
@pytest.mark.parametrize("sigma_data", [0.5, 3.0])
def test_a_zero_network_is_exact_for_gaussian_data(process: Process, sigma_data: float) -> None:
    x, t, _ = places(process)
    variance = (process.alpha(t) * sigma_data) ** 2 + process.sigma(t) ** 2
    score = ScoreModel(Zero(), process, sigma_data)(x, t)
    torch.testing.assert_close(score, -x / variance[:, None], rtol=1e-9, atol=1e-9)


@every_process
@pytest.mark.parametrize("sigma_data", [0.5, 3.0])
def test_the_exact_denoiser_gives_the_exact_score(process: Process, sigma_data: float) -> None:
    x, t, _ = places(process)
    mixture = three_classes()
    model = ScoreModel(ExactDenoiser(mixture, sigma_data), process, sigma_data)
    expected = mixture.score(process)(x, t)
    torch.testing.assert_close(model(x, t), expected, rtol=1e-8, atol=1e-8)
    level = t[20]
    torch.testing.assert_close(
        model(x, level), mixture.score(process)(x, level), rtol=1e-8, atol=1e-8
    )


class ExactPrediction(nn.Module):
    """What a network of each kind says at its best, told k t, or k σ if it gives the score."""

    def __init__(self, prediction: Prediction, process: Process, time_scale: float) -> None:
        super().__init__()
        self.prediction, self.process, self.time_scale = prediction, process, time_scale

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        told = told / self.time_scale
        t = self.process.time_at(told) if self.prediction == "score" else told  # α is 1 then
        score = three_classes().score(self.process)(x, t)
        alpha, sigma = self.process.alpha(t)[:, None], self.process.sigma(t)[:, None]
        noise, clean = -sigma * score, denoised(score, x, t, self.process)
        return {
            "noise": noise,
            "clean": clean,
            "velocity": alpha * noise - sigma * clean,
            "score": score / self.time_scale,
        }[self.prediction]


@every_process
@pytest.mark.parametrize("prediction", ["noise", "clean", "velocity", "score"])
@pytest.mark.parametrize("time_scale", [0.5, 999.0])
def test_whatever_is_predicted_gives_the_exact_score(
    process: Process, prediction: Prediction, time_scale: float
) -> None:
    if prediction == "score" and process.name not in ("ve", "edm"):
        pytest.skip("such networks are told σ of a process with α = 1")
    x, t, _ = places(process)
    network = ExactPrediction(prediction, process, time_scale)
    model = ScoreModel(network, process, 0.5, prediction, time_scale)
    expected = three_classes().score(process)
    torch.testing.assert_close(model(x, t), expected(x, t), rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(model(x, t[20]), expected(x, t[20]), rtol=1e-7, atol=1e-7)
    clean = denoised(expected(x, t), x, t, process)
    torch.testing.assert_close(model.denoise(x, t), clean, rtol=1e-7, atol=1e-7)


def posterior_mean(x: float, alpha: float, sigma: float) -> float:
    """E[x0 | x_t = x] for ½ N(−2, 0.5²) + ½ N(1, 0.8²), by quadrature of Bayes' rule."""

    x0 = np.linspace(-12, 12, 20_001)
    prior = 0.5 * norm.pdf(x0, -2, 0.5) + 0.5 * norm.pdf(x0, 1, 0.8)
    joint = prior * norm.pdf(x, alpha * x0, sigma)
    return simpson(x0 * joint, x=x0) / simpson(joint, x=x0)


@every_process
def test_denoised_is_the_posterior_mean(process: Process) -> None:
    mixture = GaussianMixture(
        torch.tensor([0.5, 0.5], dtype=torch.float64),
        torch.tensor([[-2.0], [1.0]], dtype=torch.float64),
        torch.tensor([0.5, 0.8], dtype=torch.float64),
    )
    t = process.time_at(torch.tensor([0.1, 0.4, 1.0, 3.0, 12.0], dtype=torch.float64))
    x = torch.tensor([-1.0, 0.3, -0.6, 2.0, 4.0], dtype=torch.float64)[:, None]
    x = x * process.alpha(t)[:, None]
    mean = denoised(mixture.score(process)(x, t), x, t, process)
    rows = zip(x[:, 0].tolist(), process.alpha(t).tolist(), process.sigma(t).tolist(), strict=True)
    expected = torch.tensor([[posterior_mean(*row)] for row in rows], dtype=torch.float64)
    torch.testing.assert_close(mean, expected, rtol=1e-9, atol=1e-9)


@every_process
def test_denoised_undoes_the_score_of_a_model(process: Process) -> None:
    network = nn.Linear(2, 2).double()
    model = ScoreModel(lambda u, c: network(u) * c[:, None], process, 0.7)  # type: ignore[arg-type]
    x, t, _ = places(process)
    torch.testing.assert_close(
        denoised(model(x, t), x, t, process), model.denoise(x, t), rtol=1e-9, atol=1e-9
    )


class Recorder(SmoothNetwork):
    def forward(self, u: Tensor, c_noise: Tensor) -> Tensor:
        self.u, self.c_noise = u, c_noise
        return torch.zeros_like(u)


@every_process
def test_the_network_sees_unit_variance_and_a_quarter_of_log_ratio(process: Process) -> None:
    n, sigma_data = 40_000, 0.6
    generator = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, n, 1, generator=generator, dtype=torch.float64)
    network = Recorder(1, 1)
    for ratio in (0.05, 0.6, 8.0):
        t = process.time_at(torch.tensor(ratio, dtype=torch.float64))
        x = process.perturb(sigma_data * x0, t, noise)
        ScoreModel(network, process, sigma_data)(x, t)
        assert abs(network.u.std().item() - 1) < 4 / math.sqrt(2 * n)
        quarter = torch.full((n,), math.log(ratio) / 4, dtype=torch.float64)
        torch.testing.assert_close(network.c_noise, quarter, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("sigma_data", [0.5, 2.0])
@pytest.mark.parametrize("level", [0.01, 0.3, 1.0, 5.0, 60.0])
def test_the_weight_makes_the_loss_one_half_a_dimension(sigma_data: float, level: float) -> None:
    """With F = 0 and data N(0, σ_d²), which it fits exactly, at every noise level."""
    process, times = EDM(1e-4, 1e3), LogNormal(math.log(level), 1e-9)
    n, dimensions = 4000, 8
    generator = torch.Generator().manual_seed(2)
    x = sigma_data * torch.randn(n, dimensions, generator=generator, dtype=torch.float64)
    loss = DenoisingScoreMatching(ScoreModel(Zero(), process, sigma_data), times=times)(
        Batch(x, torch.zeros(n, dtype=torch.long)), StepRandom(0, 0)
    )
    # each dimension is ½ χ²(1): mean ½, variance ½
    assert abs(loss.mean().item() - 0.5) < 4 * math.sqrt(0.5 / (n * dimensions))


@every_process
def test_the_weight_is_the_one_of_edm_on_denoised_samples(process: Process) -> None:
    sigma_data = 0.7
    x, t, _ = places(process)
    score, noise = three_classes().score(process)(x, t), torch.ones_like(x)
    sigma, ratio = process.sigma(t)[:, None], process.noise_ratio(t)[:, None]
    x0 = (x - sigma * noise) / process.alpha(t)[:, None]
    edm = (ratio**2 + sigma_data**2) / (ratio * sigma_data) ** 2
    on_denoised = edm * (denoised(score, x, t, process) - x0) ** 2
    on_scores = score_weight(process, t, sigma_data)[:, None] * (score + noise / sigma) ** 2
    torch.testing.assert_close(on_scores, on_denoised, rtol=1e-7, atol=1e-9)
