"""`fewlabel compare`."""

from pathlib import Path
from typing import Annotated

import typer

from fewlabel.cli.options import (
    Json,
    Overrides,
    Preset,
    SamplerSteps,
    Size,
    numbers_of,
    print_json,
    say,
)

__all__ = ["compare"]


def compare(
    data: Annotated[str, typer.Argument(metavar="DATA", help="Images, as `train` takes them.")],
    methods: Annotated[
        str, typer.Option(help="Methods with commas; see `fewlabel methods`.")
    ] = "cg,cg-dlsm,cg-sc-all,cfg-all",
    labels: Annotated[
        str, typer.Option(help="Amounts of labels with commas, such as 4/class,0.05,all.")
    ] = "0.05",
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
        str, typer.Option(help="What is reported; see `fewlabel metrics`.")
    ] = "accuracy,intra-fid,fid,cas",
    n: Annotated[int, typer.Option("-n", help="Samples of each class that are reported.")] = 100,
    sampler: Annotated[str, typer.Option(help="See `fewlabel samplers`.")] = "dpm++",
    steps: SamplerSteps = None,
    score: Annotated[
        Path | None,
        typer.Option(help="Share the score model of this run.", show_default="one is trained"),
    ] = None,
    size: Size = None,
    preset: Preset = None,
    jobs: Annotated[int, typer.Option(help="Cells computed at the same time.")] = 1,
    set_: Overrides = None,
    as_json: Json = False,
) -> None:
    """Compare methods on the same labels, every scale and weight chosen on a validation split.

    Stopped or killed, the same command goes on without repeating a finished cell. More methods,
    labels or draws may be added to a comparison later.

    Example: fewlabel compare digits --methods cg,cg-sc-all --labels 2/class,0.05 --out cmp
    """
    from fewlabel.experiments.compare import run_comparison
    from fewlabel.experiments.compare_cells import Protocol
    from fewlabel.experiments.compare_results import write_results

    scales = Protocol.scales if scale is None else tuple(numbers_of("--scale", scale))
    protocol = Protocol(
        data,
        size,
        preset,
        tuple(set_ or ()),
        scales,
        metrics=tuple(metrics.split(",")),
        per_class=n,
        sampler=sampler,
        steps=steps,
        score=str(score) if score is not None else None,
    )
    grid = methods.split(","), labels.split(",")
    comparison = run_comparison(out, protocol, *grid, seeds=seeds, draws=draws, jobs=jobs)
    document = write_results(comparison, protocol, *grid)
    if as_json:
        print_json(document)
        return
    say("")
    say((out / "table.md").read_text(encoding="utf-8"))
    say(f"report  {document['report']}")
