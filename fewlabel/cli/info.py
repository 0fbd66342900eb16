"""`fewlabel info`, `fewlabel methods` and `fewlabel datasets`: what there is."""

from fewlabel.cli.options import Json, RunPath, print_json, say

__all__ = ["datasets", "info", "methods"]


def info(run: RunPath, as_json: Json = False) -> None:
    """Tell what a run is and how far it came.

    Example: fewlabel info runs/a --json
    """
    from fewlabel.run_folder import RunFolder, summary

    document = summary(RunFolder(run))
    if as_json:
        print_json(document)
        return
    for key, value in document.items():
        if isinstance(value, dict):
            value = ", ".join(f"{name} {entry}" for name, entry in value.items())
        say(f"{key:<12} {value}")


def methods(as_json: Json = False) -> None:
    """List the methods, one line each.

    Example: fewlabel methods
    """
    from fewlabel.methods import METHODS

    if as_json:
        print_json(
            [{"name": n, "summary": m.summary, "source": m.source} for n, m in METHODS.items()]
        )
        return
    for name, method in METHODS.items():
        say(f"{name:<14} {method.summary} ({method.source})")


def datasets(as_json: Json = False) -> None:
    """List the built-in datasets, one line each.

    Example: fewlabel datasets
    """
    from fewlabel.data import BUILTIN

    if as_json:
        print_json([{"name": n, "summary": row.summary} for n, row in BUILTIN.items()])
        return
    for name, row in BUILTIN.items():
        say(f"{name:<14} {row.summary}")
    say("FOLDER         one sub-folder per class, and unlabeled/ for images without a label")
