"""`fewlabel import`."""

from pathlib import Path
from typing import Annotated

import typer

from fewlabel.cli.options import Json, print_json, say

__all__ = ["import_"]


def import_(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A folder of diffusers (a DDPM, DDIM or score-SDE VE pipeline, or a UNet2DModel) "
            "or its name on the hub, or a .pth file of the published score-SDE or DLSM code.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The run folder.")],
    size: Annotated[
        int | None, typer.Option(help="Side of the images.", show_default="what SOURCE tells")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="The noise schedule, where SOURCE does not tell: beta_schedule, beta_start, "
            "beta_end, num_train_timesteps, prediction_type, or sigma_min and sigma_max for VE; "
            "of a .pth sde (vp, subvp), beta_min, beta_max, sigma_min, sigma_max.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a run of an unconditional score model that was trained elsewhere.

    Nothing in SOURCE is run: only tensors and plain values are read.

    Example: fewlabel import google/ddpm-cifar10-32 --out runs/cifar
    """
    from fewlabel.interop.importing import import_model
    from fewlabel.program import command
    from fewlabel.run_folder import summary

    run = import_model(source, out, size=size, settings=set_ or (), device="cpu")
    if as_json:
        print_json(summary(run.folder))
        return
    say(f"{out} is a run with the score model of {source}. Next:")
    say(f"  {command('sample', out, '-n', 16)}")
    say(f"  {command('train', 'DATA', '--score', out, '--out', 'runs/guided')}")
