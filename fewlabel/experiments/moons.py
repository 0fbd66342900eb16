"""What the experiments on the two moons share: the exact density, the runs, their scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewlabel import guidance, samplers
from fewlabel.batch import labels_of
from fewlabel.classifier import NoisyClassifier
from fewlabel.data.moons import load_moons
from fewlabel.metrics.score_error import Fields
from fewlabel.oracle import GaussianMixture, point_cloud
from fewlabel.process import Process
from fewlabel.run import Run
from fewlabel.score import ScoreModel
from fewlabel.training.train import train

__all__ = [
    "Entry",
    "class_probabilities",
    "draw_points",
    "estimated_fields",
    "finished_run",
    "moons_mixture",
    "training_settings",
]

_PATH_POINTS = 64
_BISECTIONS = 60


@dataclass(frozen=True)
class Entry:
    """The trained models of a row and how they are joined, however they were trained."""

    score_model: ScoreModel
    classifier: NoisyClassifier | None
    guidance: guidance.Kind

    @classmethod
    def of(cls, run: Run) -> "Entry":
        """The models of a run."""
        guided = run.method.guidance == "classifier"
        return cls(run.score_model, run.classifier if guided else None, run.method.guidance)


def moons_mixture() -> GaussianMixture:
    """The 10,000 points of the moons as an exact mixture; its classes are those of the data."""
    data = load_moons()
    return point_cloud(torch.from_numpy(data.values), torch.from_numpy(data.labels))


def training_settings(
    process: Process, score_steps: int, classifier_steps: int, score_rate: float
) -> tuple[str, ...]:
    """The networks of the experiments and their training, as overrides of `train`.

    Args:
        process: the noise process.
        score_steps: steps of the score model.
        classifier_steps: steps of the classifier.
        score_rate: the learning rate of the score model.
    """
    intervals = {"log_every": 100, "validate_every": 500, "checkpoint_every": 1000}
    score = {"steps": score_steps, "batch": 512, "learning_rate": score_rate, "ema": 0.998}
    classifier = {"steps": classifier_steps, "batch": 256, "learning_rate": 4e-3}
    return (
        *_set("process", process.config()),
        *_set("score", {"widths": "[128]", "layers": 3}),
        *_set("score.fit", score | intervals),
        *_set("classifier", {"widths": "[64]", "layers": 2}),
        *_set("classifier.fit", classifier | intervals),
    )


def _set(section: str, values: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(f"{section}.{key}={value}" for key, value in values.items())


def finished_run(
    out: Path,
    method: str,
    *,
    labels: str = "all",
    seed: int = 0,
    score: Path | None = None,
    overrides: Sequence[str] = (),
) -> Run:
    """The run in a folder, trained on the moons unless it is there and finished.

    Args:
        out: the run folder.
        method: a name in the table of methods.
        labels: which labels may be used.
        seed: fixes the drawn labels, the weights and the noise.
        score: the run whose score model is used.
        overrides: changes of the configuration; those of the score model and the process are
            left out where the score model is another run's.

    Raises:
        UserError: if the folder holds a run with other settings.
        TrainingError: if training was interrupted or diverged.
    """
    if score is not None:
        overrides = [text for text in overrides if text.startswith("classifier.")]
    return train(
        "moons",
        out=out,
        method=method,
        labels=labels,
        seed=seed,
        score=score,
        overrides=overrides,
        device="cpu",
        exist_ok=True,
    )


@torch.no_grad()
def estimated_fields(
    entry: Entry, sigma: float, x: Tensor, y: int | Tensor, scale: float = 1.0
) -> Fields:
    """The scores of an entry at points x (B, D) for classes y, () or (B,), at σ/α = sigma.

    The likelihood score is multiplied by the guidance scale. In classifier-free guidance it is
    that of the implicit classifier, s(x,t,y) − s(x,t,∅).
    """
    model, t = entry.score_model, entry.score_model.process.time_at(torch.tensor(sigma))
    labels = labels_of(y, x)
    if entry.guidance == "conditional":
        return Fields(model(x, t, labels))
    prior = model(x, t)
    if entry.classifier is not None:
        likelihood = entry.classifier.likelihood_score(x, t, labels)
    else:
        likelihood = model(x, t, labels) - prior
    return Fields(prior + scale * likelihood, scale * likelihood, prior)


@torch.no_grad()
def class_probabilities(entry: Entry, sigma: float, x: Tensor) -> Tensor:
    """p(y | x, t) of an entry at points x (B, 2) and σ/α = sigma, (B, 2).

    Without a classifier it is the one that the conditional scores imply. The gradient of
    d(x) = log p(1|x,t) − log p(0|x,t) is s(x,t,1) − s(x,t,0); d is its integral along the line
    from the origin (midpoint rule), plus the constant with which both classes are equally
    frequent among the points.
    """
    model = entry.score_model
    t = model.process.time_at(torch.tensor(sigma))
    if entry.classifier is not None:
        return entry.classifier.log_prob(x, t).exp()
    labels = torch.zeros(len(x), dtype=torch.int64)
    steps = (torch.arange(_PATH_POINTS) + 0.5) / _PATH_POINTS
    slopes = [model(a * x, t, labels + 1) - model(a * x, t, labels) for a in steps]
    difference = (torch.stack(slopes).mean(0) * x).sum(1)
    of_one = torch.sigmoid(difference + _balance(difference))
    return torch.stack([1 - of_one, of_one], dim=1)


def _balance(difference: Tensor) -> float:
    """The constant c with which σ(d + c) is ½ in the mean over the points, by bisection."""
    d = difference.double()
    low, high = -float(d.max()), -float(d.min())
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if torch.sigmoid(d + middle).mean() < 0.5 else (low, middle)
    return (low + high) / 2


def draw_points(
    entry: Entry, labels: Tensor, scale: float, sampler: str, steps: int, seed: int
) -> Tensor:
    """One sample of each label's class, (B, 2); the arguments are those of `samplers.sample`."""
    model = entry.score_model
    likelihood = entry.classifier.likelihood_score if entry.classifier else None
    guided = guidance.of_kind(entry.guidance, model, likelihood, labels, scale)
    shape = (len(labels), 2)
    return samplers.sample(guided, model.process, shape, sampler, steps, seed)
