"""`fewlabel info`, `methods`, `recipes`, `samplers` and `metrics`: what there is."""

from typing import Any

from fewlabel.cli.options import Json, RunPath, print_json, say

__all__ = ["info", "methods", "metrics", "recipes", "samplers"]


def info(run: RunPath, as_json: Json = False) -> None:
    """Tell what a run is and how far it came.

    Example: fewlabel info runs/a --json
    """
    from fewlabel.run_folder import RunFolder, summary

    document = summary(RunFolder(run))
    if as_json:
        print_json(document)
        return
    if document["score_from"]:
        document["score_from"] += f" ({document.pop('score_source')})"
    for key, value in document.items():
        if value is not None and value != {}:
            say(f"{key:<12} {_readable(value)}")


def methods(as_json: Json = False) -> None:
    """List the methods, one line each.

    Example: fewlabel methods
    """
    from fewlabel.methods import METHODS

    _list(
        [{"name": n, "summary": m.summary, "source": m.source} for n, m in METHODS.items()],
        as_json,
    )


def samplers(as_json: Json = False) -> None:
    """List the samplers, one line each.

    Example: fewlabel samplers
    """
    from fewlabel.samplers import SAMPLERS

    _list([{"name": name, "summary": row.summary} for name, row in SAMPLERS.items()], as_json)


def metrics(as_json: Json = False) -> None:
    """List the metrics, one line each.

    Example: fewlabel metrics
    """
    from fewlabel.metrics.table import METRICS

    _list([{"name": name, "summary": row.summary} for name, row in METRICS.items()], as_json)


def recipes(as_json: Json = False) -> None:
    """List the recipes of `train --recipe` and `compare --recipe`, one line each.

    Example: fewlabel recipes
    """
    from fewlabel.recipes import RECIPES, find_recipe

    _list([{"name": name, "summary": find_recipe(name).summary} for name in RECIPES], as_json)


def _readable(value: Any) -> str:
    """A figure, a list or a mapping on one line."""
    if isinstance(value, dict):
        of_stages = any(isinstance(entry, dict) for entry in value.values())
        parts = [f"{name}: " if of_stages else f"{name} " for name in value]
        entries = map(_readable, value.values())
        return ("; " if of_stages else ", ").join(map("".join, zip(parts, entries, strict=True)))
    if isinstance(value, list):
        return ", ".join(map(_readable, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _list(rows: list[dict[str, str]], as_json: bool) -> None:
    """Print a table of names as JSON, or a line a name."""
    if as_json:
        print_json(rows)
        return
    for row in rows:
        source = f" ({row['source']})" if "source" in row else ""
        say(f"{row['name']:<15} {row['summary']}{source}")
