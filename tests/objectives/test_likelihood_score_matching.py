from dataclasses import replace

import pytest
import torch
from mixtures import PROCESS_NAMES, PROCESSES, SmoothNetwork
from objective_cases import PROCESS, SIGMA_DATA, Record, mlp_classifier, points

from fewlabel.objectives import LikelihoodScoreMatching, Objective, Weighted
from fewlabel.process import Process
from fewlabel.randomness import StepRandom
from fewlabel.score import ScoreModel


def score_model(process: Process = PROCESS) -> ScoreModel:
    return ScoreModel(SmoothNetwork(2, 2, seed=4), process, SIGMA_DATA).double()


@pytest.mark.parametrize("process", PROCESSES, ids=PROCESS_NAMES)
def test_likelihood_score_matching_against_its_formula(process: Process) -> None:
    """λ/D · ½‖∇ log p(y|x) + s + z/σ‖² with λ = σ² (1 + r²/σ_d²), sample by sample."""
    model, score, batch = mlp_classifier(), score_model(process), points(20)
    model.process = process
    record = Record(model)
    values = LikelihoodScoreMatching(model, score)(batch, StepRandom(0, 0))
    times, noisy = record.t, record.x
    for i, value in enumerate(values.tolist()):
        x, y = noisy[i : i + 1].clone().requires_grad_(), batch.y[i]
        logits = model(x, times[i : i + 1])[0].exp()
        (likelihood,) = torch.autograd.grad((logits[y] / logits.sum()).log(), x)
        alpha, sigma = process.alpha(times[i]), process.sigma(times[i])
        noise = (noisy[i] - alpha * batch.x[i]) / sigma
        weight = sigma**2 * (1 + (sigma / alpha / SIGMA_DATA) ** 2)
        error = likelihood[0] + score(noisy[i : i + 1], times[i])[0] + noise / sigma
        expected = weight * error.square().mean() / 2
        assert value == pytest.approx(expected.item(), rel=1e-8)


def test_the_score_function_is_given_and_not_trained() -> None:
    model, score = mlp_classifier(), score_model()
    term = LikelihoodScoreMatching(model, score)
    trained = {id(p) for p in term.parameters()}
    assert trained == {id(p) for p in model.parameters()}
    assert not trained & {id(p) for p in score.parameters()}
    assert term.state_dict().keys() == {f"classifier.{key}" for key in model.state_dict()}
    assert Objective({"dlsm": Weighted(term, "labelled")}).memory() == {}
    term(points(8), StepRandom(0, 0)).mean().backward()
    assert all(p.grad is None for p in score.parameters())
    assert any(p.grad.abs().max() > 1e-3 for p in model.parameters())


def test_the_score_function_matters() -> None:
    """A constant added to it shifts the squared error as it must."""
    model, score, batch, shift = mlp_classifier(), score_model(), points(200), 0.7
    record = Record(model)
    values = [
        LikelihoodScoreMatching(model, lambda x, t, by=by: score(x, t) + by)(
            batch, StepRandom(0, 0)
        )
        for by in (-shift, 0.0, shift)
    ]
    weight = record.t**2 * (1 + (record.t / SIGMA_DATA) ** 2)
    second = values[0] - 2 * values[1] + values[2]
    torch.testing.assert_close(second, weight * shift**2, rtol=1e-6, atol=1e-9)


def test_classes_are_drawn_as_often_as_the_teacher_believes_them() -> None:
    model, batch, n = mlp_classifier(), points(2000), 2000
    shares = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    term = LikelihoodScoreMatching(model, score_model())
    found = term(replace(batch, q=shares.expand(n, 3)), StepRandom(0, 0))
    of_class = torch.stack(
        [term(replace(batch, y=torch.full((n,), k)), StepRandom(0, 0)) for k in range(3)], 1
    )
    drawn = (of_class - found[:, None]).abs().argmin(1)
    torch.testing.assert_close(of_class.gather(1, drawn[:, None])[:, 0], found)
    counted = torch.bincount(drawn, minlength=3) / n
    assert (counted - shares).abs().max() < 2 / n  # the quantiles are stratified


def test_a_sure_teacher_gives_the_loss_of_the_labels() -> None:
    model, batch = mlp_classifier(), points(50)
    term = LikelihoodScoreMatching(model, score_model())
    certain = replace(batch, q=torch.nn.functional.one_hot(batch.y, 3).double())
    torch.testing.assert_close(term(certain, StepRandom(0, 0)), term(batch, StepRandom(0, 0)))
