"""`fewlabel reproduce`."""

from pathlib import Path
from typing import Annotated

import typer

from fewlabel.cli.options import Json, print_json, say

__all__ = ["reproduce"]


def reproduce(
    experiment: Annotated[
        str,
        typer.Argument(
            metavar="EXPERIMENT",
            help="dlsm-moons, few-label-moons, cifar10-dlsm or cifar10-few-labels.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The folder for runs, table and figure.")],
    recipe: Annotated[
        str, typer.Option(help="own; of dlsm-moons also paper: the published settings, hours.")
    ] = "own",
    quick: Annotated[
        bool, typer.Option("--quick", help="few-label-moons with fewer methods and draws.")
    ] = False,
    data: Annotated[
        str | None, typer.Option(help="The images of cifar10-…, such as cifar10:FOLDER.")
    ] = None,
    extractor: Annotated[
        str, typer.Option(help="Features of cifar10-…; inception:FILE as published.")
    ] = "judge",
    scale_down: Annotated[
        bool, typer.Option("--scale-down", help="cifar10-… with small networks and few steps.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Do a published experiment again, beside its published figures where they are known.

    Stopped or killed, the same command goes on from there.

    Example: fewlabel reproduce dlsm-moons --out rep/
    """
    from fewlabel.experiments.reproduce import reproduce

    document = reproduce(
        experiment,
        out,
        "quick" if quick else recipe,
        data=data,
        extractor=extractor,
        scale_down=scale_down,
    )
    if as_json:
        print_json(document)
        return
    for line in (out / "table.md").read_text(encoding="utf-8").splitlines():
        say(line)
    shown = next(key for key in ("figure", "report") if key in document)
    say(f"{shown}  {document[shown]}")
