"""`fewlabel reproduce`."""

from pathlib import Path
from typing import Annotated

import typer

from fewlabel.cli.options import Json, print_json, say

__all__ = ["reproduce"]


def reproduce(
    experiment: Annotated[
        str, typer.Argument(metavar="EXPERIMENT", help="dlsm-moons or few-label-moons.")
    ],
    out: Annotated[Path, typer.Option(help="The folder for runs, table and figure.")],
    recipe: Annotated[
        str, typer.Option(help="own; of dlsm-moons also paper: the published settings, hours.")
    ] = "own",
    quick: Annotated[
        bool, typer.Option("--quick", help="few-label-moons with fewer methods and draws.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Do a published experiment again, beside its published figures.

    Stopped or killed, the same command goes on from there.

    Example: fewlabel reproduce dlsm-moons --out rep/
    """
    from fewlabel.experiments.reproduce import reproduce

    document = reproduce(experiment, out, "quick" if quick else recipe)
    if as_json:
        print_json(document)
        return
    say((out / "table.md").read_text(encoding="utf-8"))
    say(f"figure  {document['figure']}")
