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
    Seed,
    Size,
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

_OF_RUNS = ("scale", "n", "sampler", "steps", "batch_size", "seed", "compile_")


def evaluate(
    context: typer.Context,
    source: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|IMAGES",
            help="A run folder; or images, a sub-folder for each class or an .npz, with --data.",
        ),
    ],
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
        str | None,
        typer.Option(
            help="The real images; of a run, where they are now.", show_default="where they were"
        ),
    ] = None,
    size: Size = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The folder for figures and page.", show_default="the run's; of images none"
        ),
    ] = None,
    device: Device = None,
    compile_: Compiled = False,
    as_json: Json = False,
) -> None:
    """Judge samples of a run, or images of any generator: figures with 95 % intervals.

    For a run, the figures are also written to evaluation.json, beside the page report.html.

    Example: fewlabel evaluate runs/a --scale 1,2,4 --json

    Example: fewlabel evaluate out/ --data birds --metrics fid,kid
    """
    from fewlabel.report.run_page import write_evaluation
    from fewlabel.run import load
    from fewlabel.run_folder import RunFolder

    is_run = RunFolder(source).exists
    if data is None and not is_run and source.exists():
        raise UserError(
            f"{source} is no run folder: it has no config.yaml; give another, or judge images "
            "with --data DATA"
        )
    if data is not None and not is_run:
        _refuse_given(context, _OF_RUNS, "the images are there already")
        _judge_images(source, data, size, names_of(metrics), extractor, device, out, as_json)
        return
    _refuse_given(context, ("size",), "a run knows its size")
    opened = load(source, device, compile_, data)
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


def _refuse_given(context: typer.Context, names: Sequence[str], why: str) -> None:
    """Refuse options that mean nothing here.

    Raises:
        UserError: for the first of them that was given.
    """
    options = {parameter.name: parameter.opts[0] for parameter in context.command.params}
    for name in names:
        found = context.get_parameter_source(name)
        if found is not None and found.name == "COMMANDLINE":
            raise UserError(f"{options[name]}: {why}; leave it out")


def _judge_images(
    images: Path,
    data: str,
    size: int | None,
    metrics: Sequence[str],
    extractor: str,
    device: str | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Judge images, print the figures, and write them into a folder if there is one."""
    from fewlabel import launched
    from fewlabel.data import open_dataset, refuse_inside
    from fewlabel.files import write_json
    from fewlabel.metrics.judging import judge
    from fewlabel.progress import track
    from fewlabel.run import find_device

    where = find_device(device)
    launched.go_on_alone()
    if out is not None:
        refuse_file(out)
        refuse_inside(data, out)
        refuse_inside(images, out)
        check_writable(out)
    with track("reading images") as task:
        dataset = open_dataset(data, size, task.set)
    report = judge(images, data=dataset, metrics=metrics, extractor=extractor, device=where)
    try:
        if out is not None:
            write_json(out / "evaluation.json", report.to_dict())
    finally:
        if as_json:
            print_json(report.to_dict())
        else:
            _tell(report, dataset.class_names)


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
    of_classes = figures_by_class(report, names, report.figures[0].scale)
    if of_classes is not None:
        print_table(of_classes)
    for warning in report.warnings:
        say(f"note: {warning}")
