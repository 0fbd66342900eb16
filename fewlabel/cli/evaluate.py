"""`fewlabel evaluate`."""

from typing import Annotated

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
    device: Device = None,
    compile_: Compiled = False,
    as_json: Json = False,
) -> None:
    """Judge samples of every class: figures with 95 % intervals, and the page RUN/report.html.

    Example: fewlabel evaluate runs/a --scale 1,2,4 --json
    """
    from fewlabel.report.evaluation import figures_by_class, figures_by_draw
    from fewlabel.report.run_page import write_run_report
    from fewlabel.report.terminal import print_table
    from fewlabel.run import load

    opened = load(run, device, compile_, data)
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
    if as_json:
        print_json(report.to_dict())
        write_run_report(opened, report, command=this_command())
        return
    print_table(figures_by_draw(report))
    of_classes = figures_by_class(report, opened.class_names, report.draws[0].scale)
    if of_classes is not None:
        print_table(of_classes)
    for warning in report.warnings:
        say(f"note: {warning}")
    page = write_run_report(opened, report, command=this_command())
    say(f"report {page}")
