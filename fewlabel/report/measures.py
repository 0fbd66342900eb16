"""How each metric is named, which way is better, and how its figures are printed."""

from dataclasses import dataclass, replace
from typing import Literal

from fewlabel.report.table import Column

__all__ = ["Measure", "measure"]


@dataclass(frozen=True)
class Measure:
    """A metric as tables and figures show it.

    Attributes:
        title: its name for people.
        best: which way is better; None if neither.
        digits: the format of its figures; those with a "%" are shares.
    """

    title: str
    best: Literal["largest", "smallest"] | None = None
    digits: str = ".3g"

    @property
    def is_share(self) -> bool:
        """Whether its figures are shares, between 0 and 1."""
        return self.digits.endswith("%")

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


_MEASURES = {
    "accuracy": Measure("accuracy", "largest", ".1%"),
    "cas": Measure("CAS", "largest", ".1%"),
    "classifier-accuracy": Measure("classifier accuracy", "largest", ".1%"),
    "precision": Measure("precision", "largest", ".1%"),
    "recall": Measure("recall", "largest", ".1%"),
    "coverage": Measure("coverage", "largest", ".1%"),
    "density": Measure("density", "largest", ".3f"),
    "fid": Measure("FID", "smallest", ".2f"),
    "copies-intra-fid": Measure("intra-FID of copies", digits=".2f"),
    "kid": Measure("KID", "smallest", ".4f"),
    "memorised": Measure("memorised", "smallest", ".1%"),
    "is": Measure("inception score", "largest", ".2f"),
    "ece": Measure("calibration error", "smallest", ".3f"),
    "classifier-ece": Measure("calibration error", "smallest", ".3f"),
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


def measure(metric: str) -> Measure:
    """A metric by its name in results, such as "fid", or "ece@0.5" of a noise level.

    One that is not known keeps its name and is no contest.
    """
    name, _, level = metric.partition("@")
    whole = name.lower().removeprefix("intra-")
    found = _MEASURES.get(whole, Measure(name))
    if whole != name.lower():
        found = replace(found, title=f"intra-{found.title}")
    return replace(found, title=f"{found.title}, σ = {level}") if level else found
