"""`fewlabel datasets`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from fewlabel.cli.options import Json, Size, Strict, print_json, say
from fewlabel.errors import UserError

__all__ = ["datasets"]

_SHOWN = 8


def datasets(
    data: Annotated[
        str | None, typer.Argument(metavar="DATA", help="What to look at; leave out for a list.")
    ] = None,
    size: Size = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The sheet of examples.", show_default="./NAME-sheet.png"),
    ] = None,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Tell what a dataset holds and draw a sheet of examples; or list what DATA may be.

    Example: fewlabel datasets birds/ --size 32 --out birds.png
    """
    if data is None:
        _list(as_json)
        return
    from fewlabel.data import open_dataset, refuse_inside
    from fewlabel.progress import tell, track
    from fewlabel.report.data_sheet import describe, draw_sheet

    with track("reading images") as task:
        dataset = open_dataset(data, size, task.set, strict)
    for remark in dataset.remarks():
        tell(f"note: {remark}")
    out = out or Path(f"{Path(dataset.name).stem}-sheet.png")
    refuse_inside(data, out)
    if out.suffix.lower() != ".png":
        raise UserError(f"--out {out}: the sheet is a PNG; give a name that ends in .png")
    found = {"data": data, **describe(dataset)}
    found["sheet"] = str(draw_sheet(dataset, out))
    if as_json:
        print_json(found)
        return
    _tell(found)


def _list(as_json: bool) -> None:
    from fewlabel.data import BUILTIN, FORMS

    rows = {
        **{name: row.summary for name, row in BUILTIN.items()},
        "FOLDER": "one sub-folder per class, and unlabeled/ for images without a label; or "
        "images and labels.csv (file,label)",
        "FILE.npz": "arrays: images (N,H,W[,C]) uint8 or vectors (N,D), and labels (N,), −1 for "
        "none",
        **{f"{prefix}:PATH": summary for prefix, summary in FORMS.items()},
    }
    if as_json:
        print_json([{"name": name, "summary": summary} for name, summary in rows.items()])
        return
    for name, summary in rows.items():
        say(f"{name:<14} {summary}")


def _tell(found: dict[str, Any]) -> None:
    shape = "×".join(map(str, [*found["shape"][1:], found["shape"][0]]))
    held_out = f", {found['test']} of them its own test part" if found["test"] else ""
    say(f"{found['name']}: {found['examples']} examples of {shape}{held_out}")
    sizes = list(found["sizes"].items())
    if sizes:
        more = f", {len(sizes) - _SHOWN} other sizes" if len(sizes) > _SHOWN else ""
        say("sizes          " + ", ".join(f"{s}: {n}" for s, n in sizes[:_SHOWN]) + more)
    say(f"labelled       {found['labelled']} in {len(found['classes'])} classes")
    for name, count in found["classes"].items():
        say(f"  {name:<12} {count}")
    say(f"unlabelled     {found['unlabelled']}")
    files = found["broken_files"]
    more = ", …" if found["broken"] > len(files) else ""
    say(f"broken         {found['broken']}" + (f": {', '.join(files)}{more}" if files else ""))
    if found["unread"]:
        kinds = list(found["unread"].items())
        more = ", …" if len(kinds) > _SHOWN else ""
        named = ", ".join(
            f"{count} {kind or 'without an ending'}" for kind, count in kinds[:_SHOWN]
        )
        say(f"not read       {named}{more}")
    say(f"sheet          {found['sheet']}")
