"""How figures are named, which way is better, how they are printed, and what they can be."""

import math
from dataclasses import dataclass, replace
from typing import Literal

from fewlabel.metrics.intervals import Estimate

__all__ = ["QUANTITIES", "Measure", "share"]


@dataclass(frozen=True)
class Measure:
    """A metric as tables and figures show it.

    Attributes:
        title: its name for people.
        best: which way is better; None if neither.
        digits: the format of its figures; those with a "%" are shares.
        least: the smallest value that it can have.
        most: the largest.
    """

    title: str
    best: Literal["largest", "smallest"] | None = None
    digits: str = ".3g"
    least: float = -math.inf
    most: float = math.inf

    @property
    def is_share(self) -> bool:
        """Whether its figures are shares, between 0 and 1."""
        return self.digits.endswith("%")

    @property
    def heading(self) -> str:
        """What stands above or beside the axis of a figure."""
        side = {"largest": "higher", "smallest": "lower"}
        return f"{self.title} ({side[self.best]} is better)" if self.best else self.title

    def within_limits(self, estimate: Estimate) -> Estimate:
        """A figure with its interval cut where it leaves what the metric can be."""
        low, high = max(self.least, estimate.low), min(self.most, estimate.high)
        return replace(estimate, low=low, high=high)


def share(title: str, best: Literal["largest", "smallest"] = "largest") -> Measure:
    """A metric whose figures are shares, between 0 and 1."""
    return Measure(title, best, ".1%", 0.0, 1.0)


_ECE = Measure("calibration error", "smallest", ".3f", 0.0, 1.0)

QUANTITIES = {
    "classifier-accuracy": share("classifier accuracy"),
    "classifier-ece": _ECE,
    "ece": _ECE,
    "d_p": Measure("posterior score error", "smallest"),
    "d_l": Measure("likelihood score error", "smallest"),
    "d_s": Measure("prior score error", "smallest"),
    "dsm": Measure("score matching", "smallest"),
    "ce": Measure("cross-entropy", "smallest"),
    "sc": Measure("self-calibration", "smallest"),
    "dlsm": Measure("likelihood score matching", "smallest"),
    "jr": Measure("Jacobian", "smallest"),
    "jem": Measure("joint energy"),
}
"""What is measured of models and losses; `fewlabel.metrics.table` has what is of samples."""
