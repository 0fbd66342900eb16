"""What a training or a comparison would cost, in lines for people."""

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["comparison_costs", "training_costs"]


def training_costs(document: Mapping[str, Any]) -> Iterator[str]:
    """The lines of `train --dry-run`.

    Args:
        document: what `fewlabel.training.estimate.estimate` gives.
    """
    yield document["summary"]
    for stage in document["stages"]:
        memory = stage["memory"]
        parts = ", ".join(
            f"{name} {size / 1e9:.2f}" for name, size in memory.items() if name != "total" and size
        )
        yield (
            f"{stage['stage']}: {stage['parameters'] / 1e6:.2f} million parameters; "
            f"{stage['steps']} steps of {stage['batch']}, "
            f"{stage['operations_per_step'] / 1e12:.3g} × 10¹² operations each: "
            f"{_hours(stage['hours'])}"
        )
        yield f"  memory {memory['total'] / 1e9:.2f} GB: {parts}"
    yield f"{_gpu(document)}, {document['precision']}: {_hours(document['hours'])}"
    yield from (f"note: {note}" for note in document["notes"])


def comparison_costs(document: Mapping[str, Any]) -> Iterator[str]:
    """The lines of `compare --dry-run`.

    Args:
        document: what `fewlabel.experiments.cost.estimate_comparison` gives.
    """
    yield f"{'method':<14}{'trainings':>10}{'hours':>12}{'samples':>12}{'hours':>12}{'memory':>10}"
    for row in document["rows"]:
        yield (
            f"{row['method']:<14}{row['trainings']:>10}{row['training_hours']:>12.4g}"
            f"{row['samples']:>12}{row['sampling_hours']:>12.4g}{row['memory'] / 1e9:>7.1f} GB"
        )
    yield f"{_gpu(document)}: {_hours(document['hours'])}"
    yield from (f"note: {note}" for note in document["notes"])


def _gpu(document: Mapping[str, Any]) -> str:
    return f"in all, on one {document['gpu']['name']}"


def _hours(hours: float) -> str:
    return f"about {hours:.3g} hours" if hours >= 0.1 else f"about {hours * 3600:.2g} seconds"
