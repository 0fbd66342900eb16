"""The labels of a few examples, spread to all by their features."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fewlabel.batch import UNLABELLED
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
    features: NDArray[np.float32], labels: NDArray[np.int64], n_classes: int
) -> Probabilities:
    """Class probabilities q of all examples.

    The labels propagate along a graph of neighbours. With many labels a linear probe of the
    features, fitted to labels and propagated labels and smoothed along the graph (a = 0.8), may
    know better. It is taken if it finds more labels that were hidden from both, three-fold: more
    by at least √m of the m that only one of them finds, one standard deviation of chance.

    Args:
        features: (N, F).
        labels: (N,) classes, −1 where there is none.
        n_classes: K.

    Returns:
        q, (N, K), rows of sum 1. Those with a label keep it.

    Raises:
        UserError: if no example has a label.
    """
    graph = neighbour_graph(features)
    believed, probed = _both(graph, features, labels, n_classes)
    ahead, apart = 0, 0
    for hidden in _folds(labels):
        shown = labels.copy()
        shown[hidden] = UNLABELLED
        of_graph, of_probe = (
            q[hidden].argmax(1) == labels[hidden] for q in _both(graph, features, shown, n_classes)
        )
        ahead += int(of_probe.sum()) - int(of_graph.sum())
        apart += int((of_probe != of_graph).sum())
    return probed if ahead > apart**0.5 else believed


def _folds(labels: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Which labels are hidden together; none where there are too few to miss some."""
    labelled = np.flatnonzero(labels != UNLABELLED)
    if len(labelled) < 2 * _FOLDS:
        return []
    return np.array_split(np.random.default_rng(0).permutation(labelled), _FOLDS)


def _both(
    graph: "csr_array", features: NDArray[np.float32], labels: NDArray[np.int64], n_classes: int
) -> tuple[Probabilities, Probabilities]:
    """What propagation says, and what the smoothed probe says."""
    q = label_propagation(graph, labels, n_classes)
    return q, smoothed(graph, linear_probe(features, labels, q), labels, reach=_NEAR)
