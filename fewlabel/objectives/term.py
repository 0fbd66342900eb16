"""What a training objective is made of: weighted terms, one value a sample each."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from fewlabel.batch import Batch, Part
from fewlabel.errors import UserError
from fewlabel.randomness import StepRandom

__all__ = ["Objective", "Term", "Weighted"]


class Term(nn.Module, ABC):
    """One loss. It holds the models it needs and returns one value for each example.

    Attributes:
        double_backward: whether the loss contains a gradient with respect to x, so that its own
            gradient differentiates twice.
    """

    double_backward: ClassVar[bool] = False

    @abstractmethod
    def forward(self, batch: Batch, random: StepRandom) -> Tensor:
        """The loss of each example, (B,)."""


@dataclass(frozen=True)
class Weighted:
    """A term in an objective.

    Attributes:
        term: the loss.
        part: the part of the data it is computed on.
        weight: what its mean is multiplied by.
        every: it is computed on every so many-th row of its part.
    """

    term: Term
    part: Part
    weight: float = 1.0
    every: int = 1


class Objective(nn.Module):
    """Σ_i weight_i · mean(term_i on its own part of the data).

    This is the module that is prepared for distributed training: every differentiation with
    respect to x happens inside its `forward`.

    Args:
        losses: each term by name, with its part and weight.
    """

    def __init__(self, losses: Mapping[str, Weighted]) -> None:
        super().__init__()
        self.losses = dict(losses)
        self.terms = nn.ModuleDict({name: loss.term for name, loss in losses.items()})

    @property
    def parts(self) -> set[Part]:
        """The parts of the data that it is computed on."""
        return {loss.part for loss in self.losses.values()}

    def forward(self, batches: Mapping[Part, Batch], random: StepRandom) -> dict[str, Tensor]:
        """The unweighted value of each term at each example of its part, by name.

        Raises:
            UserError: if a term does not give one value an example.
        """
        values = {}
        for name, loss in self.losses.items():
            batch = batches[loss.part].rows(slice(None, None, loss.every))
            values[name] = loss.term(batch, random)
            if values[name].shape != batch.x.shape[:1]:
                raise UserError(
                    f"loss {name}: {type(loss.term).__name__} gives shape "
                    f"{tuple(values[name].shape)} for {len(batch.x)} examples; return (B,), one "
                    "value an example, neither averaged nor weighted"
                )
        return values

    def memory(self) -> dict[str, Tensor]:
        """The tensors that terms keep from step to step, such as replay buffers, by name."""
        return {
            f"{name}.{key}": value
            for name, term in self.terms.items()
            for key, value in term.named_buffers(recurse=False)
        }

    def total(self, values: Mapping[str, Tensor]) -> Tensor:
        """The loss, a scalar, from the values that `forward` returned."""
        terms = [self.losses[name].weight * value.mean() for name, value in values.items()]
        return sum(terms[1:], start=terms[0])
