"""A run: the folder that training leaves behind, opened to sample from it and to judge it."""

import math
import os
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import product
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from fewlabel import guidance, launched, samplers
from fewlabel.classifier import NoisyClassifier
from fewlabel.config import Config
from fewlabel.data import Dataset, Splits, absolute, is_missing, open_dataset
from fewlabel.data.classes import index_of
from fewlabel.data.dataset import refuse_other_shape
from fewlabel.errors import UserError
from fewlabel.guidance import LabelledScore
from fewlabel.methods import Method, find_method
from fewlabel.models import build_classifier, build_score_model, compile_model
from fewlabel.progress import Task, speaks, tell, track
from fewlabel.run_folder import RunFolder
from fewlabel.samplers import Callback, Sampler, Step, loop
from fewlabel.score import ScoreFunction, ScoreModel

if TYPE_CHECKING:
    from fewlabel.extractors.extractor import Extractor
    from fewlabel.metrics.judging import Reference
    from fewlabel.metrics.report import Draw, Report

__all__ = ["Run", "Samples", "check_batch_size", "find_device", "load"]

_BATCH = 256
_SAMPLES = 64


@dataclass(frozen=True)
class Samples:
    """Images, what they were asked to be, and what they cost.

    Attributes:
        images: (n, C, H, W) in [-1, 1], or vectors (n, D); fewer if a callback stopped.
        labels: (n,) the class asked for, one an image.
        scale: the guidance scale.
        steps: grid points of the sampler.
        nfe: evaluations of the score network and of the classifier for each sample.
        seconds: time for all of them.
    """

    images: Tensor
    labels: Tensor
    scale: float
    steps: int
    nfe: int
    seconds: float


