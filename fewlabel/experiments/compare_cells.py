"""The cells of a comparison: one method on one draw of labels with one seed, trained and judged.

First a cell's guidance scale is chosen, and its λ (the weight of a regulariser, or the share of
images that show a label), by samples that are compared with the validation split. Then it is
reported, by other samples and other images.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from fewlabel.calibration import reliability
from fewlabel.data.table import is_table
from fewlabel.methods import METHODS, find_method
from fewlabel.metrics.intervals import Estimate, batch_means, proportion
from fewlabel.metrics.judge import held_out
from fewlabel.metrics.table import GROUPS, measure
from fewlabel.randomness import generator_for
from fewlabel.run import Run
from fewlabel.training.given_teacher import FEATURES
from fewlabel.training.train import train
from fewlabel.training.validation import spread_out

__all__ = [
    "Cell",
    "CellTask",
    "Protocol",
    "Row",
    "candidates",
    "chosen",
    "labels_of_cell",
    "perform",
    "tuned",
]

Row = dict[str, Any]
Split = Literal["validation", "report"]

CRITERION = "intra-fid"
"""What is least at the chosen scale and weight."""

METRICS_TO_CHOOSE = ("accuracy", CRITERION, "precision", "recall")
"""What is judged on the validation split."""

_SHARE = "score.fit.labelled_share"
_SEED_TO_CHOOSE, _SEED = 1, 0
_LEVELS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_EXAMPLES = 2000
_TOGETHER = 256


@dataclass(frozen=True)
class Protocol:
    """What holds for every cell of a comparison.

    Attributes:
        data: images, as `train` takes them.
        size: side of the images, or None for the data's.
        preset: of the networks, or None for what fits the size.
        overrides: "dotted.key=value" for any field of the configuration.
        scales: guidance scales among which each cell chooses.
        metrics: what is reported.
        per_class: samples of each class that are reported.
        per_class_to_choose: samples of each class by which a choice is made.
        sampler: a name in `samplers.SAMPLERS`.
        steps: grid points of the sampler; None for its default.
        score: the run whose unconditional score model is shared; None for one of the comparison's.
        teacher: what labels the unlabelled for the methods that take a teacher, as `train` takes
            it; None for what they have of the shared score model.
        extractor: whose features are compared, see `evaluate`.
        recipe: published settings, a name in `fewlabel.recipes.RECIPES`.
        scale_down: whether they are those of its small form.
        data_id: the fingerprint of the data.
        score_id: a digest of the score model of `score`.
        teacher_id: a digest of what `teacher` holds.
        extractor_id: the key of the extractor, unless it is the judge.
    """

    data: str
    size: int | None = None
    preset: str | None = None
    overrides: tuple[str, ...] = ()
    scales: tuple[float, ...] = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 9.0)
    metrics: tuple[str, ...] = ("accuracy", "intra-fid", "fid", "cas")
    per_class: int = 100
    per_class_to_choose: int = 40
    sampler: str = "dpm++"
    steps: int | None = None
    score: str | None = None
    teacher: str | None = None
    extractor: str = "judge"
    recipe: str | None = None
    scale_down: bool = False
    data_id: str | None = None
    score_id: str | None = None
    teacher_id: str | None = None
    extractor_id: str | None = None

    def teacher_of(self, method: str) -> str | None:
        """The teacher of a method, if one was named and it takes one."""
        return self.teacher if METHODS[method].takes_teacher else None

    def uses_shared_score(self, methods: Iterable[str]) -> bool:
        """Whether any of them samples with the shared score model, or spreads labels along it."""
        untaught, rows = self.teacher is None, [METHODS[method] for method in methods]
        return any(row.shares_score or (row.needs_teacher and untaught) for row in rows)

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments of `train` that all cells share."""
        names = ("size", "preset", "overrides", "recipe", "scale_down")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Cell:
    """A method on a draw of labels.

    Attributes:
        method: a name in `METHODS`.
        labels: which labels may be used: an amount as `train` takes it, or the name of a CSV,
            wherever that is.
        label_seed: the seed of the draw of labels.
        seed: the seed of weights, order and noise.
        weight: λ, the value of the setting that is tuned; None if there is none, or for the share
            of labelled examples that the data have.
    """

    method: str
    labels: str
    label_seed: int = 0
    seed: int = 0
    weight: float | None = None

    @property
    def folder(self) -> Path:
        """Where its run is, below the folder of the runs."""
        labels = re.sub(r"\W+", "-", self.labels.replace("/", " per ").removesuffix(".csv"))
        weight = "" if self.weight is None else f"-weight-{self.weight:g}"
        return Path(self.method, labels, f"draw-{self.label_seed}-seed-{self.seed}{weight}")

    def __str__(self) -> str:
        weight = "" if self.weight is None else f", λ {self.weight:g}"
        repeat = f"draw {self.label_seed}, seed {self.seed}"
        return f"{self.method}, {self.labels} labels, {repeat}{weight}"


