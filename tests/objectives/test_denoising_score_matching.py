import math

import pytest
import torch
from mixtures import ExactDenoiser, SmoothNetwork, three_classes
from objective_cases import PROCESS, SIGMA_DATA, Record, points
from torch import Tensor, nn

from fewlabel.batch import UNLABELLED, Batch
from fewlabel.objectives import DenoisingScoreMatching
from fewlabel.randomness import StepRandom
from fewlabel.score import ScoreModel


def test_denoising_score_matching_against_its_formula() -> None:
    model = ScoreModel(SmoothNetwork(2, 2).double(), PROCESS, SIGMA_DATA)
    batch, record = points(20), Record(model)
    values = DenoisingScoreMatching(model)(batch, StepRandom(0, 0))
    x, sigma = record.x, record.t[:, None]
    noise = (x - batch.x) / sigma
    weight = sigma**2 * (1 + (sigma / SIGMA_DATA) ** 2)
    expected = (weight * (model(x, record.t) + noise / sigma) ** 2 / 2).mean(1)
    torch.testing.assert_close(values, expected, rtol=1e-9, atol=1e-9)


def test_the_conditional_loss_against_its_formula() -> None:
    """With the exact class score of the label that the network was shown, or the exact score."""
    mixture = three_classes()
    model = ScoreModel(ExactDenoiser(mixture, SIGMA_DATA), PROCESS, SIGMA_DATA)
    batch, record = points(40), Record(model)
    batch.y[::3] = UNLABELLED
    values = DenoisingScoreMatching(model, 0.4)(batch, StepRandom(0, 0))
    x, t, y = record.calls[0]
    of_class = mixture.class_score(PROCESS)(x, t, y.clamp_min(0))
    score = torch.where((y < 0)[:, None], mixture.score(PROCESS)(x, t), of_class)
    noise = (x - batch.x) / t[:, None]
    weight = t**2 * (1 + (t / SIGMA_DATA) ** 2)
    expected = weight * (score + noise / t[:, None]).square().mean(1) / 2
    torch.testing.assert_close(values, expected, rtol=1e-8, atol=1e-8)
    assert 0 < (y < 0).sum() < 40


# The labels that the network is shown


class Spy(nn.Module):
    """A network that keeps the labels it is shown."""

    def forward(self, u: Tensor, c_noise: Tensor, *labels: Tensor) -> Tensor:
        self.labels, self.c_noise = labels, c_noise
        return 0 * u


def shown(batch: Batch, dropout: float | None, step: int = 0) -> tuple[Tensor, Tensor]:
    """The labels shown at a step, and c_noise."""
    spy = Spy()
    term = DenoisingScoreMatching(ScoreModel(spy, PROCESS, SIGMA_DATA), dropout)
    term(batch, StepRandom(0, step))
    (labels,) = spy.labels
    return labels, spy.c_noise


def test_an_unconditional_network_is_shown_no_labels() -> None:
    spy = Spy()
    term = DenoisingScoreMatching(ScoreModel(spy, PROCESS, SIGMA_DATA))
    term(points(8), StepRandom(0, 0))
    assert spy.labels == ()


def test_without_dropout_every_label_is_shown_and_with_certain_dropout_none() -> None:
    batch = points(50)
    batch.y[:7] = UNLABELLED
    assert torch.equal(shown(batch, 0.0)[0], batch.y)
    assert (shown(batch, 1.0)[0] == UNLABELLED).all()


@pytest.mark.parametrize(("n", "dropout"), [(100, 0.1), (40, 0.25), (64, 0.1), (10, 0.37)])
def test_the_share_of_hidden_labels_is_stratified(n: int, dropout: float) -> None:
    """Of n labels n·p are hidden at every step, up or down to the next integer if it is none."""
    y = torch.arange(n) % 3
    hidden = []
    for step in range(200):
        labels, _ = shown(Batch(torch.zeros(n, 2), y), dropout, step)
        kept = labels != UNLABELLED
        assert torch.equal(labels[kept], y[kept])
        hidden.append(~kept)
    table = torch.stack(hidden).double()
    counts = table.sum(1)
    wanted = n * dropout
    assert counts.min() >= math.floor(wanted + 1e-9)
    assert counts.max() <= math.ceil(wanted - 1e-9)
    part = wanted - math.floor(wanted + 1e-9)
    standard_error = math.sqrt(part * (1 - part) / 200) if part > 1e-9 else 0.0
    assert abs(counts.mean().item() - wanted) <= 4 * standard_error + 1e-9
    # and every row is as likely to be hidden as any other
    assert (table.mean(0) - dropout).abs().max() < 5 * math.sqrt(dropout * (1 - dropout) / 200)


def test_a_hidden_label_says_nothing_of_the_noise_level() -> None:
    levels, hidden = [], []
    for step in range(50):
        labels, c_noise = shown(Batch(torch.zeros(100, 2), torch.zeros(100).long()), 0.3, step)
        levels.append(c_noise)
        hidden.append((labels == UNLABELLED).float())
    correlation = torch.corrcoef(torch.stack([torch.cat(levels), torch.cat(hidden)]))[0, 1]
    assert abs(correlation.item()) < 4 / math.sqrt(5000)


def test_missing_labels_stay_missing() -> None:
    batch = points(60)
    batch.y[20:50] = UNLABELLED
    labels, _ = shown(batch, 0.2)
    assert (labels[20:50] == UNLABELLED).all()
    assert (labels != UNLABELLED).sum() >= 30 - 12
