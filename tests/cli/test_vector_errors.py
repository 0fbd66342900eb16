"""Bad vectors and settings of the mathematics: status 2 and one line with what and the mend."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

N = 40
VECTORS = np.random.default_rng(0).normal(size=(N, 3))
LABELS = np.repeat([0, 1], N // 2)


def with_value(value: float) -> NDArray:
    changed = VECTORS.copy()
    changed[7, 1] = value
    return changed


@pytest.mark.parametrize(
    ("vectors", "labels", "fragments"),
    [
        (VECTORS[..., None], LABELS, ["vectors are float64 of shape (40, 3, 1)", "(N, D)"]),
        (VECTORS.astype(str), LABELS, ["make them numbers (N, D)"]),
        (VECTORS, LABELS[:-1], ["labels are int64 of shape (39,)", "of shape (40,)"]),
        (VECTORS, LABELS.astype(float), ["labels are float64", "make them integers"]),
        (VECTORS, LABELS - 2, ["label -2 in row 0", "−1 is none"]),
        (VECTORS, 0 * LABELS, ["fewer than two classes", "add data of another class"]),
        (with_value(np.nan), LABELS, ["vectors row 7 is not finite", "remove it"]),
        (with_value(np.inf), LABELS, ["vectors row 7 is not finite", "remove it"]),
        (np.ones((N, 3)), LABELS, ["constant"]),
    ],
)
def test_bad_vectors(
    cli: Callable, tmp_path: Path, vectors: NDArray, labels: NDArray, fragments: list[str]
) -> None:
    np.savez(tmp_path / "data.npz", vectors=vectors, labels=labels)
    refused = cli("train", tmp_path / "data.npz", "--out", tmp_path / "run")
    assert refused.status == 2
    assert refused.out == ""
    assert refused.err.count("\n") == 1
    assert "data.npz" in refused.err
    for fragment in fragments:
        assert fragment in refused.err
    assert not (tmp_path / "run").exists()


def test_no_label_at_all(cli: Callable, tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", vectors=VECTORS, labels=np.full(N, -1))
    refused = cli("train", tmp_path / "data.npz", "--out", tmp_path / "run")
    assert refused.status == 2
    note, error = refused.err.splitlines()
    assert note == f"note: {N} rows say -1: unlabelled"
    assert "data.npz has fewer than two classes: add data of another class" in error


def test_names_for_fewer_classes_than_there_are(cli: Callable, tmp_path: Path) -> None:
    names = np.array(["left", "right"])
    np.savez(tmp_path / "data.npz", vectors=VECTORS, labels=LABELS + 2, class_names=names)
    refused = cli("train", tmp_path / "data.npz", "--out", tmp_path / "run")
    assert refused.status == 2
    assert "data.npz: class_names: 2 names for 4 classes, none for 2: name each" in refused.err


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (["--set", "process.sigma_min=300"], ["sigma_min=300", "smaller sigma_min"]),
        (
            ["--set", "process.sigma_min=2", "--set", "process.sigma_max=2"],
            ["sigma_min=2 and sigma_max=2", "0 < sigma_min < sigma_max"],
        ),
        (["--set", "process.sigma_min=much"], ["sigma_min, sigma_max are numbers"]),
        (["--set", "process.name=foo"], ["'foo'", "choose one of"]),
        (["--set", "process.beta=1"], ["no parameter 'beta'; it has sigma_min, sigma_max"]),
        (["--set", "classifier.energy=foo"], ["classifier.energy", "'scaled'"]),
        (["--set", "classifier.fit.weights.dlsm=1"], ["no such loss"]),
        (["--size", "8"], ["leave --size out"]),
        (["--labels", "9000/class"], ["ask for at most"]),
        (["--method", "cg-magic"], ["'cg-magic'", "choose one of"]),
    ],
)
def test_wrong_settings(
    cli: Callable, tmp_path: Path, arguments: list[str], fragments: list[str]
) -> None:
    refused = cli("train", "moons", "--out", tmp_path / "run", *arguments)
    assert refused.status == 2
    assert refused.err.count("\n") == 1
    for fragment in fragments:
        assert fragment in refused.err
    assert not (tmp_path / "run").exists()


def test_vectors_have_no_left_and_right(cli: Callable, tmp_path: Path) -> None:
    refused = cli("train", "moons", "--flip", "--out", tmp_path / "run")
    assert refused.status == 2
    assert "score.fit.flip: the examples of moons are vectors" in refused.err.splitlines()[-1]
    assert not (tmp_path / "run").exists()