def labels_of_cell(asked: str) -> str:
    """The labels of a cell for those that were asked for: of a CSV its name, for it may move."""
    return Path(asked).name if is_table(asked) else asked


@dataclass(frozen=True)
class CellTask:
    """A piece of work on a cell: a choice on the validation split, or a report at one scale."""

    cell: Cell
    split: Split
    scales: tuple[float, ...]


def tuned(method: str) -> tuple[str, tuple[float, ...]] | None:
    """The setting that a comparison chooses and the values that it tries, if there is one.

    It is the weight of a loss; or the share of labelled examples, beside that of the data.
    """
    row = METHODS[method]
    if row.shares:
        return _SHARE, row.shares
    for stage in row.stages:
        for name, loss in row.losses(stage).items():
            if loss.grid:
                return f"{stage}.fit.weights.{name}", loss.grid
    return None


def candidates(cell: Cell, labelled: float) -> list[Cell]:
    """The cell with each λ that a comparison tries.

    Args:
        cell: a method on labels.
        labelled: the share of training examples with a label; a smaller one is not tried.
    """
    setting, values = tuned(cell.method) or ("", ())
    if not setting:
        return [cell]
    tried: list[float | None] = list(values)
    if setting == _SHARE:
        tried = [None, *(share for share in values if share > labelled)]
    return [replace(cell, weight=value) for value in tried]


def chosen(rows: Iterable[Row], cells: Sequence[Cell]) -> tuple[Cell, float]:
    """The cell of these, and its scale, whose samples are best on the validation split.

    Raises:
        LookupError: if none of them was tried.
    """
    tried = [
        (row["value"], cell, row["scale"])
        for row in rows
        if row["split"] == "validation" and row["metric"] == CRITERION and row["class"] is None
        for cell in cells
        if cell_of(row) == cell
    ]
    if not tried:
        raise LookupError(f"no figures of {cells[0]} on the validation split")
    _, cell, scale = min(tried, key=lambda entry: entry[0])
    return cell, scale


def cell_of(row: Mapping[str, Any]) -> Cell:
    """The cell that a row is of."""
    return Cell(*(row[key] for key in ("method", "labels", "label_seed", "seed", "weight")))


