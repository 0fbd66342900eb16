"""`fewlabel compare`."""

from pathlib import Path
from typing import Annotated

import typer

from fewlabel.cli.options import (
    DryRun,
    Gpu,
    Json,
    Overrides,
    Preset,
    Recipe,
    SamplerSteps,
    ScaleDown,
    Size,
    names_of,
    numbers_of,
    print_json,
    say,
)

__all__ = ["compare"]


def compare(
    data: Annotated[str, typer.Argument(metavar="DATA", help="Images, as `train` takes them.")],
    methods: Annotated[
        str | None,
        typer.Option(
            help="Methods with commas; see `fewlabel methods`.",
            show_default="the recipe's, or cg,cg-dlsm,cg-sc-all,cfg-all,lpg",
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help="Amounts of labels with commas, such as 4/class,0.05,all.",
            show_default="the recipe's, or 0.05",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Seeds of training.")] = 1,
    draws: Annotated[
        int | None,
        typer.Option(help="Draws of the labels, each with every seed.", show_default="one a seed"),
    ] = None,
    out: Annotated[Path, typer.Option(help="The folder for runs, tables and pictures.")] = Path(
        "runs/comparison"
    ),
    scale: Annotated[
        str | None,
        typer.Option(
            help="Guidance scales to choose from on the validation split.",
            show_default="1,1.5,2,3,4,6,9",
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            help="What is reported; see `fewlabel metrics`.",
            show_default="the recipe's, or accuracy,intra-fid,fid,cas",
        ),
    ] = None,
    n: Annotated[
        int | None,
        typer.Option(
            "-n",
            help="Samples of each class that are reported.",
            show_default="the recipe's, or 100",
        ),
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(help="See `fewlabel samplers`.", show_default="the recipe's, or dpm++"),
    ] = None,
    steps: SamplerSteps = None,
    score: Annotated[
        Path | None,
        typer.Option(help="Share the score model of this run.", show_default="one is trained"),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            help="What labels the unlabelled, for the methods that take it; see `train --help`.",
            show_default="the shared score model's features",
        ),
    ] = None,
    size: Size = None,
    preset: Preset = None,
    jobs: Annotated[int, typer.Option(help="Cells computed at the same time.")] = 1,
    extractor: Annotated[
        str | None,
        typer.Option(
            help="Features of distances: judge, inception:FILE, transformers:NAME.",
            show_default="judge",
        ),
    ] = None,
    set_: Overrides = None,
    recipe: Recipe = None,
    scale_down: ScaleDown = False,
    dry_run: DryRun = False,
    gpu: Gpu = "a100",
    as_json: Json = False,
) -> None:
    """Compare methods on the same labels, every scale and weight chosen on a validation split.

    Stopped or killed, the same command goes on without repeating a finished cell. More methods,
    labels or draws may be added to a comparison later.

    Example: fewlabel compare digits --methods cg,lpg --labels 2/class,0.05 --out cmp
    """
    from fewlabel.experiments.compare import run_comparison
    from fewlabel.experiments.compare_results import refuse_nothing, write_results
    from fewlabel.experiments.cost import estimate_comparison
    from fewlabel.experiments.grid import grid
    from fewlabel.report.costs import comparison_costs

    asked = grid(
        data,
        recipe,
        scale_down,
        names_of(methods) if methods is not None else None,
        names_of(labels) if labels is not None else None,
        seeds,
        draws,
        size=size,
        preset=preset,
        overrides=tuple(set_ or ()),
        scales=tuple(numbers_of("--scale", scale, float)) if scale is not None else None,
        metrics=tuple(names_of(metrics)) if metrics is not None else None,
        per_class=n,
        sampler=sampler,
        steps=steps,
        score=str(score) if score is not None else None,
        teacher=teacher,
        extractor=extractor,
    )
    if dry_run:
        document = estimate_comparison(asked, gpu, out)
        if as_json:
            print_json(document)
        else:
            for line in comparison_costs(document):
                say(line)
        return
    document = write_results(run_comparison(out, asked, jobs=jobs), asked)
    if as_json:
        print_json(document)
    else:
        say("")
        for line in (out / "table.md").read_text(encoding="utf-8").splitlines():
            say(line)
        for note in document["notes"]:
            say(f"note: {note}")
        say(f"report  {document['report']}")
    refuse_nothing(document)
