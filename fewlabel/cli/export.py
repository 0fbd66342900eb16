"""`fewlabel export`."""

from pathlib import Path
from typing import Annotated

import typer

from fewlabel.cli.options import Json, RunPath, print_json, say

__all__ = ["export"]


def export(
    run: RunPath,
    out: Annotated[Path, typer.Option(help="The folder to make.")],
    to: Annotated[str, typer.Option(help="What for: diffusers.")] = "diffusers",
    as_json: Json = False,
) -> None:
    """Write a run's models as a folder that diffusers loads, with a model card.

    Example: fewlabel export runs/a --to diffusers --out exported/
    """
    from fewlabel.interop.export import export_run

    files = export_run(run, out, to)
    if as_json:
        print_json({"out": str(out), "files": [str(path) for path in files]})
        return
    say(f"{out} holds {len(files)} files. How to sample: {out / 'README.md'}")
