"""How each metric is named, which way is better, and how its figures are printed."""

import math
from dataclasses import dataclass, replace
from typing import Literal

from fewlabel.metrics.intervals import Estimate
from fewlabel.report.table import Column

__all__ = ["Measure", "measure"]


@dataclass(frozen=True)
class Measure:
    """A metric as tables and figures show it.

    Attributes:
        title: its name for people.
        best: which way is better; None if neither.
        digits: the format of its figures; those with a "%" are shares.
        limits: the smallest and the largest figure there can be.
    """

    title: str
    best: Literal["largest", "smallest"] | None = None
    digits: str = ".3g"
    limits: tuple[float, float] = (0.0, math.inf)

    @property
    def is_share(self) -> bool:
        """Whether its figures are shares, between 0 and 1."""
        return self.digits.endswith("%")

    def within_limits(self, estimate: Estimate) -> Estimate:
        """The estimate, its interval without the figures that cannot be."""
        least, most = self.limits
        return replace(estimate, low=max(least, estimate.low), high=min(most, estimate.high))

    @property
    def column(self) -> Column:
        """The column of a table that holds it, with an arrow to the better side."""
        arrow = {"largest": " ↑", "smallest": " ↓", None: ""}[self.best]
        return Column(self.title + arrow, self.best, self.digits)

    @property
    def heading(self) -> str:
        """What stands above or beside the axis of a figure."""
        side = {"largest": "higher", "smallest": "lower"}
        return f"{self.title} ({side[self.best]} is better)" if self.best else self.title


_SHARE, _ANY = (0.0, 1.0), (-math.inf, math.inf)

_MEASURES = {
    "accuracy": Measure("accuracy", "largest", ".1%", _SHARE),
    "cas": Measure("CAS", "largest", ".1%", _SHARE),
    "classifier-accuracy": Measure("classifier accuracy", "largest", ".1%", _SHARE),
    "precision": Measure("precision", "largest", ".1%", _SHARE),
    "recall": Measure("recall", "largest", ".1%", _SHARE),
    "coverage": Measure("coverage", "largest", ".1%", _SHARE),
    "density": Measure("density", "largest", ".3f"),
    "fid": Measure("FID", "smallest", ".2f"),
    "intra-fid": Measure("intra-FID", "smallest", ".2f"),
    "kid": Measure("KID", "smallest", ".4f", _ANY),
    "intra-kid": Measure("intra-KID", "smallest", ".4f", _ANY),
    "is": Measure("inception score", "largest", ".2f", (1.0, math.inf)),
    "ece": Measure("calibration error", "smallest", ".3f", _SHARE),
    "classifier-ece": Measure("calibration error", "smallest", ".3f", _SHARE),
}


def measure(metric: str) -> Measure:
    """A metric by its name in results, such as "fid", or "ece@0.5" of a noise level.

    One that is not known keeps its name and is no contest.
    """
    name, _, level = metric.partition("@")
    found = _MEASURES.get(name.lower(), Measure(name, limits=_ANY))
    return replace(found, title=f"{found.title}, σ = {level}") if level else found
