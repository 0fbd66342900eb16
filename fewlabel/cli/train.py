"""`fewlabel train`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from fewlabel.cli.options import (
    Device,
    DryRun,
    Gpu,
    Json,
    Overrides,
    Preset,
    Recipe,
    ScaleDown,
    Size,
    Strict,
    print_json,
    say,
)

__all__ = ["train"]


def train(
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="DATA",
            help="A built-in name (digits, moons), an .npz file, mnist:, cifar10: or hf:PATH; or "
            "a folder: one sub-folder per class, and unlabeled/ for images without a label, or "
            "images and labels.csv.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The run folder.", show_default="runs/DATA")
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="See `fewlabel methods`.", show_default="lpg")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help="Which labels may be used: a fraction (0.05), a number per class (4/class), "
            "all, or a CSV of files, which may give labels too (columns file and label).",
            show_default="all",
        ),
    ] = None,
    score: Annotated[
        Path | None, typer.Option(help="Use the score model of this run, train a classifier only.")
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            help="What labels the unlabelled, for lpg and dpt-lp: a run, by its classifier if it "
            "has one; features:RUN, along its score model's features; transformers:NAME or "
            "inception:FILE, along a vision model's; or FILE.csv, by the probabilities in it "
            "(columns file and each class).",
            show_default="the method's own",
        ),
    ] = None,
    size: Size = None,
    preset: Preset = None,
    steps: Annotated[
        int | None, typer.Option(help="Training steps of each stage.", show_default="the preset's")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Fixes labels, weights, order and noise.", show_default="0")
    ] = None,
    device: Device = None,
    config: Annotated[
        Path | None, typer.Option(help="Read settings from a YAML file, as RUN/config.yaml.")
    ] = None,
    set_: Overrides = None,
    balance: Annotated[
        bool, typer.Option("--balance", help="Draw labelled examples equally often of each class.")
    ] = False,
    flip: Annotated[
        bool, typer.Option("--flip", help="Mirror images at random as they train: photographs.")
    ] = False,
    strict: Strict = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write curves to OUT/tensorboard.")
    ] = False,
    recipe: Recipe = None,
    scale_down: ScaleDown = False,
    dry_run: DryRun = False,
    gpu: Gpu = "a100",
    as_json: Json = False,
) -> None:
    """Train a score model on all data, and a classifier from the few labels.

    Stopped or killed, the same command goes on from the last checkpoint.

    Example: fewlabel train digits --labels 0.05 --out runs/a
    """
    from fewlabel.program import command
    from fewlabel.report.costs import training_costs
    from fewlabel.run_folder import summary
    from fewlabel.training.estimate import estimate
    from fewlabel.training.train import default_out, prepare, train

    out = out or default_out(data)
    given: dict[str, Any] = {
        "out": out,
        "score": score,
        "teacher": teacher,
        "steps": steps,
        "config": config,
        "overrides": set_ or (),
        "device": device,
        "strict": strict,
        "balance": balance,
        "flip": flip,
        "tensorboard": tensorboard,
        "recipe": recipe,
        "scale_down": scale_down,
    }
    options: dict[str, Any] = {
        "method": method,
        "labels": labels,
        "size": size,
        "preset": preset,
        "seed": seed,
    }
    if dry_run:
        document = estimate(prepare(data, options=options, **given), gpu)
        if as_json:
            print_json(document)
        else:
            for line in training_costs(document):
                say(line)
        return
    run = train(data, **options, **given)
    if as_json:
        print_json(summary(run.folder))
        return
    say(f"{out} is trained. Next:")
    scales = ["--scale", "1,2,4"] if run.method.guided else []
    say(f"  {command('sample', out, '--label', run.class_names[0], '-n', 64)}")
    say(f"  {command('evaluate', out, *scales)}")
