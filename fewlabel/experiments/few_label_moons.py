"""Two moons with few labels: how score errors and accuracy depend on the number of labels.

The methods with a classifier, and classifier-free guidance on all data, at several numbers
of labels with several draws each. The errors are those of the exact density, at points x_t of
p_t(x, y), each with its own class. One unconditional score model serves all classifiers, so that
what they share, the prior's error D_S, is the floor of their posterior's D_P.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fewlabel.calibration import Reliability, ece, reliability
from fewlabel.experiments.document import write_document
from fewlabel.experiments.moons import (
    Entry,
    class_probabilities,
    draw_points,
    estimated_fields,
    finished_run,
    moons_mixture,
    training_settings,
)
from fewlabel.files import write_text
from fewlabel.methods import METHODS
from fewlabel.metrics.intervals import Estimate, over_seeds
from fewlabel.metrics.score_error import (
    Fields,
    exact_fields,
    noisy_points,
    plane_grid,
    score_errors,
)
from fewlabel.oracle import GaussianMixture
from fewlabel.process import VE
from fewlabel.progress import track
from fewlabel.randomness import generator_for
from fewlabel.report.fields import Overview, moons_overview
from fewlabel.run import Run

__all__ = ["QUICK", "Effort", "reproduce_few_label_moons"]

Row = dict[str, Any]
Summary = dict[tuple[str, float], dict[str, dict[int, Estimate]]]

PROCESS = VE(0.1, 20.0)
SIGMAS = (1.0, 3.0, 7.5)
METRICS = ("D_P", "D_L", "accuracy", "ECE")
DRAWN = ("D_P", "accuracy", "ECE")
LEVELS = (0.3, 1.0, 2.0, 3.0, 5.0, 7.5, 12.0, 20.0)
SAMPLER = "sde-dpm++"
FIELD_SIGMA = 7.5
_SCORE_RATE = 3e-3


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
        shown: the number of labels whose samples, fields and reliability are drawn.
        samples: samples of each class that are drawn.
        sampler_steps: steps of the sampler.
    """

    methods: tuple[str, ...] = (
        *(name for name in METHODS if name.startswith("cg")),
        "cfg-all",
        "lpg",
    )
    counts: tuple[int, ...] = (4, 10, 40, 200)
    draws: int = 5
    score_steps: int = 5000
    classifier_steps: int = 1000
    points: int = 2000
    shown: int = 10
    samples: int = 400
    sampler_steps: int = 64


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


@dataclass
class _Shown:
    """What the figure needs of the runs at one number of labels, by method.

    Attributes:
        samples: samples of each class, of the first draw.
        fields: likelihood scores on the grid, of the first draw.
        errors: score errors by method, metric and noise level, one for each draw.
        probabilities: of the classes at each noise level, one tensor for each draw.
        labelled: the labelled points of each class, of the first draw.
    """

    samples: dict[str, list[Tensor]] = field(default_factory=dict)
    fields: dict[str, Tensor | None] = field(default_factory=dict)
    errors: dict[tuple[str, str, float], list[float]] = field(default_factory=dict)
    probabilities: dict[tuple[float, str], list[Tensor]] = field(default_factory=dict)
    labelled: list[Tensor] = field(default_factory=list)


def reproduce_few_label_moons(out: Path, effort: Effort = Effort()) -> dict[str, Any]:
    """Train every method at every number of labels and draw, measure, summarise, draw a figure.

    Runs that are finished are not trained again.

    Args:
        out: the folder; it gets runs/, table.json, table.md and moons.png.
        effort: how much is computed.

    Returns:
        The document of table.json.
    """
    began = time.monotonic()
    overrides = training_settings(PROCESS, effort.score_steps, 1, _SCORE_RATE)
    score = finished_run(out / "runs" / "score", "cg", overrides=overrides)
    mixture = moons_mixture()
    levels = [_level(mixture, sigma, effort.points) for sigma in SIGMAS]
    others = [_level(mixture, sigma, effort.points) for sigma in LEVELS]
    cells = [
        (n, draw, method)
        for n in effort.counts
        for draw in range(effort.draws)
        for method in effort.methods
    ]
    rows, shown = [], _Shown()
    with track("few-label-moons: runs") as task:
        for done, (n, draw, method) in enumerate(cells):
            task.set(done, len(cells), f"{method}, {n} labels, draw {draw}")
            run = _run(out / "runs", method, n, draw, score.folder.path, effort)
            entry = Entry.of(run)
            probabilities = [class_probabilities(entry, level.sigma, level.x) for level in levels]
            where = {"method": method, "n_labels": n, "draw": draw}
            rows += [{**where, **row} for row in _rows(entry, levels, probabilities)]
            if n == effort.shown:
                _keep(shown, run, method, draw, others, effort)
                for level, p in zip(levels, probabilities, strict=True):
                    shown.probabilities.setdefault((level.sigma, method), []).append(p)
        task.set(len(cells), len(cells))
    summary = _summary(rows)
    document = {
        "experiment": "few-label-moons",
        "rows": rows,
        "summary": _summary_rows(summary),
        "by_noise": _by_noise(shown),
        "bayes_accuracy": {f"{level.sigma:g}": level.bayes_accuracy for level in levels},
        "protocol": _protocol(effort),
        "figure": "moons.png",
        "seconds": round(time.monotonic() - began, 1),
    }
    moons_overview(_overview(shown, levels, mixture, summary, effort), out / "moons.png")
    write_text(out / "table.md", _markdown(document, summary, effort))
    return write_document(out, document, ("figure",))


