"""`fewlabel sample`."""

from pathlib import Path
from typing import Annotated

import typer

from fewlabel.cli.options import (
    BatchSize,
    Compiled,
    Device,
    Json,
    RunPath,
    SamplerSteps,
    Seed,
    numbers_of,
    print_json,
    say,
)
from fewlabel.errors import UserError

__all__ = ["sample"]


def sample(
    run: RunPath,
    label: Annotated[
        str | None, typer.Option(help="The class, by name or index.", show_default="every class")
    ] = None,
    n: Annotated[int, typer.Option("-n", help="How many images of each class asked for.")] = 16,
    scale: Annotated[
        float | None,
        typer.Option(
            help="Guidance: 0 ignores the class, 1 is Bayes, more is stricter.",
            show_default="the method's",
        ),
    ] = None,
    interval: Annotated[
        str | None,
        typer.Option(help="Noise levels σ/α LOW,HIGH between which there is guidance, as 0.3,5."),
    ] = None,
    temperature: Annotated[
        float, typer.Option(help="Divides the classifier's logits: more makes it less sure.")
    ] = 1.0,
    sampler: Annotated[str, typer.Option(help="See `fewlabel samplers`.")] = "dpm++",
    steps: SamplerSteps = None,
    seed: Seed = 0,
    batch_size: BatchSize = 256,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The folder for the images of this request alone.",
            show_default="a folder of its own in RUN/samples",
        ),
    ] = None,
    device: Device = None,
    compile_: Compiled = False,
    as_json: Json = False,
) -> None:
    """Draw images of a class, or of every class, and a grid of them.

    Example: fewlabel sample runs/a --label 3 -n 64 --scale 1.5 --out out/
    """
    from fewlabel.data.classes import index_of
    from fewlabel.progress import tell
    from fewlabel.report.samples import draw_to_folder
    from fewlabel.run import load

    opened = load(run, device, compile_)
    if label is not None and (found := index_of(label, opened.class_names)) and found[1]:
        name = opened.class_names[found[0]]
        tell(f"note: --label {label} is class {name}, by position")
    document = draw_to_folder(
        opened,
        out,
        label=label,
        n=n,
        scale=scale,
        sampler=sampler,
        steps=steps,
        seed=seed,
        batch_size=batch_size,
        interval=_ends(interval) if interval is not None else None,
        temperature=temperature,
    )
    if as_json:
        print_json(document)
        return
    cost = f"{document['nfe']} network evaluations each"
    say(f"{document['n']} samples in {document['folder']}, {cost}, {document['seconds']:.1f} s")
    say(f"Look at {document['grid']}")


def _ends(text: str) -> tuple[float, float]:
    """The two ends of an interval of noise levels, 0 ≤ low ≤ high."""
    ends = numbers_of("--interval", text, float)
    if len(ends) != 2 or not 0 <= ends[0] <= ends[1]:
        raise UserError(f"--interval {text}: give two noise levels from 0 up, the lower one first")
    return ends[0], ends[1]
