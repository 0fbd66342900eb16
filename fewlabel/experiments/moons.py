"""What the experiments on the two moons share: the exact density, the runs, their scores."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewlabel.data.moons import load_moons
from fewlabel.errors import UserError
from fewlabel.metrics.score_error import Fields
from fewlabel.oracle import GaussianMixture, point_cloud
from fewlabel.run import Run, load
from fewlabel.run_folder import RunFolder, summary
from fewlabel.training.plan import plan
from fewlabel.training.train import train

__all__ = ["estimated_fields", "finished_run", "moons_mixture", "settings"]


def moons_mixture() -> GaussianMixture:
    """The 10,000 points of the moons as an exact mixture; its classes are those of the data."""
    data = load_moons()
    return point_cloud(torch.from_numpy(data.values), torch.from_numpy(data.labels))


def settings(section: str, values: Mapping[str, Any]) -> tuple[str, ...]:
    """Overrides `section.key=value` as `train` takes them."""
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
    folder = RunFolder(out)
    if folder.exists and summary(folder)["state"] == "finished":
        options = {"method": method, "labels": labels, "seed": seed}
        asked = plan("moons", options=options, score=score, overrides=overrides)
        if asked.config != folder.read_config():
            raise UserError(f"{folder} was made with other settings; choose another --out")
        return load(out, "cpu")
    return train(
        "moons",
        out=out,
        method=method,
        labels=labels,
        seed=seed,
        score=score,
        overrides=overrides,
        device="cpu",
    )


@torch.no_grad()
def estimated_fields(
    run: Run, sigma: float, x: Tensor, y: int | Tensor, scale: float = 1.0
) -> Fields:
    """The scores of a run's models at points x (B, D) for classes y, () or (B,), at σ/α = sigma.

    The likelihood score is multiplied by the guidance scale. In classifier-free guidance it is
    that of the implicit classifier, s(x,t,y) − s(x,t,∅).
    """
    model, t = run.score_model, run.score_model.process.time_at(torch.tensor(sigma))
    labels = torch.as_tensor(y).expand(len(x))
    if run.method.guidance == "conditional":
        return Fields(model(x, t, labels))
    prior = model(x, t)
    if run.method.guidance == "classifier":
        likelihood = run.classifier.likelihood_score(x, t, labels)
    else:
        likelihood = model(x, t, labels) - prior
    return Fields(prior + scale * likelihood, scale * likelihood, prior)