class Run:
    """A finished run: `sample` draws from it, `evaluate` judges it.

    Args:
        folder: the run's folder.
        device: where to compute, such as "cpu" or "cuda"; by default a GPU if there is one.
        compiled: compile the models to sample from, which takes minutes once and pays for many
            samples; the likelihood of guided samples, which differentiates twice, cannot be had.
        data: where its data are now, if they moved.

    Raises:
        UserError: if the folder is no run, or for a device that is not there.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        device: str | None = None,
        compiled: bool = False,
        data: str | os.PathLike[str] | None = None,
    ) -> None:
        self.folder = RunFolder(folder)
        self.config: Config = self.folder.read_config()
        if data is not None:
            self.config = self.config.model_copy(update={"data": absolute(data)})
        self.splits: Splits = self.folder.read_splits()
        self.device = find_device(device)
        self._compiled = compiled

    def __repr__(self) -> str:
        return (
            f"Run({str(self.folder)!r}, method={self.config.method!r}, data={self.config.data!r})"
        )

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each class, in the order of the labels."""
        return self.splits.class_names

    @property
    def method(self) -> Method:
        """The row of the table of methods that made the run."""
        return find_method(self.config.method)

    @cached_property
    def score_model(self) -> ScoreModel:
        """The score model, with averaged weights; see `RunFolder.average`."""
        classes = len(self.class_names) if self.method.conditional else 0
        return self._trained(build_score_model(self.config, classes), "score")

    @cached_property
    def classifier(self) -> NoisyClassifier:
        """The noise-conditional classifier, with averaged weights."""
        if not self.method.classifier:
            raise UserError(
                f"{self.folder.path} has no classifier: {self.config.method} needs none"
            )
        model = build_classifier(self.config, len(self.class_names))
        return self._trained(model, "classifier")

    @cached_property
    def dataset(self) -> Dataset:
        """The data the run was made from.

        Files may have been added, removed, renamed or labelled since; `splits` is then that of
        what is left, and a note says what changed.
        """
        if self.config.imported_from is not None:
            raise UserError(
                f"{self.folder.path} was imported and has no data: train a classifier for it with "
                f"`fewlabel train DATA --score {self.folder.path}`"
            )
        if is_missing(self.config.data):
            raise UserError(
                f"the data of {self.folder.path} are no longer at {self.config.data}: tell where "
                "they are now, with --data or load(…, data=…)"
            )
        with track("reading images") as task:
            found = open_dataset(self.config.data, self.config.size, task.set)
        dataset = self.splits.with_given(found)
        where = f"run folder {self.folder.path}"
        refuse_other_shape(f"{where} knows", self.config.shape, dataset)
        if self.splits.fingerprint != dataset.fingerprint:
            changes = self.splits.changes(dataset)
            self.splits = self.splits.onto(dataset, where)
            tell(f"note: the data changed since {self.folder.path} was trained: {changes}")
        return dataset

    def sample(
        self,
        label: int | str | Sequence[int | str] | Tensor | None = None,
        n: int | None = None,
        scale: float | None = None,
        *,
        sampler: str | Sampler = samplers.DEFAULT,
        steps: int | None = None,
        seed: int = 0,
        interval: tuple[float, float] | None = None,
        temperature: float = 1.0,
        batch_size: int = _BATCH,
        callback: Callback | None = None,
    ) -> Tensor:
        """Images of a class, (n, C, H, W) in [-1, 1].

        Image i depends on (seed, i) and its class alone, not on n or the batch size (but
        for the sampler ode, within its tolerance). The arguments are those of `draw`, which
        tells beside the images what they cost.

        Raises:
            UserError: for a class that does not exist or an option out of range.
        """
        return self.draw(
            label,
            n,
            scale,
            sampler=sampler,
            steps=steps,
            seed=seed,
            interval=interval,
            temperature=temperature,
            batch_size=batch_size,
            callback=callback,
        ).images

    def draw(
        self,
        label: int | str | Sequence[int | str] | Tensor | None = None,
        n: int | None = None,
        scale: float | None = None,
        *,
        sampler: str | Sampler = samplers.DEFAULT,
        steps: int | None = None,
        seed: int = 0,
        interval: tuple[float, float] | None = None,
        temperature: float = 1.0,
        batch_size: int = _BATCH,
        first: int = 0,
        progress: Task | None = None,
        callback: Callback | None = None,
    ) -> Samples:
        """Draw images of a class and count what they cost.

        Image i depends on (seed, i) and its class alone, not on n or the batch size (but for the
        sampler ode, within its tolerance). Of several
        processes that were launched together each draws a share, and each gets all images.

        Args:
            label: a class by name, or by index if it is no name (see `class_index`); or one
                class a sample, of which a torch tensor holds indices; None for all in turn.
            n: how many images; None for 64, or as many as there are labels.
            scale: guidance scale; 0 ignores the label, 1 is Bayes' rule, more is more typical;
                None for the method's default.
            sampler: a name in `samplers.SAMPLERS`, or a row of your own.
            steps: grid points of the sampler; None for its default.
            seed: fixes the noise.
            interval: noise levels σ/α, (low, high), outside which the guidance is off; None for
                everywhere.
            temperature: T > 0 that divides the classifier's logits: more makes it less sure.
            batch_size: how many are drawn together.
            first: index of the first image in a longer request: with `first=n` the next call
                goes on where one for n images ended.
            progress: shows how many are done.
            callback: called with each step of each batch, see `samplers.sample`. If it returns
                False, the images are those of earlier batches and the batch as it is, denoised.

        Raises:
            UserError: for a class that does not exist or an option out of range, or a callback
                in one of several processes.
            TrainingError: if a sample is not finite.
        """
        labels = self._labels(label, n, first)
        scale = self.method.scale if scale is None else scale
        check_batch_size(batch_size)
        self.check_guidance(scale, interval)
        n, points = len(labels), samplers.find_sampler(sampler, steps).steps
        process, times = self.score_model.process, self._times(interval)
        likelihood = self._likelihood_score(temperature)
        counted = _Counted(self.score_model), likelihood and _Counted(likelihood)
        began, drawn = time.monotonic(), [torch.empty(0, *self.config.shape)]
        share, half = launched.own_share(n), self.config.precision == "bf16"
        watch = _Watch(callback, progress, len(share))
        for start in share[::batch_size]:
            of_batch = labels[start : min(start + batch_size, share.stop)].to(self.device)
            shape = (len(of_batch), *self.config.shape)
            guided = guidance.of_kind(self.method.guidance, *counted, of_batch, scale, times)
            how = sampler, steps, seed, first + start, self.device, watch.step
            with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
                drawn.append(samplers.sample(guided, process, shape, *how).cpu())
            if watch.stopped:
                break
            watch.batch(len(of_batch))
        calls = sum(each.calls for each in counted if each) // max(1, len(drawn) - 1)
        x = launched.gathered(torch.cat(drawn), n)
        x = x if len(self.config.shape) == 1 else x.clamp(-1, 1)
        return Samples(x, labels[: len(x)], scale, points, calls, time.monotonic() - began)

    def guided(
        self,
        label: int | str | Tensor,
        scale: float | None = None,
        *,
        interval: tuple[float, float] | None = None,
        temperature: float = 1.0,
    ) -> ScoreFunction:
        """The score function that `draw` follows: for other samplers, guidance or likelihoods.

        On a CPU `samplers.sample(run.guided(3), run.score_model.process, (n, *run.config.shape))`
        draws the images of `run.sample(3, n)` in float32, but for their being cut to [-1, 1]; on
        a GPU with `device=run.device`.

        Args:
            label: a class by name, or by index if it is no name (see `class_index`); or the
                index of the class of each sample, a tensor (B,).
            scale: guidance scale; None for the method's default.
            interval: noise levels σ/α, (low, high), outside which the guidance is off.
            temperature: T > 0 that divides the classifier's logits.

        Raises:
            UserError: for a class that does not exist or an option out of range.
        """
        scale = self.method.scale if scale is None else scale
        self.check_guidance(scale, interval)
        return guidance.of_kind(
            self.method.guidance,
            self.score_model,
            self._likelihood_score(temperature),
            label if isinstance(label, Tensor) else self.class_index(label),
            scale,
            self._times(interval),
        )

    def evaluate(
        self,
        metrics: str | Sequence[str] = ("accuracy", "intra-fid"),
        scales: float | Sequence[float] | None = None,
        *,
        per_class: int = 100,
        seed: int = 0,
        sampler: str | Sequence[str] = samplers.DEFAULT,
        steps: int | Sequence[int] | None = None,
        batch_size: int = _BATCH,
        reference: "Reference" = "report",
        extractor: "str | nn.Module | Extractor" = "judge",
    ) -> "Report":
        """Draw samples of every class and judge them, as `fewlabel.judge` does images.

        Several processes that were launched together draw the samples together; then all but the
        main one end.

        Args:
            metrics: names that `fewlabel metrics` lists, or one.
            scales: guidance scales, or one; None for the method's default.
            per_class: samples of each class, at least 10, and more for some metrics.
            seed: the seed of the samples; take another to choose than to report.
            sampler: a name in `samplers.SAMPLERS`, or several.
            steps: grid points of the sampler, or several numbers of them; None for its default.
            batch_size: how many are drawn together; it changes time and memory only.
            reference: "report", or "validation" if a choice is made by the figures.
            extractor: whose features are compared: "judge", "inception:FILE",
                "transformers:NAME", or a module that takes images in [-1, 1].

        Returns:
            Figures with 95 % intervals: `report.to_dict()`, `report.plot(path)`.

        Raises:
            UserError: for an unknown metric or sampler, too few samples, steps or real images of
                a class, a scale of a method without guidance, or an extractor that cannot be had
                or cannot read the images.
        """
        from fewlabel.metrics import judging

        metrics = (metrics,) if isinstance(metrics, str) else metrics
        scales = self.method.scale if scales is None else scales
        judging.check_numbers(metrics, per_class)
        judging.check_data(metrics, self.dataset, self.splits, reference)
        ways = dict.fromkeys(product(*map(_several, (scales, sampler, steps))))  # each once
        for scale, *way in ways:
            self.check_guidance(scale)
            samplers.find_sampler(*way)
        n = per_class * len(self.class_names)
        draws: Iterable[tuple[Draw, Tensor, Tensor]] = (
            self._drawn(way, n, seed, batch_size) for way in ways
        )
        if launched.number() > 1:  # all are drawn together, the judge is the main process's
            draws = [drawn for drawn in draws if speaks()]
            launched.go_on_alone()
        known = {"run": str(self.folder), "method": self.config.method, "seed": seed}
        return judging.judge_draws(
            draws,
            self.dataset,
            self.splits,
            metrics,
            extractor=extractor,
            reference=reference,
            device=self.device,
            known=known | {"labels": self.config.labels},
        )

    def _drawn(
        self, way: tuple[float, str, int | None], n: int, seed: int, batch_size: int
    ) -> "tuple[Draw, Tensor, Tensor]":
        """Samples of all classes in turn in one way, and what they cost."""
        from fewlabel.metrics.report import Draw

        scale, sampler, steps = way
        how: dict[str, Any] = {"sampler": sampler, "steps": steps, "batch_size": batch_size}
        with track(f"sampling {self.config.method}, scale {scale:g}") as task:
            drawn = self.draw(n=n, scale=scale, seed=seed, progress=task, **how)
        draw = Draw(scale, sampler, drawn.steps, drawn.nfe, drawn.seconds)
        return draw, drawn.images, drawn.labels

    def check_guidance(self, scale: float, interval: tuple[float, float] | None = None) -> None:
        """Refuse what cannot guide the samples of this run.

        Args:
            scale: guidance scale.
            interval: noise levels σ/α, (low, high), outside which the guidance is off; None for
                everywhere.

        Raises:
            UserError: for a scale that is negative or not finite, an interval that is empty or
                begins below 0, or either of them for a method without guidance.
        """
        guidance.check(scale, interval)
        if interval is not None and interval[0] < 0:
            raise UserError(f"guidance interval {interval} begins below 0; noise levels do not")
        if not self.method.guided and (scale != self.method.scale or interval is not None):
            raise UserError(
                f"{self.config.method} samples without guidance; leave scale and interval out"
            )

    def _likelihood_score(self, temperature: float) -> LabelledScore | None:
        """That of the classifier, if one guides."""
        if self.method.guidance != "classifier":
            if temperature != 1:
                raise UserError(
                    f"temperature {temperature:g}: {self.config.method} samples without a "
                    "classifier; leave it out"
                )
            return None
        if not 0 < temperature < math.inf:
            raise UserError(f"temperature {temperature:g} is not a positive number; 1 is usual")
        return partial(self.classifier.likelihood_score, temperature=temperature)

    def _times(self, interval: tuple[float, float] | None) -> guidance.Times:
        """A guidance interval in noise levels as one in times."""
        if interval is None:
            return None
        process = self.score_model.process
        beyond = 2 * process.noise_ratio(torch.tensor(process.t_max, dtype=torch.float64))
        ends = torch.tensor(interval, dtype=torch.float64).clamp_max(beyond)
        low, high = process.time_at(ends).tolist()
        return low, high

    def class_index(self, label: int | str) -> int:
        """The index of a class given by its name, or by its place among names that are no numbers.

        Where classes are called by numbers, a number is always a name: 3 is the class "3".

        Raises:
            UserError: if there is no such class.
        """
        if (found := index_of(label, self.class_names)) is None:
            raise self._unknown(label)
        return found[0]

    def _unknown(self, label: object) -> UserError:
        names = ", ".join(self.class_names[:20]) + (", …" if len(self.class_names) > 20 else "")
        return UserError(
            f"class {str(label)!r} is unknown to {self.folder.path}; choose one of {names}"
        )

    def _labels(
        self, label: int | str | Sequence[int | str] | Tensor | None, n: int | None, first: int
    ) -> Tensor:
        """The class of each of n samples."""
        if n is not None and n < 1:
            raise UserError(f"n={n} samples were asked for; ask for at least 1")
        if label is None:
            return torch.arange(first, first + (n or _SAMPLES)) % len(self.class_names)
        if isinstance(label, str) or np.ndim(label) == 0:
            return torch.full((n or _SAMPLES,), self._index(cast(int | str | Tensor, label)))
        each = cast(Sequence[int | str | Tensor], label)
        labels = torch.tensor([self._index(one) for one in each], dtype=torch.int64)
        if not len(labels):
            raise UserError("no label was given; give at least one")
        if n is not None and len(labels) != n:
            raise UserError(f"{len(labels)} labels for n={n} samples; give one label a sample")
        return labels

    def _index(self, label: int | str | Tensor) -> int:
        """The class of one sample: tensors hold indices."""
        if not isinstance(label, Tensor):
            return self.class_index(label)
        if label.is_floating_point() or not 0 <= int(label) < len(self.class_names):
            raise UserError(
                f"a tensor of labels holds {label.item():g}; the classes of {self.folder.path} "
                f"have the indices 0 to {len(self.class_names) - 1}"
            )
        return int(label)

    def _trained(self, model: Any, stage: str) -> Any:
        model.load_state_dict(self.folder.average(stage, self.config))
        model.to(self.device).eval().requires_grad_(False)
        if self._compiled:
            compile_model(model, self.device)
        return model


