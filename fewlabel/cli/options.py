"""The options that several commands share."""

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from fewlabel.errors import UserError
from fewlabel.progress import speaks
from fewlabel.texts import shown

__all__ = [
    "BatchSize",
    "Compiled",
    "Device",
    "DryRun",
    "Gpu",
    "Json",
    "Overrides",
    "Preset",
    "Recipe",
    "RunPath",
    "SamplerSteps",
    "ScaleDown",
    "Seed",
    "Size",
    "Strict",
    "numbers_of",
    "print_json",
    "say",
    "this_command",
]

RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, as `train` makes it.")]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document and nothing else to stdout.")
]
Strict = Annotated[
    bool,
    typer.Option("--strict", help="Refuse broken images, rather than skip and count them."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change any field of the configuration."),
]
Device = Annotated[
    str | None, typer.Option(help="cpu or cuda.", show_default="a GPU if there is one")
]
Size = Annotated[
    int | None, typer.Option(help="Side of the images.", show_default="the data's, at most 64")
]
Preset = Annotated[
    str | None,
    typer.Option(
        help="Network sizes and lengths: tiny, small, ddpm, ddpm++, ncsn++.",
        show_default="by image size",
    ),
]
SamplerSteps = Annotated[
    int | None, typer.Option(help="Steps of the sampler.", show_default="the sampler's")
]
Compiled = Annotated[
    bool,
    typer.Option("--compile", help="Compile the models first: minutes, for many samples."),
]
Recipe = Annotated[str | None, typer.Option(help="Published settings; see `fewlabel recipes`.")]
ScaleDown = Annotated[
    bool, typer.Option("--scale-down", help="The recipe with small networks and few steps.")
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Check everything, tell what it would cost, write nothing."),
]
Gpu = Annotated[
    str, typer.Option(help="The GPU whose hours --dry-run tells, such as h100, rtx4090, v100.")
]
BatchSize = Annotated[
    int, typer.Option(help="How many are drawn together: fewer need less memory.")
]
Number = TypeVar("Number", int, float)

Seed = Annotated[int, typer.Option(help="Fixes the noise of the samples.")]


def this_command() -> str:
    """The command that was typed, to be told where its results are."""
    return shlex.join(["fewlabel", *sys.argv[1:]])


def print_json(document: Any) -> None:
    """Put one JSON document on standard output."""
    if not speaks():
        return
    json.dump(document, sys.stdout, indent=1)
    sys.stdout.write("\n")


def say(text: str) -> None:
    """Put a line for people on standard output; control characters in it are shown, not sent."""
    if speaks():
        print(shown(text))


def names_of(text: str) -> list[str]:
    """The names in the text of an option, such as "lpg,cg"; spaces around them do not count."""
    return [name.strip() for name in text.split(",")]


def numbers_of(option: str, text: str, kind: type[Number]) -> list[Number]:
    """The numbers in the text of an option, such as "1,2,4".

    Args:
        option: its name.
        text: what was given.
        kind: float, or int for whole numbers.

    Raises:
        UserError: if it is no list of them.
    """
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        whole = "whole " if kind is int else ""
        raise UserError(f"{option} {text}: not {whole}numbers; write them as 1,2,4") from None
