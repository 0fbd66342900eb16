"""The objective: each term on its part of the data, their weighted sum, what they remember."""

import re

import pytest
import torch
from objective_cases import mlp_classifier, points
from torch import Tensor, nn

from fewlabel.batch import Batch
from fewlabel.errors import UserError
from fewlabel.objectives import (
    CrossEntropy,
    JointEnergy,
    Objective,
    SelfCalibration,
    Term,
    Weighted,
)
from fewlabel.randomness import StepRandom


class Feature(Term):
    """Each example's mean, times a parameter."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, batch: Batch, random: StepRandom) -> Tensor:
        return self.factor * batch.x.mean(1)


def test_the_total_is_the_weighted_sum_of_means_each_on_its_part() -> None:
    objective = Objective(
        {
            "a": Weighted(Feature(1.0), "labelled", 0.5),
            "b": Weighted(Feature(10.0), "all", 3.0),
        }
    )
    labelled = Batch(torch.tensor([[1.0, 3.0], [4.0, 6.0]]), torch.tensor([0, 1]))
    everything = Batch(torch.tensor([[1.0, 1.0], [2.0, 2.0], [6.0, 6.0]]), -torch.ones(3).long())
    values = objective({"labelled": labelled, "all": everything}, StepRandom(0, 0))
    assert values["a"].tolist() == [2.0, 5.0]
    assert values["b"].tolist() == [10.0, 20.0, 60.0]
    total = objective.total(values)
    assert total.item() == pytest.approx(0.5 * 3.5 + 3.0 * 30.0)
    slope_a, slope_b = torch.autograd.grad(total, list(objective.parameters()))
    assert slope_a.item() == pytest.approx(0.5 * 3.5)
    assert slope_b.item() == pytest.approx(3.0 * 3.0)


def test_terms_that_share_a_model_add_their_gradients() -> None:
    model, batch = mlp_classifier(), points(16)
    weights = {"ce": 1.0, "sc": 0.3}
    objective = Objective(
        {
            "ce": Weighted(CrossEntropy(model), "labelled", weights["ce"]),
            "sc": Weighted(SelfCalibration(model), "all", weights["sc"]),
        }
    )
    parameters = list(model.parameters())
    assert len(list(objective.parameters())) == len(parameters)

    def values() -> dict[str, Tensor]:
        return objective({"labelled": batch, "all": batch}, StepRandom(0, 0))

    together = torch.autograd.grad(objective.total(values()), parameters)
    apart = [
        torch.autograd.grad(weights[name] * values()[name].mean(), parameters) for name in weights
    ]
    for sum_, ce, sc in zip(together, *apart, strict=True):
        torch.testing.assert_close(sum_, ce + sc, rtol=1e-10, atol=1e-12)


def test_the_memory_is_what_terms_keep_and_no_parameter() -> None:
    """The very tensors, so that a checkpoint restored into them is what the next step sees."""
    model, batch = mlp_classifier(), points(16)
    objective = Objective(
        {
            "ce": Weighted(CrossEntropy(model), "labelled"),
            "jem": Weighted(JointEnergy(model, (2,), 64), "all"),
        }
    )
    objective.double()
    memory = objective.memory()
    assert memory.keys() == {"jem.chain_x", "jem.chain_t"}
    assert all(not value.any() for value in memory.values())
    objective({"labelled": batch, "all": batch}, StepRandom(0, 0))
    assert memory["jem.chain_t"].count_nonzero() == 16
    assert memory["jem.chain_x"].any(1).sum() == 16
    again = objective.memory()
    assert all(again[name] is value for name, value in memory.items())
    assert len(list(objective.parameters())) == len(list(model.parameters()))


def test_a_term_can_be_computed_on_some_rows_alone() -> None:
    """Every third: those that the processes of a divided batch would choose too."""
    batch = Batch(torch.arange(12.0)[:, None], torch.arange(12), torch.rand(12, 3))
    objective = Objective(
        {"a": Weighted(Feature(1.0), "all"), "b": Weighted(Feature(1.0), "all", every=3)}
    )
    values = objective({"all": batch}, StepRandom(0, 0))
    assert values["a"].tolist() == batch.x[:, 0].tolist()
    assert values["b"].tolist() == [0.0, 3.0, 6.0, 9.0]
    few = batch.rows(slice(None, None, 3))
    assert few.y.tolist() == [0, 3, 6, 9]
    assert few.q is not None
    assert batch.q is not None
    assert torch.equal(few.q, batch.q[::3])


class Slip(Term):
    """(B, 1) − (B,) is (B, B), whose mean is a number too; and a mean is one value for all."""

    def __init__(self, averaged: bool) -> None:
        super().__init__()
        self.averaged = averaged

    def forward(self, batch: Batch, random: StepRandom) -> Tensor:
        return batch.x.mean() if self.averaged else batch.x - batch.x[:, 0]


@pytest.mark.parametrize(("averaged", "shape"), [(False, "(5, 5)"), (True, "()")])
def test_a_term_of_another_shape_is_refused_by_name(averaged: bool, shape: str) -> None:
    objective = Objective({"slip": Weighted(Slip(averaged), "all")})
    batch = Batch(torch.rand(5, 1), torch.zeros(5).long())
    text = re.escape(f"loss slip: Slip gives shape {shape} for 5 examples")
    with pytest.raises(UserError, match=text):
        objective({"all": batch}, StepRandom(0, 0))
