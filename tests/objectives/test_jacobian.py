import math
from collections.abc import Callable

import pytest
import torch
from objective_cases import Record, conv_classifier, every_process, images, mlp_classifier, points
from torch import Tensor

from fewlabel.batch import Batch
from fewlabel.classifier import NoisyClassifier
from fewlabel.objectives import JacobianPenalty
from fewlabel.process import Process
from fewlabel.randomness import StepRandom


def exact(model: NoisyClassifier, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """σ² ‖∂(f − mean f)/∂x‖_F² of each row, and σ² ‖∂f/∂x‖_F², by the whole Jacobian."""
    of_row = torch.func.jacrev(lambda x, t: model(x[None], t[None])[0])
    whole = torch.func.vmap(of_row)(x, t).flatten(2).detach()
    centred = whole - whole.mean(1, keepdim=True)
    square = model.process.sigma(t) ** 2
    return square * centred.square().sum((1, 2)), square * whole.square().sum((1, 2))


@every_process
@pytest.mark.parametrize(
    ("make", "batch"),
    [(mlp_classifier, points(40)), (conv_classifier, images(6))],
    ids=["mlp", "conv"],
)
def test_the_penalty_is_unbiased_for_the_centred_jacobian(
    make: Callable[[], NoisyClassifier], batch: Batch, process: Process
) -> None:
    """Relative to the exact value, over points, noise and projections."""
    model = make()
    model.process = process
    record, term, ratios, uncentred = Record(model), JacobianPenalty(model), [], []
    for step in range(12):
        values = term(batch, StepRandom(0, step)).detach()
        centred, whole = exact(model, record.x, record.t)
        ratios.append(values / centred)
        uncentred.append(values / whole)
    table = torch.cat(ratios)
    standard_error = table.std().item() / math.sqrt(len(table))
    assert standard_error < 0.1
    assert abs(table.mean().item() - 1) < 4 * standard_error
    assert table.std() > 0.1  # one projection is an estimate, not the value
    assert abs(torch.cat(uncentred).mean().item() - 1) > 8 * standard_error


def test_what_the_classes_share_is_not_penalised() -> None:
    """The quadratic term of the energy does not guide."""
    model, batch = mlp_classifier(), points(16)
    model.energy = "quadratic"
    with_term = JacobianPenalty(model)(batch, StepRandom(0, 0))
    model.energy = "plain"
    without = JacobianPenalty(model)(batch, StepRandom(0, 0))
    torch.testing.assert_close(with_term, without, rtol=1e-9, atol=1e-12)
    assert without.min() > 0
