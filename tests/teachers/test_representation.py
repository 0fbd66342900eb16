"""Features of a score model: what they are of, and how their directions are weighed."""

import copy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fewlabel.data import open_dataset
from fewlabel.errors import UserError
from fewlabel.process import EDM, VE, VP, Process, SubVP
from fewlabel.progress import Task
from fewlabel.run import Run
from fewlabel.score import ScoreModel
from fewlabel.teachers import representation
from fewlabel.teachers.representation import half_whitened, half_whitening


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FEWLABEL_CACHE", str(tmp_path / "first"))
    return tmp_path


def test_directions_have_the_root_of_their_spread_and_are_uncorrelated() -> None:
    rng = np.random.default_rng(0)
    spreads = np.array([9.0, 4.0, 1.0, 0.25])
    turn = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    x = (rng.normal(size=(4000, 4)) * spreads) @ turn + 7
    found = half_whitening(x.astype(np.float32), 3)(x.astype(np.float32))
    covariance = np.cov(found.T)
    exact = np.sqrt(np.linalg.eigvalsh(np.cov(x.T)))[::-1][:3]
    np.testing.assert_allclose(covariance, np.diag(exact), atol=1e-3)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-4)


def test_directions_without_variance_stay_without() -> None:
    """As where there are fewer examples than directions."""
    rng = np.random.default_rng(0)
    x = (1000 * rng.normal(size=(6, 3)) @ rng.normal(size=(3, 40))).astype(np.float32)
    found = half_whitening(x, 6)(x)
    assert found.shape == (6, 6)
    assert np.abs(found[:, 3:]).max() < 1e-3 * np.abs(found[:, :3]).min(0).max()


def test_images_are_features_of_every_level_of_the_clean_image(finished_run: Run) -> None:
    """Beside the network itself, level by level, but for the signs of the directions."""
    run, indices = finished_run, finished_run.splits.train[:60]
    score = run.score_model
    found = representation(score, run.dataset, indices, Task())
    x = run.dataset.examples(indices)
    levels: list[torch.Tensor] = []
    handles = [
        block.register_forward_hook(lambda module, inputs, output: levels.append(output))
        for block in score.network.model.up_blocks
    ]
    with torch.no_grad():
        score(x, torch.tensor(0.2 * run.config.sigma_data))  # EDM: a time is a σ, α = 1
    for handle in handles:
        handle.remove()
    pooled = [
        functional.avg_pool2d(level, level.shape[-1] // min(4, level.shape[-1])).flatten(1)
        for level in levels
    ]
    joined = torch.cat([level / level.std() for level in pooled], 1).double().numpy()
    _, s, directions = np.linalg.svd(joined - joined.mean(0), full_matrices=False)
    strong = slice(12)
    along = (joined - joined.mean(0)) @ directions[strong].T
    expected = along / np.sqrt(s[strong] / np.sqrt(59))
    np.testing.assert_allclose(np.abs(found[:, strong]), np.abs(expected), atol=0.01)


def test_vectors_are_their_own_features_in_units_of_their_spread(finished_run: Run) -> None:
    moons = open_dataset("moons")
    everything = np.arange(len(moons))
    score = ScoreModel(finished_run.score_model.network, EDM(), moons.spread(everything))
    found = representation(score, moons, everything, Task())
    assert found.std() == pytest.approx(1, rel=1e-2)
    np.testing.assert_allclose(found * score.sigma_data, moons.values, rtol=1e-5)


@pytest.mark.parametrize("process", [VP(), SubVP(), VE(), EDM(sigma_min=0.01)])
def test_features_are_those_of_the_network_whatever_the_process(
    finished_run: Run, process: Process
) -> None:
    """Told of the same noise, σ/α, it sees the same image, however noise is added to it."""
    run, indices = finished_run, finished_run.splits.train[:40]
    own = run.score_model
    other = ScoreModel(own.network, process, own.sigma_data)
    expected, found = (representation(m, run.dataset, indices, Task()) for m in (own, other))
    strong = slice(12)
    np.testing.assert_allclose(np.abs(found[:, strong]), np.abs(expected[:, strong]), atol=1e-2)


@pytest.mark.parametrize("batch", [7, 16])
def test_features_do_not_depend_on_the_batch(
    finished_run: Run, monkeypatch: pytest.MonkeyPatch, cache: Path, batch: int
) -> None:
    run, indices = finished_run, finished_run.splits.train[:40]
    expected = representation(run.score_model, run.dataset, indices, Task())
    monkeypatch.setattr(sys.modules[representation.__module__], "_MOST", batch)
    monkeypatch.setenv("FEWLABEL_CACHE", str(cache / "second"))
    found = representation(run.score_model, run.dataset, indices, Task())
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-2 * np.abs(expected).max())


def test_features_are_computed_once_for_the_same_weights_and_examples(finished_run: Run) -> None:
    run, indices = finished_run, finished_run.splits.train[:40]
    looks = 0

    def look(_: object, inputs: tuple[Tensor, ...], output: object) -> None:
        nonlocal looks
        looks += len(inputs[0])

    def found(score: ScoreModel, which: NDArray[np.int64]) -> tuple[NDArray[np.float32], bool]:
        before = looks
        return representation(score, run.dataset, which, Task()), looks > before

    score = copy.deepcopy(run.score_model)
    score.network.register_forward_hook(look)
    first, computed = found(score, indices)
    assert computed
    assert looks == len(indices)  # each image once
    again, computed = found(score, indices)
    assert not computed
    assert np.array_equal(first, again)
    assert found(score, indices[::-1].copy())[1]
    with torch.no_grad():
        next(score.parameters()).mul_(1.1)
    other, computed = found(score, indices)
    assert computed
    assert not np.allclose(first, other)


def test_equal_features_are_refused() -> None:
    with pytest.raises(UserError, match="nothing tells them apart"):
        half_whitened(np.ones((5, 3), np.float32))
