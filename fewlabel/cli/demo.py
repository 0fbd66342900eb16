"""`fewlabel demo`."""

from pathlib import Path
from typing import Annotated

import typer

from fewlabel.cli.options import Json, Overrides, Size, print_json, say

__all__ = ["demo"]


def demo(
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="Images, as `train` takes them.")
    ] = "digits",
    labels: Annotated[str, typer.Option(help="Which labels may be used.")] = "0.05",
    out: Annotated[Path, typer.Option(help="The folder for runs and pictures.")] = Path(
        "runs/demo"
    ),
    size: Size = None,
    set_: Overrides = None,
    as_json: Json = False,
) -> None:
    """Compare cg and lpg on the same few labels: a table, a grid and a page.

    Example: fewlabel demo --out runs/demo
    """
    from fewlabel.experiments.demo import run_demo

    document = run_demo(out, data, labels, set_ or (), size)
    if as_json:
        print_json(document)
        return
    say("")
    for row in document["rows"]:
        interval = f"{row['value']:.3f}  [{row['low']:.3f}, {row['high']:.3f}]"
        say(f"{row['method']:<10} scale {row['scale']:<4g} {row['metric']:<10} {interval}")
    say("")
    say(f"grid    {document['grid']}")
    say(f"report  {document['report']}")
    say("")
    say("Next, with a folder of your own (a sub-folder per class, and unlabeled/ for the rest):")
    for command in document["next"]:
        say(f"  {command}")