def perform(
    task: CellTask,
    protocol: Protocol,
    out: Path,
    score: str | None,
    tables: Mapping[str, str] | None = None,
) -> list[Row]:
    """Train the cell of a task if it is not, and judge its samples.

    Args:
        task: the work.
        protocol: what holds for every cell.
        out: the folder of the comparison.
        score: the run whose unconditional score model is used where a method needs one.
        tables: where the CSVs of labels are, by their names.

    Returns:
        Rows as `evaluate --json` has them, with the keys of the cell, "split" and "n_labels", and
        "warnings" where a reported figure rests on too little.
    """
    labels = (tables or {}).get(task.cell.labels, task.cell.labels)
    run = _trained(task.cell, labels, protocol, out, score)
    reported = task.split == "report"
    report = run.evaluate(
        protocol.metrics if reported else METRICS_TO_CHOOSE,
        task.scales,
        per_class=protocol.per_class if reported else protocol.per_class_to_choose,
        seed=_SEED if reported else _SEED_TO_CHOOSE,
        sampler=protocol.sampler,
        steps=protocol.steps,
        reference=task.split,
        extractor=protocol.extractor,
    )
    keys = {
        **asdict(task.cell),
        "n_labels": len(run.splits.labelled),
        "split": task.split,
        "n_samples": report.n_samples,
        "extractor": report.extractor,
    }
    figures = [figure.to_dict() for figure in report.figures]
    for figure in figures:
        if reported and figure["class"] is None:
            own = [text for text in report.warnings if text.startswith(f"{figure['metric']}:")]
            if own:
                figure["warnings"] = own
    if not reported:
        figures = [figure for figure in figures if figure["class"] is None]
    elif run.method.guidance == "classifier":
        figures += _classifier_figures(run, task.scales[0])
    return [keys | figure for figure in figures]


def _trained(cell: Cell, labels: str, protocol: Protocol, out: Path, score: str | None) -> Run:
    method, setting = find_method(cell.method), tuned(cell.method)
    settings = protocol.settings
    overrides = [*protocol.overrides, f"label_seed={cell.label_seed}"]
    if setting and cell.weight is not None:
        overrides.append(f"{setting[0]}={cell.weight!r}")
    features = f"{FEATURES}{score}" if method.needs_teacher else None  # its labels are others
    return train(
        protocol.data,
        out=out / "runs" / cell.folder,
        method=cell.method,
        labels=labels,
        score=score if method.shares_score else None,
        teacher=protocol.teacher_of(cell.method) or features,
        seed=cell.seed,
        exist_ok=True,
        **settings | {"overrides": overrides},
    )


@torch.no_grad()
def _classifier_figures(run: Run, scale: float) -> list[Row]:
    """Accuracy and calibration error of the classifier on noisy held-out examples, per level."""
    dataset, classifier = run.dataset, run.classifier
    labelled = spread_out(held_out(dataset, run.splits), _EXAMPLES)
    if not len(labelled):
        return []
    x, y = dataset.examples(labelled), torch.from_numpy(dataset.labels[labelled])
    rows, unit = [], dataset.unit(run.splits.train)
    for level in _LEVELS:
        t = classifier.process.time_at(torch.tensor(unit * level))
        noise = torch.randn(x.shape, generator=generator_for("classifier figures", f"{level:g}"))
        noisy, t = classifier.process.perturb(x, t, noise), t.to(run.device)
        parts = [classifier.log_prob(part.to(run.device), t) for part in noisy.split(_TOGETHER)]
        p = torch.cat(parts).exp().cpu()
        rows += _noise_rows(p, y, level, scale)
    return rows


def _noise_rows(p: torch.Tensor, y: torch.Tensor, level: float, scale: float) -> list[Row]:
    diagram, parts = reliability(p, y), min(GROUPS, len(y))
    groups = [slice(i, None, parts) for i in range(parts)]  # resampled rows would raise the ECE
    figures = {
        "classifier-accuracy": proportion(p.argmax(1) == y),
        "classifier-ece": batch_means(
            diagram.ece, [reliability(p[rows], y[rows]).ece for rows in groups]
        ),
    }
    bins = torch.stack([diagram.confidence, diagram.accuracy, diagram.share], 1).tolist()
    rows = [_noise_row(name, estimate, level, scale) for name, estimate in figures.items()]
    rows[1]["bins"] = bins
    return rows


def _noise_row(name: str, estimate: Estimate, level: float, scale: float) -> Row:
    shown = asdict(measure(name).within_limits(estimate))
    return {"scale": scale, "metric": name, "class": None, "sigma": level, **shown}
