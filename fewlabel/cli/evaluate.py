"""`fewlabel evaluate`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fewlabel.cli.options import (
    BatchSize,
    Compiled,
    Device,
    Json,
    RunPath,
    Seed,
    names_of,
    numbers_of,
    print_json,
    say,
    this_command,
)
from fewlabel.errors import UserError
from fewlabel.files import check_writable, refuse_file
from fewlabel.progress import tell

if TYPE_CHECKING:
    from fewlabel.metrics.report import Report
    from fewlabel.run import Run

__all__ = ["evaluate"]


def evaluate(
    run: RunPath,
    metrics: Annotated[
        str, typer.Option(help="See `fewlabel metrics`; several with commas.")
    ] = "accuracy,intra-fid",
    scale: Annotated[
        str | None,
        typer.Option(help="Guidance scales, such as 1,2,4.", show_default="the method's"),
    ] = None,
    n: Annotated[int, typer.Option("-n", help="How many images of each class.")] = 100,
    sampler: Annotated[
        str, typer.Option(help="See `fewlabel samplers`; several with commas.")
    ] = "dpm++",
    steps: Annotated[
        str | None,
        typer.Option(help="Steps of the sampler, such as 12,24.", show_default="the sampler's"),
    ] = None,
    extractor: Annotated[
        str,
        typer.Option(help="Features of distances: judge, inception:FILE, transformers:NAME."),
    ] = "judge",
    batch_size: BatchSize = 256,
    seed: Seed = 0,
    data: Annotated[
        str | None, typer.Option(help="Where the data are now.", show_default="where they were")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The folder for figures and page.", show_default="the run's"),
    ] = None,
    device: Device = None,
    compile_: Compiled = False,
    as_json: Json = False,
) -> None:
    """Judge samples of every class: figures with 95 % intervals, and the page RUN/report.html.

    The figures are kept in evaluation.json beside the page.

    Example: fewlabel evaluate runs/a --scale 1,2,4 --json
    """
    from fewlabel.report.run_page import write_evaluation
    from fewlabel.run import load

    opened = load(run, device, compile_, data)
    kept = _is_kept(opened, out, data or opened.config.data)
    report = opened.evaluate(
        names_of(metrics),
        numbers_of("--scale", scale, float) if scale is not None else None,
        per_class=n,
        seed=seed,
        sampler=names_of(sampler),
        steps=numbers_of("--steps", steps, int) if steps is not None else None,
        batch_size=batch_size,
        extractor=extractor,
    )
    page = None
    try:
        if kept:
            page = write_evaluation(opened, report, out, this_command())
    finally:  # even if the disk is full
        if as_json:
            print_json(report.to_dict())
        else:
            _tell(report, opened.class_names)
    if page is not None and not as_json:
        say(f"report {page}")


def _is_kept(run: "Run", out: Path | None, data: str) -> bool:
    """Whether figures and page can be written; an --out where they can't is refused."""
    from fewlabel.data import refuse_inside

    if out is not None:
        refuse_file(out)
        refuse_inside(data, out)
        check_writable(out)
        return True
    try:
        check_writable(run.folder.path)
    except UserError as error:
        tell(f"note: {error}, with --out; else the figures are printed alone")
        return False
    return True


def _tell(report: "Report", names: Sequence[str]) -> None:
    """The tables of an evaluation and its notes."""
    from fewlabel.report.evaluation import figures_by_class, figures_by_draw
    from fewlabel.report.terminal import print_table

    print_table(figures_by_draw(report))
    of_classes = figures_by_class(report, names, report.draws[0].scale)
    if of_classes is not None:
        print_table(of_classes)
    for warning in report.warnings:
        say(f"note: {warning}")
