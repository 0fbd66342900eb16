"""The two-moons experiment of Chao et al. 2022 (arXiv 2203.14206), beside its published figures.

Where the density is known, the error of a classifier's gradient can be measured: plain
cross-entropy leaves it large, and scaling it up makes it worse, though samples look as good.

Nothing is held out for the errors: the oracle is exact, and they are taken on a grid over the
plane, not on the examples. The settings below were chosen by these very errors, so they say what
the methods can reach here, not what a first try reaches.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewlabel.calibration import Reliability, reliability
from fewlabel.experiments.dlsm_moons_paper import PAPER, PROCESS, PaperEffort, paper_entries
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
from fewlabel.metrics.precision_recall import prdc
from fewlabel.metrics.score_error import (
    Fields,
    exact_fields,
    noisy_points,
    plane_grid,
    score_errors,
)
from fewlabel.oracle import GaussianMixture
from fewlabel.progress import track
from fewlabel.randomness import generator_for
from fewlabel.report.fields import Overview, moons_overview

__all__ = ["PUBLISHED", "Effort", "reproduce_dlsm_moons", "reproduce_paper"]

Row = dict[str, Any]

SIGMA = 7.5
GRID_LOW, GRID_HIGH, GRID_POINTS = (-40.0, -25.0), (40.0, 25.0), 35
NEIGHBOURS = 5
LEVELS = (0.03, 0.1, 0.3, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0)
CALIBRATED = (3.0, 5.0, 7.5, 10.0)
SAMPLER = "sde-dpm++"
_CALIBRATION_POINTS = 4  # for each point behind an error: bins need more
_SEED = 0

PUBLISHED: dict[str, dict[str, tuple[float, float]]] = {
    "cond": {"D_P": (0.063, 0.060), "precision": (0.97, 0.97), "recall": (1.0, 1.0)},
    "cg": {
        "D_P": (0.198, 0.197),
        "D_L": (0.190, 0.181),
        "precision": (0.94, 0.93),
        "recall": (1.0, 1.0),
    },
    "cg-x10": {
        "D_P": (2.734, 2.627),
        "D_L": (2.730, 2.618),
        "precision": (0.95, 0.94),
        "recall": (0.97, 0.97),
    },
    "cg-dlsm": {
        "D_P": (0.066, 0.064),
        "D_L": (0.052, 0.052),
        "precision": (0.96, 0.95),
        "recall": (1.0, 1.0),
    },
}
"""Chao et al. 2022, at σ = 7.5, for their classes 1 and 2: "posterior SM", CE, CE scaled, DLSM."""

_ROWS = {
    "cond": ("cond", 1.0),
    "cg": ("cg", 1.0),
    "cg-x10": ("cg", 10.0),
    "cg-dlsm": ("cg-dlsm", 1.0),
    "cg-sc-labeled": ("cg-sc-labeled", 1.0),
    "cg-sc-all": ("cg-sc-all", 1.0),
}
"""The rows of the table: the method that is trained, and the guidance scale."""


@dataclass(frozen=True)
class Effort:
    """How much is computed.

    Attributes:
        score_steps: training steps of the score models.
        classifier_steps: training steps of the classifiers.
        points: points x_t behind each figure of the error against the noise level.
        samples: samples of each class, and points of each class they are compared with.
        sampler_steps: steps of the sampler.
    """

    score_steps: int = 4000
    classifier_steps: int = 2500
    points: int = 1000
    samples: int = 1000
    sampler_steps: int = 96


def reproduce_dlsm_moons(out: Path, effort: Effort = Effort()) -> dict[str, Any]:
    """Train the six rows on all labels, measure, compare, draw.

    One unconditional score model serves all classifiers. Runs that are finished are not trained
    again.

    Args:
        out: the folder; it gets a run folder a method, table.json, table.md and moons.png.
        effort: how much is computed; the default is what the documentation reports.

    Returns:
        The document of table.json.
    """
    began = time.monotonic()
    overrides = training_settings(
        PROCESS, effort.score_steps, effort.classifier_steps, score_rate=2e-3
    )
    runs = {"cg": finished_run(out / "cg", "cg", overrides=overrides)}
    runs["cond"] = finished_run(out / "cond", "cond", overrides=overrides)
    for method in ("cg-dlsm", "cg-sc-labeled", "cg-sc-all"):
        runs[method] = finished_run(out / method, method, score=out / "cg", overrides=overrides)
    entries = {name: Entry.of(run) for name, run in runs.items()}
    training = (
        f"{effort.score_steps} steps for score models, {effort.classifier_steps} for "
        "classifiers; the published runs took 40,000 steps of batch 4000"
    )
    facts = {
        "data": "moons: 10,000 points, 9,029 train with their labels; the oracle is all 10,000",
        "choice": "settings were chosen by these errors; nothing is held out, the oracle is exact",
        "training": training,
    }
    return _measured(out, entries, effort, facts, began)


def reproduce_paper(
    out: Path, effort: Effort = Effort(), lengths: PaperEffort = PAPER
) -> dict[str, Any]:
    """The rows of the publication with its own networks, weights and step count; hours.

    Args:
        out: the folder, as of `reproduce_dlsm_moons`.
        effort: how much is measured; its steps are not used.
        lengths: how long is trained.

    Returns:
        The document of table.json.
    """
    began = time.monotonic()
    entries = paper_entries(out, lengths)
    facts = {
        "data": "moons: 10,000 points, all train with their labels, and are the oracle",
        "choice": "nothing: networks, noise, weights, rates and lengths are the published ones",
        "training": f"{lengths.steps} steps of batch {lengths.batch} for every model, Adam at "
        "6.5e-4 for scores and 1e-5 for classifiers, losses weighted with σ⁴, λ_CE = 0.125",
    }
    return _measured(out, entries, effort, facts, began)


def _measured(
    out: Path,
    entries: Mapping[str, Entry],
    effort: Effort,
    facts: dict[str, str],
    began: float,
) -> dict[str, Any]:
    """Errors, samples and calibration of the trained rows, the tables and the figure."""
    rows_of = {name: row for name, row in _ROWS.items() if row[0] in entries}
    mixture = moons_mixture()
    grid = plane_grid(GRID_LOW, GRID_HIGH, GRID_POINTS)
    exact = [exact_fields(mixture, PROCESS, SIGMA, grid, y) for y in range(2)]
    estimated = {
        name: [estimated_fields(entries[method], SIGMA, grid, y, scale) for y in range(2)]
        for name, (method, scale) in rows_of.items()
    }
    samples = {
        name: _samples(name, entries[method], scale, effort)
        for name, (method, scale) in rows_of.items()
    }
    rows = [row for name in rows_of for row in _grid_rows(name, estimated[name], exact)]
    rows += [row for name in rows_of for row in _sample_rows(name, samples[name], mixture)]
    by_noise = _noise_rows(entries, rows_of, mixture, effort.points)
    diagrams = _diagrams(entries, mixture, effort.points)
    document = {
        "experiment": "dlsm-moons",
        "rows": rows,
        "by_noise": by_noise + _calibration_rows(diagrams),
        "protocol": _protocol(effort) | facts,
        "figure": "moons.png",
        "seconds": round(time.monotonic() - began, 1),
    }
    data = [mixture.means[mixture.classes == y] for y in range(2)]
    fields = {name: found[0].likelihood for name, found in estimated.items()}
    overview = Overview(
        samples={"data": data} | samples,
        grid=grid,
        fields={"exact": exact[0].likelihood} | fields,
        sigma=SIGMA,
        by_noise=by_noise,
        reliability=diagrams,
        note="all labels",
    )
    moons_overview(overview, out / "moons.png")
    write_text(out / "table.md", _markdown(document))
    return write_document(out, document, ("figure",))


def _grid_rows(name: str, estimated: list[Fields], exact: list[Fields]) -> list[Row]:
    """D_P, D_L and D_S of each class, the uniform mean over the grid."""
    return [
        _row(name, y, metric, SIGMA, value)
        for y in range(2)
        for metric, value in score_errors(estimated[y], exact[y]).items()
    ]


def _samples(name: str, entry: Entry, scale: float, effort: Effort) -> list[Tensor]:
    """Samples of each class."""
    n = effort.samples
    labels = torch.arange(2).repeat_interleave(n)
    with track(f"sampling {name}") as task:
        task.set(0, 2 * n)
        drawn = draw_points(entry, labels, scale, SAMPLER, effort.sampler_steps, _SEED)
        task.set(2 * n, 2 * n)
    return list(drawn.split(n))


def _sample_rows(name: str, samples: list[Tensor], mixture: GaussianMixture) -> list[Row]:
    """Precision, recall, density and coverage of each class."""
    rows = []
    for y, fake in enumerate(samples):
        points = mixture.means[mixture.classes == y]
        real = points[:: len(points) // len(fake)][: len(fake)]
        for metric, value in prdc(real, fake, NEIGHBOURS).items():
            rows.append(_row(name, y, metric, None, value))
    return rows


def _row(name: str, y: int, metric: str, sigma: float | None, value: float) -> Row:
    published = PUBLISHED.get(name, {}).get(metric)
    return {
        "method": name,
        "class": y,
        "metric": metric,
        "sigma": sigma,
        "value": value,
        "published": published[y] if published else None,
    }


def _noise_rows(
    entries: Mapping[str, Entry],
    rows_of: Mapping[str, tuple[str, float]],
    mixture: GaussianMixture,
    n: int,
) -> list[Row]:
    """The errors on points of p_t(x, y), each with its own class, at many noise levels."""
    rows = []
    for sigma in LEVELS:
        x, y = _noisy(mixture, sigma, n)
        exact = exact_fields(mixture, PROCESS, sigma, x, y)
        for name, (method, scale) in rows_of.items():
            errors = score_errors(estimated_fields(entries[method], sigma, x, y, scale), exact)
            rows += [
                {"method": name, "metric": metric, "sigma": sigma, "value": value}
                for metric, value in errors.items()
            ]
    return rows


def _diagrams(
    entries: Mapping[str, Entry], mixture: GaussianMixture, n: int
) -> dict[float, dict[str, Reliability]]:
    """Reliability on points of p_t(x, y) at the noise levels where the classes overlap."""
    found: dict[float, dict[str, Reliability]] = {}
    for sigma in CALIBRATED:
        x, y = _noisy(mixture, sigma, _CALIBRATION_POINTS * n)
        found[sigma] = {
            name: reliability(class_probabilities(entry, sigma, x), y)
            for name, entry in entries.items()
        }
    return found


def _calibration_rows(diagrams: Mapping[float, Mapping[str, Reliability]]) -> list[Row]:
    return [
        {"method": name, "metric": "ECE", "sigma": sigma, "value": diagram.ece}
        for sigma, of_level in diagrams.items()
        for name, diagram in of_level.items()
    ]


def _noisy(mixture: GaussianMixture, sigma: float, n: int) -> tuple[Tensor, Tensor]:
    return noisy_points(mixture, PROCESS, sigma, n, generator_for("noisy points", str(sigma)))


def _protocol(effort: Effort) -> dict[str, str]:
    return {
        "process": f"VE, σ in [{PROCESS.sigma_min:g}, {PROCESS.sigma_max:g}]",
        "errors": f"mean Euclidean norm over a {GRID_POINTS}×{GRID_POINTS} grid on [−40,40]×"
        f"[−25,25] at σ = {SIGMA:g}; by_noise: over {effort.points} points of p_t(x, y)",
        "samples": f"{effort.samples} of each class by {SAMPLER}, {effort.sampler_steps} steps, "
        f"against as many points of the class, k = {NEIGHBOURS}",
        "reliability": f"{_CALIBRATION_POINTS * effort.points} points of p_t(x, y) a noise level, "
        "15 bins; of cond the classifier that its two scores imply",
    }


_COLUMNS = {"D_P": ".3f", "D_L": ".3f", "D_S": ".3f", "precision": ".2f", "recall": ".2f"}


def _markdown(document: Mapping[str, Any]) -> str:
    """The tables, ours (classes upper/lower) and then the published figures in brackets."""
    found = {(r["method"], r["metric"], r["class"]): r for r in document["rows"]}
    names = list(dict.fromkeys(row["method"] for row in document["rows"]))
    lines = ["| method | " + " | ".join(_COLUMNS) + " |", "| --- " * (len(_COLUMNS) + 1) + "|"]
    for name in names:
        cells = []
        for metric, form in _COLUMNS.items():
            pair = [found[name, metric, y] for y in range(2) if (name, metric, y) in found]
            ours = "/".join(format(row["value"], form) for row in pair) or "—"
            known = "/".join(format(r["published"], form) for r in pair if r["published"])
            cells.append(f"{ours} ({known})" if known else ours)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", "Expected calibration error:", ""]
    errors = {
        (r["method"], r["sigma"]): r["value"] for r in document["by_noise"] if r["metric"] == "ECE"
    }
    lines += ["| method | " + " | ".join(f"σ = {sigma:g}" for sigma in CALIBRATED) + " |"]
    lines += ["| --- " * (len(CALIBRATED) + 1) + "|"]
    for name in dict.fromkeys(name for name, _ in errors):
        cells = [f"{errors[name, sigma]:.3f}" for sigma in CALIBRATED]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    facts = [f"- {key}: {value}" for key, value in document["protocol"].items()]
    head = "Two moons, errors at σ = 7.5, classes upper/lower; in brackets Chao et al. 2022."
    return "\n".join([head, "", *lines, "", *facts, f"- time: {document['seconds']} s", ""])
