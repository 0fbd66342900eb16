"""The figures of an evaluation, with intervals and the protocol behind them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

from fewlabel.errors import UserError
from fewlabel.metrics.intervals import Estimate
from fewlabel.metrics.table import measure

__all__ = ["Draw", "Figure", "Report"]


@dataclass(frozen=True)
class Figure:
    """One figure with its 95 % confidence interval.

    Attributes:
        scale: guidance scale; None, as the next two, for images that were given.
        sampler: the sampler.
        steps: its grid points.
        metric: such as "accuracy" or "intra-fid".
        class_index: the class it is for, or None for all.
        value: the figure.
        low: lower end of the interval.
        high: upper end.
    """

    scale: float | None
    sampler: str | None
    steps: int | None
    metric: str
    class_index: int | None
    value: float
    low: float
    high: float

    @property
    def estimate(self) -> Estimate:
        """The figure and its interval alone."""
        return Estimate(self.value, self.low, self.high)

    def to_dict(self) -> dict[str, Any]:
        """The row of `evaluate --json`; the class is under "class"."""
        row = asdict(self)
        row["class"] = row.pop("class_index")
        return row


@dataclass(frozen=True)
class Draw:
    """Samples of all classes in one way, and what they cost.

    Attributes:
        scale: guidance scale.
        sampler: the sampler.
        steps: its grid points.
        nfe: evaluations of the score network and of the classifier for each sample.
        seconds: time for all of them.
    """

    scale: float
    sampler: str
    steps: int
    nfe: int
    seconds: float


@dataclass(frozen=True)
class Report:
    """What `Run.evaluate` and `judge` return.

    Attributes:
        run: the run's folder; None, as the next two and the seed, for images that were given.
        method: its method.
        labels: the labels it was given.
        n_samples: generated images behind the figures of each scale.
        extractor: between whose features distances are.
        judge_accuracy: the judge's own accuracy on held-out real images; None if it is unknown,
            or no metric took its verdicts.
        seed: the seed of the samples.
        draws: how samples were drawn, one for each scale, sampler and number of steps; none for
            images that were given.
        figures: one for each draw, metric and class.
        warnings: what weakens the figures.
        images: the file or folder of images that were given; None for others.
        data: the real images that these were compared with; None for those of a run.
    """

    run: str | None
    method: str | None
    labels: str | None
    n_samples: int
    extractor: str
    judge_accuracy: float | None
    seed: int | None
    draws: Sequence[Draw]
    figures: Sequence[Figure]
    warnings: Sequence[str]
    images: str | None = None
    data: str | None = None

    def overall(self, metric: str, scale: float | None = None) -> Figure:
        """The figure of a metric over all classes at a scale, by the first way of sampling.

        Args:
            metric: its name.
            scale: guidance scale; None for the first that was judged.

        Raises:
            UserError: if it was not judged.
        """
        rows = [f for f in self._overall(metric) if scale is None or f.scale == scale]
        if not rows:
            raise UserError(f"{metric} was not judged at scale {scale:g}: evaluate there too")
        return rows[0]

    def best_scale(self, metric: str = "intra-fid") -> float:
        """The scale at which a metric is best: smallest or largest, as `measure` has it.

        Raises:
            UserError: if it was not judged, or neither way is better.
        """
        best = measure(metric).best
        if best is None:
            raise UserError(f"neither way is better in {metric}; choose the scale by another")
        choose = max if best == "largest" else min
        scale = choose(self._overall(metric), key=lambda figure: figure.value).scale
        return scale if scale is not None else self._refuse_given()

    def _overall(self, metric: str) -> list[Figure]:
        rows = [f for f in self.figures if f.metric == metric and f.class_index is None]
        if not rows:
            judged = ", ".join(dict.fromkeys(figure.metric for figure in self.figures))
            raise UserError(f"{metric} was not judged, but {judged}: evaluate with it")
        return rows

    def to_dict(self) -> dict[str, Any]:
        """The document of `evaluate --json`."""
        document = asdict(self)
        document["results"] = [figure.to_dict() for figure in self.figures]
        del document["figures"]
        for name in ("images", "data"):
            if document[name] is None:
                del document[name]
        return document

    def way(self, of: Draw | Figure) -> str:
        """The sampler and steps of a draw or figure, if the report has several; else nothing."""
        several = len({(draw.sampler, draw.steps) for draw in self.draws}) > 1
        return f"{of.sampler}, {of.steps} steps" if several else ""

    def lines(self) -> list[dict[str, Any]]:
        """The rows to draw against the scale: with several ways of sampling each is a line."""
        return [
            figure.to_dict() | {"method": self.way(figure) or self.method}
            for figure in self.figures
        ]

    def _refuse_given(self) -> NoReturn:
        raise UserError("given images have no guidance scale: evaluate a run for that")

    def plot(self, path: str | Path | None = None) -> Path:
        """Draw the figures against the guidance scale.

        Args:
            path: a PNG or SVG file; None for sweep.png in the run folder.
        """
        from fewlabel.report.figures import scale_sweep

        if self.run is None:
            self._refuse_given()
        return scale_sweep(self.lines(), Path(self.run, "sweep.png") if path is None else path)