def _keep(
    shown: _Shown, run: Run, method: str, draw: int, levels: Sequence[_Level], effort: Effort
) -> None:
    """Note what the figure needs of a run."""
    entry = Entry.of(run)
    for level in levels:
        estimate = estimated_fields(entry, level.sigma, level.x, level.y)
        for metric, value in score_errors(estimate, level.exact).items():
            shown.errors.setdefault((method, metric, level.sigma), []).append(value)
    if draw:
        return
    labels = torch.arange(2).repeat_interleave(effort.samples)
    drawn = draw_points(entry, labels, 1.0, SAMPLER, effort.sampler_steps, seed=0)
    shown.samples[method] = list(drawn.split(effort.samples))
    shown.fields[method] = estimated_fields(entry, FIELD_SIGMA, _grid(), 0).likelihood
    visible = run.splits.training_labels(run.dataset)
    shown.labelled = [run.dataset.examples(np.flatnonzero(visible == y)) for y in range(2)]


def _by_noise(shown: _Shown) -> list[Row]:
    """Means over draws of the errors at the number of labels that is shown."""
    return [
        {"method": method, "metric": metric, "sigma": sigma, "value": sum(v) / len(v)}
        for (method, metric, sigma), v in shown.errors.items()
    ]


def _overview(
    shown: _Shown,
    levels: Sequence[_Level],
    mixture: GaussianMixture,
    summary: Summary,
    effort: Effort,
) -> Overview:
    data = [mixture.means[mixture.classes == y] for y in range(2)]
    diagrams: dict[float, dict[str, Reliability]] = {}
    for level in levels:
        for method in effort.methods:
            pooled = shown.probabilities[level.sigma, method]
            y = level.y.repeat(len(pooled))
            diagrams.setdefault(level.sigma, {})[method] = reliability(torch.cat(pooled), y)
    exact = exact_fields(mixture, PROCESS, FIELD_SIGMA, _grid(), 0).likelihood
    return Overview(
        samples={"data": data, f"the {effort.shown} labels": shown.labelled} | shown.samples,
        grid=_grid(),
        fields={"exact": exact} | shown.fields,
        sigma=FIELD_SIGMA,
        by_noise=_by_noise(shown),
        reliability=diagrams,
        curves={key: curves for key, curves in summary.items() if key[0] in DRAWN},
        note=f"{effort.shown} labels, first draw",
    )


def _grid() -> Tensor:
    return plane_grid((-40.0, -25.0), (40.0, 25.0), 35)


def _run(out: Path, method: str, n: int, draw: int, score: Path, effort: Effort) -> Run:
    """The trained run of a method at a number of labels and a draw of them."""
    return finished_run(
        out / f"{method}-{n}-{draw}",
        method,
        labels=f"{n // 2}/class",
        seed=draw,
        score=score if not METHODS[method].conditional else None,
        overrides=training_settings(
            PROCESS, effort.score_steps, effort.classifier_steps, _SCORE_RATE
        ),
    )


def _level(mixture: GaussianMixture, sigma: float, n: int) -> _Level:
    x, y = noisy_points(mixture, PROCESS, sigma, n, generator_for("few labels", str(sigma)))
    posterior = mixture.log_posterior(PROCESS)
    best = posterior(x, PROCESS.time_at(torch.tensor(sigma))).argmax(1)
    accuracy = float((best == y).double().mean())
    return _Level(sigma, x, y, exact_fields(mixture, PROCESS, sigma, x, y), accuracy)


def _rows(
    entry: Entry, levels: Sequence[_Level], probabilities: Iterable[Tensor]
) -> Iterable[Row]:
    """The score errors of an entry, its accuracy and its calibration at every noise level.

    Those of classifier guidance are at scale 1, Bayes' rule, as the errors mean it.
    """
    for level, p in zip(levels, probabilities, strict=True):
        figures = score_errors(estimated_fields(entry, level.sigma, level.x, level.y), level.exact)
        figures["accuracy"] = float((p.argmax(1) == level.y).double().mean())
        figures["ECE"] = ece(p, level.y)
        for metric, value in figures.items():
            yield {"metric": metric, "sigma": level.sigma, "value": value}


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
    return over_seeds(values) if len(values) > 1 else Estimate(*(3 * [values[0]]))


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
        "data": "moons: 10,000 points, 9,029 train; the oracle is all 10,000",
        "labels": f"{', '.join(map(str, effort.counts))}, half of each class; {effort.draws} "
        "draws",
        "process": f"VE, σ in [{PROCESS.sigma_min:g}, {PROCESS.sigma_max:g}]",
        "errors": f"mean Euclidean norm over {effort.points} points of p_t(x, y), each with its "
        "own class, at guidance scale 1",
        "accuracy, ECE": "on the same points, 15 bins; of cfg-all the classifier that its scores "
        "of the two classes imply",
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
