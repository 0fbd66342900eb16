"""The labels of a few examples, spread to all by their features."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fewlabel.batch import UNLABELLED
from fewlabel.progress import Task
from fewlabel.teachers.probe import linear_probe
from fewlabel.teachers.propagation import (
    Probabilities,
    label_propagation,
    neighbour_graph,
    smoothed,
)

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = ["spread_labels"]

_NEAR = 0.8
_FOLDS = 3


def spread_labels(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    n_classes: int,
    task: Task | None = None,
) -> Probabilities:
    """Class probabilities q of all examples.

    The labels propagate along a graph of neighbours. With many labels a linear probe of the
    features, fitted to labels and propagated labels and smoothed along the graph (a = 0.8), may
    know better. It is taken if it finds more labels that were hidden from both, three-fold: by
    more than √m, where m are found by only one of them; that is one standard deviation of chance.
    With fewer than six labels it is not tried.

    Args:
        features: (N, F).
        labels: (N,) classes, −1 where there is none.
        n_classes: K.
        task: shows how many times of all they have propagated.

    Returns:
        q, (N, K), rows of sum 1. Those with a label keep it.

    Raises:
        UserError: if no example has a label.
    """
    task = task or Task()
    folds = _folds(labels)
    task.set(0, len(folds) + 1)
    graph = neighbour_graph(features)
    ahead, apart = 0, 0
    for done, hidden in enumerate(folds, 1):
        shown = labels.copy()
        shown[hidden] = UNLABELLED
        q = label_propagation(graph, shown, n_classes)
        p = _probed(graph, features, shown, q)
        of_graph, of_probe = (found[hidden].argmax(1) == labels[hidden] for found in (q, p))
        ahead += int(of_probe.sum()) - int(of_graph.sum())
        apart += int((of_probe != of_graph).sum())
        task.set(done, len(folds) + 1)
    q = label_propagation(graph, labels, n_classes)
    if ahead > apart**0.5:
        q = _probed(graph, features, labels, q)
    task.set(len(folds) + 1, len(folds) + 1)
    return q


def _folds(labels: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Which labels are hidden together; none where there are too few to miss some."""
    labelled = np.flatnonzero(labels != UNLABELLED)
    if len(labelled) < 2 * _FOLDS:
        return []
    return np.array_split(np.random.default_rng(0).permutation(labelled), _FOLDS)


def _probed(
    graph: "csr_array",
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    propagated: Probabilities,
) -> Probabilities:
    """What the smoothed probe says."""
    return smoothed(graph, linear_probe(features, labels, propagated), labels, reach=_NEAR)
