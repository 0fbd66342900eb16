"""What a training objective is made of: weighted terms, one value a sample each."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from fewlabel.batch import Batch, Part
from fewlabel.randomness import StepRandom

__all__ = ["Objective", "Term"]


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


class Objective(nn.Module):
    """Σ_i weight_i · mean(term_i on its own part of the data).

    This is the module that is prepared for distributed training: every differentiation with
    respect to x happens inside its `forward`.

    Args:
        terms: each term by name.
        parts: the part of the data each term is computed on.
        weights: the weight of each term.
        every: a term is computed on every so many-th row of its part; 1 if not named.
    """

    def __init__(
        self,
        terms: Mapping[str, Term],
        parts: Mapping[str, Part],
        weights: Mapping[str, float],
        every: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        self.terms = nn.ModuleDict(terms)
        self.parts = dict(parts)
        self.weights = dict(weights)
        self.every = dict(every or {})

    def forward(self, batches: Mapping[Part, Batch], random: StepRandom) -> dict[str, Tensor]:
        """The unweighted value of each term at each example of its part, by name."""
        return {
            name: term(
                batches[self.parts[name]].rows(slice(None, None, self.every.get(name))), random
            )
            for name, term in self.terms.items()
        }

    def memory(self) -> dict[str, Tensor]:
        """The tensors that terms keep from step to step, such as replay buffers, by name."""
        return {
            f"{name}.{key}": value
            for name, term in self.terms.items()
            for key, value in term.named_buffers(recurse=False)
        }

    def total(self, values: Mapping[str, Tensor]) -> Tensor:
        """The loss, a scalar, from the values that `forward` returned."""
        terms = [self.weights[name] * value.mean() for name, value in values.items()]
        return sum(terms[1:], start=terms[0])