def load(
    folder: str | os.PathLike[str],
    device: str | None = None,
    compiled: bool = False,
    data: str | os.PathLike[str] | None = None,
) -> Run:
    """Open a run folder to sample from it and to judge it.

    Args:
        folder: what `train` made.
        device: where to compute, such as "cpu" or "cuda"; by default a GPU if there is one.
        compiled: compile the models, see `Run`.
        data: where its data are now, if they moved.

    Raises:
        UserError: if the folder is no run.
    """
    return Run(folder, device, compiled, data)


def check_batch_size(batch_size: int) -> None:
    """Refuse to draw no samples together.

    Raises:
        UserError: if the number is not positive.
    """
    if batch_size < 1:
        raise UserError(f"batch size {batch_size} is not positive; 256 is usual")


def find_device(name: str | None) -> torch.device:
    """The device of a name; by default a GPU if there is one, and each process has its own.

    On a GPU products of float32 are rounded to TF32 from then on.

    Raises:
        UserError: if there is no such device.
    """
    gpu = torch.cuda.is_available()
    device = None
    with suppress(RuntimeError):
        device = torch.device(name or ("cuda" if gpu else "cpu"))
    if device is None or device.type not in ("cpu", "cuda"):
        raise UserError(f"device {name!r} is unknown, or not supported; give cpu or cuda")
    if device.type == "cuda" and not gpu:
        raise UserError(f"device {name!r}: this machine has no such GPU; give cpu")
    if device.type == "cuda":
        if device.index is not None:  # training goes by the current one
            torch.cuda.set_device(device)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    own = launched.number() > 1  # each process has its own
    return launched.device_of_process(device.type == "cpu") if own else device


