"""The judge: an independent classifier of clean images, trained on all labels of the data.

It decides whether a generated image shows the class it was asked for, and its features are those
between which distances are measured by default. It needs no download. It is trained once per
split of a dataset and cached; its own accuracy on held-out images is part of every report.

It is trained by epochs. Training ends early once the loss on noisy training images no longer
falls: that needs no held-out label, and holds for a dozen labels as for many thousands.
"""

import math
from contextlib import ExitStack
from dataclasses import astuple, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewlabel import methods, process
from fewlabel.batch import UNLABELLED, Part
from fewlabel.classifier import NoisyClassifier
from fewlabel.config import FitConfig
from fewlabel.data import Batches, Dataset, Splits, cache_folder, draw_splits
from fewlabel.data.cache import keep_facts, kept_facts, note_not_kept
from fewlabel.data.dataset import fingerprint_of, rows_at_once, rows_key
from fewlabel.errors import TrainingError, UserError
from fewlabel.extractors.extractor import in_parts
from fewlabel.files import locked, scratch_folder
from fewlabel.metrics.accuracy import generation_hits
from fewlabel.metrics.intervals import Estimate, proportion
from fewlabel.networks.convolutional import ConvClassifier
from fewlabel.networks.perceptron import Perceptron
from fewlabel.networks.weights_key import weights_key
from fewlabel.objectives import LogNormal
from fewlabel.progress import track
from fewlabel.randomness import seed_of, seeded
from fewlabel.training.best import Best
from fewlabel.training.checkpoint import Checkpoints
from fewlabel.training.loop import fit
from fewlabel.training.processes import start_accelerator

__all__ = ["Judge", "accuracy_on", "held_out", "train_classifier", "train_judge"]

_FORMAT = 3  # raise it when anything below, or what is held out, changes what a judge is
_WIDTHS = (32, 64)
_STEPS = 600  # at most
_EPOCHS = 3  # where that is more steps
_MOST_EPOCHS = 200
_BATCH_OF_FIT = 64
_PERIOD = 20  # steps over which the loss is averaged, where an epoch has fewer
_PATIENCE = 5  # periods without a smaller loss, then training ends
_LEAST_GAIN = 0.01  # nats: the loss counts in multiples of it
_LOWEST, _USUAL, _HIGHEST = 0.01, 0.1, 1.0  # noise levels in training, for images in [−1, 1]
_SPREAD = 0.7  # of their logarithm
_CLEAN = 3.0  # times the lowest: the noise level at which clean images are read
_MOST, _PIXELS = 512, 2**19  # images, and their pixels, that are read together
_MEASURED = "measured.json"


