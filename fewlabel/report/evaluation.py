"""The figures of an evaluation as tables: by the way of drawing samples, and by class."""

from collections.abc import Mapping, Sequence

from fewlabel.metrics.report import Draw, Figure, Report
from fewlabel.report.table import Column, Comparison, Entry, column_of

__all__ = ["figures_by_class", "figures_by_draw", "uncontested"]


def figures_by_draw(report: Report) -> Comparison:
    """The figures over all classes: a row for each scale, sampler and number of steps.

    With several samplers or numbers of steps the row tells what a sample costs, too.
    """
    found = {(_place(f), f.metric): f for f in report.figures if f.class_index is None}
    metrics = list(dict.fromkeys(metric for _, metric in found))
    if not report.draws:
        of_given = {"given": [figure.estimate for figure in found.values()]}
        return uncontested(_caption(report), "images", metrics, of_given)
    rows: dict[str, Sequence[Entry]] = {}
    for draw in report.draws:
        figures = [found.get((_place(draw), metric)) for metric in metrics]
        estimates = [None if f is None else f.estimate for f in figures]
        way = report.way(draw)
        cost = [str(draw.nfe), f"{draw.seconds:.0f}"] if way else []
        rows[", ".join(filter(None, (f"{draw.scale:g}", way)))] = [*cost, *estimates]
    costs = [Column("NFE"), Column("seconds")] if report.way(report.draws[0]) else []
    columns = [*costs, *(column_of(metric).uncontested() for metric in metrics)]
    return Comparison(_caption(report), "scale", columns, rows)


def figures_by_class(
    report: Report, names: Sequence[str], scale: float | None
) -> Comparison | None:
    """The figures of each class at a scale, drawn in the first way; None if there are none."""
    way = next((_place(f) for f in report.figures if f.scale == scale), None)
    shown = [f for f in report.figures if _place(f) == way and f.class_index is not None]
    found = {(f.class_index, f.metric): f.estimate for f in shown}
    metrics = list(dict.fromkeys(metric for _, metric in found))
    if not found:
        return None
    rows = {
        name: [found.get((index, metric)) for metric in metrics]
        for index, name in enumerate(names)
    }
    caption = "" if scale is None else f"At scale {scale:g}."
    return uncontested(caption, "class", metrics, rows)


def uncontested(
    caption: str, head: str, metrics: Sequence[str], rows: Mapping[str, Sequence[Entry]]
) -> Comparison:
    """A table whose rows are no rivals, so that none is the best."""
    columns = [column_of(metric).uncontested() for metric in metrics]
    return Comparison(caption, head, columns, rows)


def _caption(report: Report) -> str:
    known = report.judge_accuracy
    judge = "" if known is None else f", right in {known:.1%} of held-out examples"
    seen = f"judged by {report.extractor}{judge}; 95 % intervals over"
    if not report.draws:
        where = "" if report.images is None else f" of {report.images}"
        return f"{report.n_samples} images{where}, {seen} these images."
    return (
        f"{report.n_samples} samples at each scale with seed {report.seed}, {seen} samples of "
        "this one run. Do not choose a scale by these figures: `fewlabel compare` chooses one on "
        "a validation split."
    )


def _place(of: Draw | Figure) -> tuple[float | None, str | None, int | None]:
    return of.scale, of.sampler, of.steps