def _several(values: Any) -> Sequence[Any]:
    """Values, or one, as a sequence."""
    return (values,) if values is None or isinstance(values, str | int | float) else values


class _Counted:
    """Calls a function and counts how often."""

    def __init__(self, function: Any) -> None:
        self.function, self.calls = function, 0

    def __call__(self, *arguments: Tensor) -> Tensor:
        self.calls += 1
        return self.function(*arguments)


class _Watch:
    """Shows the steps of batches as progress, and hands them to the caller's callback."""

    def __init__(self, callback: Callback | None, progress: Task | None, total: int) -> None:
        if callback is not None and launched.number() > 1:
            raise UserError("a callback sees one of several processes: draw in one, or without it")
        self._callback, self._progress = callback, progress or Task()
        self._done, self._total, self.stopped = 0, total, False

    def step(self, step: Step) -> bool:
        """Show a step; whether to go on."""
        n = len(step.x)
        self._progress.set(self._done + min(int(n * step.done), n - 1), self._total)
        self.stopped = self._callback is not None and loop.stops(self._callback(step))
        return not self.stopped

    def batch(self, n: int) -> None:
        """A batch of n is done; of the last one it is shown, of others by the next step."""
        self._done += n
        if self._done == self._total:
            self._progress.set(self._done, self._total)