@dataclass(frozen=True)
class Judge:
    """A classifier of clean images and its features; an `Extractor`.

    Attributes:
        classifier: the network; weak noise was its augmentation.
        scale: features are divided by it, so that real images have unit mean variance.
        accuracy: share of held-out real images it names right, or None if none was held out.
        name: what a report calls it.
    """

    classifier: NoisyClassifier
    scale: float
    accuracy: Estimate | None
    name: str

    @cached_property
    def key(self) -> str:
        """A hash of the weights and of how images are read."""
        return weights_key(self.classifier, self._clean, self.classifier.sigma_data, self.scale)

    @property
    def _clean(self) -> float:
        return _CLEAN * cast(process.EDM, self.classifier.process).sigma_min

    @torch.no_grad()
    def read(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, F) and log-probabilities (N, K) of images (N, C, H, W), on the CPU."""
        features, log_probs = [], []
        network = cast(ConvClassifier, self.classifier.network)
        device, c_noise = next(network.parameters()).device, math.log(self._clean) / 4
        norm = math.sqrt(self._clean**2 + self.classifier.sigma_data**2)
        for x in images.split(rows_at_once(images.shape[1:], _MOST, _PIXELS)):
            told = torch.full((len(x),), c_noise, device=device)
            hidden = network.features(x.to(device) / norm, told)
            features.append((hidden / self.scale).cpu())
            log_probs.append(network.head(hidden).log_softmax(-1).cpu())
        return torch.cat(features), torch.cat(log_probs)


def train_judge(
    dataset: Dataset, splits: Splits | None = None, device: torch.device | None = None
) -> Judge:
    """The judge of a dataset, from the cache if it was trained before.

    It sees every label of the training split, whatever few labels a run was given, and nothing
    of validation and test. Of processes that ask at the same time one trains it. A cache that
    holds it may be read-only; where nothing can be written, the judge is this process's alone.

    Args:
        dataset: the data.
        splits: what trains and what is held out, whatever labels they show; None for the split
            that the data alone decide.
        device: where to train it, and where it reads images; by default trained on a GPU if
            there is one, and on the CPU from then on.
    """
    wanted = _Wanted(dataset, _all_labels(dataset, splits), device)
    folder = cache_folder() / "judges" / wanted.key
    found = wanted.kept(folder) or _not_kept.get((wanted.key, device))
    if found:
        return found
    with ExitStack() as held:
        try:
            held.enter_context(locked(folder, patient=True))
        except (UserError, TrainingError) as error:
            note_not_kept("the judge is", error)
            own = held.enter_context(scratch_folder())
            _not_kept[wanted.key, device] = wanted.made(own)
            return _not_kept[wanted.key, device]
        return wanted.kept(folder) or wanted.made(folder)


_not_kept: dict[tuple[str, torch.device | None], Judge] = {}
"""Judges of this process that the cache could not take."""


def _all_labels(dataset: Dataset, splits: Splits | None) -> Splits:
    """The splits with every labelled training example, and no other."""
    splits = draw_splits(dataset, "all", seed=0) if splits is None else splits
    rows = splits.train[dataset.labels[splits.train] != UNLABELLED]
    return replace(splits, train=rows, labelled=rows)


@dataclass(frozen=True)
class _Wanted:
    """The judge of the labels that train, to be read from a folder or made there."""

    dataset: Dataset
    splits: Splits
    device: torch.device | None

    @cached_property
    def key(self) -> str:
        """A hash of all that decides what the judge is, and on what it is tested."""
        dataset, rows = self.dataset, (self.splits.labelled, held_out(self.dataset, self.splits))
        keys = [rows_key(x) for indices in rows for x in (indices, dataset.labels[indices])]
        return fingerprint_of(_FORMAT, dataset.fingerprint, dataset.n_classes, *keys)

    def kept(self, folder: Path) -> Judge | None:
        """What `made` left in a folder, or None if it is not whole."""
        facts = kept_facts(folder / _MEASURED)
        if facts is None or Checkpoints(folder).newest() is None:
            return None
        return self._judge(self._classifier(folder), facts)

    def made(self, folder: Path) -> Judge:
        """Train the classifier if the folder has none that is whole, measure it and keep both."""
        Checkpoints(folder).clean()
        classifier = self._classifier(folder)
        facts = _measured(Judge(classifier, 1.0, None, "unmeasured"), self.dataset, self.splits)
        keep_facts(folder / _MEASURED, facts)
        return self._judge(classifier, facts)

    def _classifier(self, folder: Path) -> NoisyClassifier:
        checkpoints = Checkpoints(folder)
        return train_classifier(
            self.dataset, self.splits, checkpoints, "judge", device=self.device
        )

    def _judge(self, classifier: NoisyClassifier, facts: dict[str, Any]) -> Judge:
        accuracy = Estimate(*facts["accuracy"]) if facts["accuracy"] else None
        return Judge(classifier, facts["scale"], accuracy, f"judge-{self.key[:8]}")


def _measured(judge: Judge, dataset: Dataset, splits: Splits) -> dict[str, Any]:
    """The scale of a judge's features, and its accuracy on held-out images."""
    features = torch.cat([judge.read(x)[0] for x in in_parts(dataset, splits.labelled)])
    indices = held_out(dataset, splits)
    accuracy = accuracy_on(judge, dataset, indices) if len(indices) else None
    return {
        "scale": float(features.var(0).mean().sqrt()),
        "accuracy": astuple(accuracy) if accuracy else None,
    }


