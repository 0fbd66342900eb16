"""`import`: from what a user names as SOURCE to a run."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fewlabel.config import setting
from fewlabel.errors import UserError
from fewlabel.interop.diffusers_folder import SCHEDULE_KEYS, read_folder
from fewlabel.interop.imported import refuse_trained, write_run
from fewlabel.interop.published import PUBLISHED_KEYS, read_published
from fewlabel.run import Run
from fewlabel.run_folder import RunFolder

__all__ = ["import_model"]

_NUMBERS = {
    "sigma_min": 0.01,
    "sigma_max": 50,
    "beta_min": 0.1,
    "beta_max": 20,
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "num_train_timesteps": 1000,
}
"""Settings that are numbers, and a usual value."""

_FILES = ("*.json", "*.safetensors", "*.bin")  # no code


def import_model(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    size: int | None = None,
    settings: Iterable[str] = (),
    device: str | None = None,
) -> Run:
    """Make a run with the score model of another library.

    Args:
        source: a diffusers folder, or its name on the hub, or a `.pth` file of the score-SDE code.
        out: the run folder.
        size: side of the images, where the source does not tell.
        settings: "key=value", of the noise schedule where the source does not tell.
        device: where the run that is given back computes.

    Raises:
        UserError: for a source that is not there or cannot be expressed, or an `out` in use.
    """
    name = os.fspath(source)
    refuse_trained(RunFolder(out))
    path = Path(name) if Path(name).exists() else _downloaded(name)
    if path.is_dir():
        model = read_folder(path, size, _settings(settings, SCHEDULE_KEYS))
    else:
        model = read_published(path, size, _settings(settings, PUBLISHED_KEYS))
    where = str(path.resolve()) if Path(name).exists() else name
    return Run(write_run(model, out, where).path, device)


def _settings(texts: Iterable[str], known: tuple[str, ...]) -> dict[str, Any]:
    """The values of "key=value" texts."""
    found: dict[str, Any] = {}
    for text in texts:
        key, equals, _ = text.partition("=")
        if not equals or key not in known:
            raise UserError(f"--set {text}: give key=value; the keys are {', '.join(known)}")
        key, found[key] = setting(text)
        if key in _NUMBERS and not isinstance(found[key], int | float):
            raise UserError(f"--set {text}: give a number, such as {key}={_NUMBERS[key]}")
    return found


def _downloaded(name: str) -> Path:
    """The files of a name on the hub, in the cache of the hub's own library."""
    if name.count("/") != 1 or name.startswith((".", "/", "~")) or name.endswith(".pth"):
        raise UserError(f"{name}: there is no such file or folder: check the path")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=list(_FILES)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"{name} is neither here nor to be had from the hub ({reason}): check the name, or "
            "download it and give its folder"
        ) from None
