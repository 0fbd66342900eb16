"""Two moons with few labels: how score errors and accuracy depend on the number of labels.

Every classifier method of the table, and classifier-free guidance on all data, at several numbers
of labels with several draws each. The errors are those of the exact density, at points x_t of
p_t(x, y), each with its own class. One unconditional score model serves all classifiers, so that
what they share, the prior's error D_S, is the floor of their posterior's D_P.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewlabel.experiments.moons import (
    estimated_fields,
    finished_run,
    moons_mixture,
    settings,
)
from fewlabel.files import write_json, write_text
from fewlabel.methods import METHODS
from fewlabel.metrics.intervals import Estimate, batch_means
from fewlabel.metrics.score_error import Fields, exact_fields, noisy_points, score_errors
from fewlabel.process import VE
from fewlabel.progress import track
from fewlabel.randomness import generator_for
from fewlabel.run import Run

__all__ = ["QUICK", "Effort", "reproduce_few_label_moons"]

Row = dict[str, Any]
Summary = dict[tuple[str, float], dict[str, dict[int, Estimate]]]

PROCESS = VE(0.1, 20.0)
SIGMAS = (1.0, 3.0, 7.5)
METRICS = ("D_P", "D_L", "accuracy")


@dataclass(frozen=True)
class Effort:
    """How much is computed.

    Attributes:
        methods: the methods that are compared.
        counts: numbers of labels, each a multiple of the two classes.
        draws: draws of the labels at each number; a draw also has a seed of training of its own.
        score_steps: training steps of the score models.
        classifier_steps: training steps of the classifiers.
        points: points x_t behind each figure.
    """

    methods: tuple[str, ...] = (*(name for name in METHODS if name.startswith("cg")), "cfg-all")
    counts: tuple[int, ...] = (4, 10, 40, 200)
    draws: int = 5
    score_steps: int = 5000
    classifier_steps: int = 1000
    points: int = 2000


QUICK = Effort(
    methods=("cg", "cg-dlsm", "cg-sc-all"),
    counts=(4, 10, 40),
    draws=3,
    score_steps=3000,
    classifier_steps=350,
    points=1000,
)
"""The quick form: three methods, three numbers of labels, three draws, fewer steps."""


@dataclass(frozen=True)
class _Level:
    """Points of p_t(x, y) at one noise level, their classes, and the exact scores there."""

    sigma: float
    x: Tensor
    y: Tensor
    exact: Fields
    bayes_accuracy: float


def reproduce_few_label_moons(out: Path, effort: Effort = Effort()) -> dict[str, Any]:
    """Train every method at every number of labels and draw, measure, summarise, draw a figure.

    Runs that are finished are not trained again.

    Args:
        out: the folder; it gets runs/, table.json, table.md and labels.png.
        effort: how much is computed.

    Returns:
        The document of table.json.
    """
    from fewlabel.report.fields import label_curves

    began = time.monotonic()
    score = finished_run(out / "runs" / "score", "cg", overrides=_overrides(effort, 1))
    levels = _levels(effort.points)
    cells = [
        (n, draw, method)
        for n in effort.counts
        for draw in range(effort.draws)
        for method in effort.methods
    ]
    rows: list[Row] = []
    with track("few-label-moons: runs") as task:
        for done, (n, draw, method) in enumerate(cells):
            task.set(done, len(cells), f"{method}, {n} labels, draw {draw}")
            run = _run(out / "runs", method, n, draw, score.folder.path, effort)
            rows += _rows(run, method, n, draw, levels)
        task.set(len(cells), len(cells))
    summary = _summary(rows)
    document = {
        "experiment": "few-label-moons",
        "rows": rows,
        "summary": _summary_rows(summary),
        "bayes_accuracy": {f"{level.sigma:g}": level.bayes_accuracy for level in levels},
        "protocol": _protocol(effort),
        "figure": str(out / "labels.png"),
        "seconds": round(time.monotonic() - began, 1),
    }
    label_curves(
        {key: curves for key, curves in summary.items() if key[0] in METRICS}, out / "labels.png"
    )
    write_json(out / "table.json", document)
    write_text(out / "table.md", _markdown(document, summary, effort))
    return document


def _run(out: Path, method: str, n: int, draw: int, score: Path, effort: Effort) -> Run:
    """The trained run of a method at a number of labels and a draw of them."""
    return finished_run(
        out / f"{method}-{n}-{draw}",
        method,
        labels=f"{n // 2}/class",
        seed=draw,
        score=score if METHODS[method].guidance == "classifier" else None,
        overrides=_overrides(effort, effort.classifier_steps),
    )


def _overrides(effort: Effort, classifier_steps: int) -> tuple[str, ...]:
    intervals = {"log_every": 100, "validate_every": 500, "checkpoint_every": 1000}
    score = {"steps": effort.score_steps, "batch": 512, "learning_rate": 3e-3, "ema": 0.998}
    classifier = {"steps": classifier_steps, "batch": 256, "learning_rate": 4e-3}
    return (
        *settings("process", PROCESS.config()),
        *settings("score", {"widths": "[128]", "layers": 3}),
        *settings("score.fit", score | intervals),
        *settings("classifier", {"widths": "[64]", "layers": 2}),
        *settings("classifier.fit", classifier | intervals),
    )


def _levels(n: int) -> list[_Level]:
    mixture, levels = moons_mixture(), []
    posterior = mixture.log_posterior(PROCESS)
    for sigma in SIGMAS:
        x, y = noisy_points(mixture, PROCESS, sigma, n, generator_for("few labels", str(sigma)))
        best = posterior(x, PROCESS.time_at(torch.tensor(sigma))).argmax(1)
        accuracy = float((best == y).double().mean())
        levels.append(_Level(sigma, x, y, exact_fields(mixture, PROCESS, sigma, x, y), accuracy))
    return levels


def _rows(run: Run, method: str, n: int, draw: int, levels: Sequence[_Level]) -> list[Row]:
    """The errors of a run at every noise level, and the accuracy of its classifier if it has one.

    Those of classifier guidance are at scale 1, Bayes' rule, as the errors mean it.
    """
    rows = []
    for level in levels:
        estimate = estimated_fields(run, level.sigma, level.x, level.y)
        figures = score_errors(estimate, level.exact)
        if run.method.classifier:
            t = run.classifier.process.time_at(torch.tensor(level.sigma))
            with torch.no_grad():
                hits = run.classifier(level.x, t).argmax(1) == level.y
            figures["accuracy"] = float(hits.double().mean())
        where = {"method": method, "n_labels": n, "draw": draw}
        rows += [
            {**where, "metric": metric, "sigma": level.sigma, "value": value}
            for metric, value in figures.items()
        ]
    return rows


def _summary(rows: Sequence[Row]) -> Summary:
    """The mean over draws with its 95 % interval; of a single draw the interval is a point."""
    values: dict[tuple[str, float], dict[str, dict[int, list[float]]]] = {}
    for row in rows:
        panel = values.setdefault((row["metric"], row["sigma"]), {})
        panel.setdefault(row["method"], {}).setdefault(row["n_labels"], []).append(row["value"])
    return {
        key: {
            method: {n: _over_draws(found) for n, found in by_count.items()}
            for method, by_count in panel.items()
        }
        for key, panel in sorted(values.items(), key=lambda item: _order(*item[0]))
    }


def _order(metric: str, sigma: float) -> tuple[int, float]:
    return (METRICS.index(metric) if metric in METRICS else len(METRICS), sigma)


def _over_draws(values: Sequence[float]) -> Estimate:
    mean = sum(values) / len(values)
    return batch_means(mean, values) if len(values) > 1 else Estimate(mean, mean, mean)


def _summary_rows(summary: Summary) -> list[Row]:
    return [
        {
            "method": method,
            "n_labels": n,
            "metric": metric,
            "sigma": sigma,
            "value": estimate.value,
            "low": estimate.low,
            "high": estimate.high,
        }
        for (metric, sigma), panel in summary.items()
        for method, points in panel.items()
        for n, estimate in points.items()
    ]


def _protocol(effort: Effort) -> dict[str, str]:
    return {
        "data": "moons: 10,000 points, 9,000 train; the oracle is all 10,000",
        "labels": f"{', '.join(map(str, effort.counts))}, half of each class; {effort.draws} "
        "draws",
        "process": f"VE, σ in [{PROCESS.sigma_min:g}, {PROCESS.sigma_max:g}]",
        "errors": f"mean Euclidean norm over {effort.points} points of p_t(x, y), each with its "
        "own class, at guidance scale 1",
        "intervals": "95 % (Student's t) over draws; a draw has its own labels, weights and noise",
        "training": f"{effort.score_steps} steps for score models, {effort.classifier_steps} for "
        "classifiers, weights of the losses as in the table of methods",
        "choice": "nothing is held out for the errors: the oracle is exact",
    }


def _markdown(document: Mapping[str, Any], summary: Summary, effort: Effort) -> str:
    """A table a metric and noise level: a line a method, a column a number of labels."""
    lines = ["Two moons with few labels: mean over draws [95 % interval].", ""]
    for (metric, sigma), panel in summary.items():
        bayes = document["bayes_accuracy"][f"{sigma:g}"]
        best = f" (Bayes' rule: {bayes:.3f})" if metric == "accuracy" else ""
        heads = " | ".join(f"{n} labels" for n in effort.counts)
        lines += [f"{metric} at σ = {sigma:g}{best}", "", f"| method | {heads} |"]
        lines.append("| --- " * (len(effort.counts) + 1) + "|")
        for method, points in panel.items():
            cells = [f"{e.value:.3f} [{e.low:.3f}, {e.high:.3f}]" for e in points.values()]
            lines.append(f"| {method} | {' | '.join(cells)} |")
        lines.append("")
    lines += [f"- {key}: {value}" for key, value in document["protocol"].items()]
    return "\n".join([*lines, f"- time: {document['seconds']} s", ""])