def train_classifier(
    dataset: Dataset,
    splits: Splits,
    checkpoints: Checkpoints,
    title: str,
    seed: int = 0,
    device: torch.device | None = None,
) -> NoisyClassifier:
    """A classifier of the judge's kind, trained on the labelled examples of the splits.

    Args:
        dataset: the data.
        splits: which examples train.
        checkpoints: where the weights are kept; if they are there, nothing is trained.
        title: what the progress is called.
        seed: of the first weights, the noise and the order of the examples.
        device: where to train, and where the classifier is then; by default a GPU if there is
            one, and then the CPU.
    """
    sigma_data = dataset.spread(splits.train)
    seed = seed_of(title, seed)
    with seeded(seed):
        network = _network(dataset.shape, dataset.n_classes)
    model = NoisyClassifier(
        network, _noise(dataset.unit(splits.train)), sigma_data, energy="plain"
    )
    if checkpoints.newest() is None:
        _fit(model, dataset, splits, checkpoints, title, seed, device)
    model.load_state_dict(checkpoints.ema_weights())
    return model.to(device or "cpu").eval().requires_grad_(False)


def held_out(dataset: Dataset, splits: Splits) -> NDArray[np.int64]:
    """The labelled examples of the test split, or of the validation split if it has none."""
    test, validation = (
        held[dataset.labels[held] != UNLABELLED] for held in (splits.test, splits.validation)
    )
    return test if len(test) else validation


def accuracy_on(judge: Judge, dataset: Dataset, indices: NDArray[np.int64]) -> Estimate:
    """The share of labelled examples that a judge names right, with Wilson's interval."""
    log_prob = torch.cat([judge.read(x)[1] for x in in_parts(dataset, indices)])
    return proportion(generation_hits(log_prob, dataset.labels[indices]))


def _noise(unit: float) -> process.EDM:
    return process.EDM(sigma_min=unit * _LOWEST, sigma_max=unit * _HIGHEST)


def _network(shape: tuple[int, ...], classes: int) -> ConvClassifier | Perceptron:
    if len(shape) == 1:
        return Perceptron(shape[0], classes, _WIDTHS[0], layers=1)
    return ConvClassifier(shape[0], classes, _WIDTHS, layers=(1, 1))


def _fit(
    model: NoisyClassifier,
    dataset: Dataset,
    splits: Splits,
    checkpoints: Checkpoints,
    title: str,
    seed: int,
    device: torch.device | None,
) -> None:
    times = LogNormal(math.log(dataset.unit(splits.train) * _USUAL), _SPREAD)
    models = methods.Models(dataset.shape, classifier=model, times=times)
    objective = methods.objective(methods.METHODS["cg"].classifier, models, {"ce": 1.0})
    settings, best = _settings(len(splits.labelled)), Best()
    on_cpu = device is not None and device.type == "cpu"
    accelerator = start_accelerator(on_cpu, precision="no")
    rows: dict[Part, int] = {"labelled": settings.batch}
    batches = Batches(dataset, splits, rows, seed=seed, device=accelerator.device)
    records = fit(
        model,
        objective,
        batches,
        settings,
        seed,
        checkpoints,
        accelerator,
        validate=lambda model: {},
        stop=lambda: best.is_exhausted(_PATIENCE),
    )
    with track(title) as task:
        for record in records:
            if record.losses:
                best.is_improved({"ce@training": round(record.losses["ce"] / _LEAST_GAIN)})
            task.set(record.step, record.steps)
        task.set(settings.steps, settings.steps)


def _settings(n: int) -> FitConfig:
    """How a classifier of n labelled examples is fitted: by epochs, no batch above one.

    Few examples train for up to 200 epochs, others for up to 600 steps, many for three epochs.
    """
    batch = min(_BATCH_OF_FIT, max(1, n))
    epoch = -(-n // batch)
    steps = max(1, min(_MOST_EPOCHS * epoch, max(_STEPS, _EPOCHS * epoch)))
    return FitConfig(
        steps=steps,
        batch=batch,
        learning_rate=2e-3,
        weight_decay=0.05,
        log_every=max(epoch, _PERIOD),
        checkpoint_every=steps,
    )
