"""What samples were asked for: a folder holds one request, and each of its pictures tells it."""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from fewlabel import __version__
from fewlabel.errors import UserError
from fewlabel.files import file_stems, locked, refuse_file, write_json
from fewlabel.networks.weights_key import weights_key
from fewlabel.owners import sweep
from fewlabel.progress import speaks
from fewlabel.run import Run, check_batch_size
from fewlabel.samplers import find_sampler
from fewlabel.texts import brief

__all__ = ["REQUEST", "SampleRequest", "request_of"]

REQUEST = "request.json"
"""The file by which a folder of samples is known; the first that is written there."""

_HOW = ("run", "batch_size", "device")
"""Where and how it is computed: no part of what was asked for."""

_KIND = "folder of samples"


@dataclass(frozen=True, kw_only=True)
class SampleRequest:
    """All that the pixels of samples depend on.

    Attributes:
        label: the name of the class; None for every class.
        n: samples of each class.
        scale: guidance scale.
        interval: noise levels σ/α outside which the guidance is off; None for everywhere.
        temperature: what divides the classifier's logits.
        sampler: its name.
        steps: its grid points.
        seed: fixes the noise.
        run: the absolute path of the run folder.
        method: the run's method.
        weights: a hash of the weights that sample, and of the noise process.
        batch_size: how many are drawn together.
        device: where, "cpu" or "cuda".
        class_names: of all classes, in the order of the labels.
        fewlabel: the version of this package.
    """

    label: str | None
    n: int
    scale: float
    interval: tuple[float, float] | None
    temperature: float
    sampler: str
    steps: int
    seed: int
    run: str
    method: str
    weights: str
    batch_size: int
    device: str
    class_names: tuple[str, ...]
    fewlabel: str = __version__

    def settings(self) -> dict[str, Any]:
        """The arguments of `Run.draw` for any of the samples."""
        names = ("scale", "interval", "temperature", "sampler", "steps", "seed", "batch_size")
        return {name: getattr(self, name) for name in names}

    def document(self) -> dict[str, Any]:
        """The request as plain values for JSON."""
        return json.loads(json.dumps(asdict(self)))

    def note(self, **of_picture: Any) -> str:
        """What a picture tells: JSON of the request, without the names of other classes.

        Args:
            of_picture: what holds of this picture alone, such as its class.
        """
        return json.dumps(self._told | of_picture)

    @cached_property
    def _told(self) -> dict[str, Any]:
        whole = self.document()
        del whole["class_names"]
        return whole

    def own_folder(self, parent: Path, guided: bool) -> Path:
        """A folder for this request alone, such as `heron-scale-2-seed-1`.

        Where another request has that name, a hash of this one is added.

        Args:
            parent: where the folder is to be.
            guided: whether the scale means anything.
        """
        of_class = "all" if self.label is None else file_stems([self.label])[0]
        scale = f"-scale-{self.scale:g}" if guided else ""
        plain = parent / f"{of_class}{scale}-seed-{self.seed}"
        if self._conflict(plain) is None:
            return plain
        text = json.dumps(self._asked(self.document()), sort_keys=True)
        key = hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
        return parent / f"{plain.name}-{key}"

    def check(self, folder: Path) -> None:
        """Refuse a folder that holds other files or another request.

        Raises:
            UserError: if it does; it names the first setting that differs.
        """
        refuse_file(folder)
        if (conflict := self._conflict(folder)) is not None:
            raise UserError(f"{folder} {conflict}; give another --out")

    @contextlib.contextmanager
    def begun(self, folder: Path) -> Iterator[None]:
        """Keep the folder for this request while the block runs, and write it there first.

        Of several processes that were launched together the main one does so.

        Raises:
            UserError: for a folder that holds other files or another request, one that another
                process works in, or that cannot be written to.
        """
        self.check(folder)
        if not speaks():
            yield
            return
        with locked(folder):
            self.check(folder)
            sweep(folder)
            write_json(folder / REQUEST, self.document())
            yield

    def _conflict(self, folder: Path) -> str | None:
        """Why the folder cannot take this request, if it cannot."""
        if not folder.exists():
            return None
        try:
            found = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
        except FileNotFoundError:
            free = folder.is_dir() and all(path.name[0] == "." for path in folder.iterdir())
            return None if free else f"holds other files and is no {_KIND}"
        except (OSError, ValueError) as error:
            return f"is no {_KIND}: its {REQUEST} cannot be read ({brief(str(error), 80)})"
        if not isinstance(found, dict):
            return f"is no {_KIND}: its {REQUEST} holds something else"
        for key, value in self._asked(self.document()).items():
            if key not in found or found[key] != value:
                told = (brief(json.dumps(v, ensure_ascii=False)) for v in (found.get(key), value))
                return "holds samples of another request ({}: {}, now {})".format(key, *told)
        return None

    @staticmethod
    def _asked(document: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in document.items() if key not in _HOW}


def request_of(
    run: Run,
    classes: Sequence[int],
    *,
    n: int,
    scale: float | None,
    sampler: str,
    steps: int | None,
    seed: int,
    batch_size: int,
    interval: tuple[float, float] | None,
    temperature: float,
) -> SampleRequest:
    """The request for samples of a run, with every default filled in.

    Args:
        run: the run to sample from; its weights are read.
        classes: those that are asked for: one, or every one.
        n: samples of each class.
        scale: guidance scale; None for the method's default.
        sampler: a name in `samplers.SAMPLERS`.
        steps: its grid points; None for its default.
        seed: fixes the noise.
        batch_size: how many are drawn together.
        interval: noise levels outside which the guidance is off.
        temperature: what divides the classifier's logits.

    Raises:
        UserError: for what `Run.draw` would refuse.
    """
    scale = float(run.method.scale if scale is None else scale)
    check_batch_size(batch_size)
    points = find_sampler(sampler, steps).steps
    run.guided(torch.tensor(classes), scale, interval=interval, temperature=temperature)  # refuses
    return SampleRequest(
        label=run.class_names[classes[0]] if len(classes) == 1 else None,
        n=n,
        scale=scale,
        interval=interval,
        temperature=temperature,
        sampler=sampler,
        steps=points,
        seed=seed,
        run=str(run.folder.path.resolve()),
        method=run.config.method,
        weights=_weights(run),
        batch_size=batch_size,
        device=run.device.type,
        class_names=run.class_names,
    )


def _weights(run: Run) -> str:
    """A hash of the models that sample, and of what they are without their weights."""
    config, of_classifier = run.config, ""
    if run.method.guidance == "classifier":
        own = config.classifier
        of_classifier = weights_key(run.classifier, own.energy)
    facts = config.process, config.sigma_data, config.score.prediction, config.score.time_scale
    return weights_key(run.score_model, *facts, config.precision, of_classifier)
