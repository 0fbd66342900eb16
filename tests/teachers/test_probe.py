"""The linear probe, beside the condition that defines its minimum."""

import numpy as np
from numpy.typing import NDArray

from fewlabel.teachers import linear_probe


def scattered(n: int = 300, k: int = 3) -> tuple[NDArray, NDArray, NDArray]:
    """Features, labels of every tenth example, and what might have been propagated."""
    rng = np.random.default_rng(0)
    classes = rng.integers(k, size=n)
    x = rng.normal(size=(n, 4)) + 1.5 * rng.normal(size=(k, 4))[classes]
    labels = np.where(np.arange(n) % 10 == 0, classes, -1)
    q = rng.dirichlet(np.ones(k), n) + 2 * np.eye(k)[classes]
    q[labels >= 0] = np.eye(k)[labels[labels >= 0]]
    return x.astype(np.float32), labels, (q / q.sum(1, keepdims=True)).astype(np.float32)


def test_it_is_the_minimum_of_the_weighted_loss() -> None:
    """W = C Σ_i w_i (e_ŷ − p_i) f_i there, and the same sum without f vanishes."""
    x, labels, q = scattered()
    p = linear_probe(x, labels, q).astype(np.float64)
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-5)
    known = labels >= 0
    weights = np.where(known, 0, q.max(1) ** 2)
    weights *= 0.3 * known.sum() / weights.sum()
    weights[known] = 1
    residual = weights[:, None] * (np.eye(3)[np.where(known, labels, q.argmax(1))] - p)
    np.testing.assert_allclose(residual.sum(0), 0, atol=2e-2)
    centred = np.log(p) - np.log(p).mean(1, keepdims=True)
    design = np.concatenate([x, np.ones((len(x), 1))], 1)
    solution = np.linalg.lstsq(design, centred, rcond=None)[0]
    np.testing.assert_allclose(design @ solution, centred, atol=1e-3)  # it is linear
    np.testing.assert_allclose(solution[:4], 0.3 * x.T @ residual, atol=1e-2)


def test_labels_of_one_class_say_nothing_about_directions() -> None:
    x, labels, q = scattered()
    labels[labels > 0] = -1
    assert np.array_equal(linear_probe(x, labels, q), q)
