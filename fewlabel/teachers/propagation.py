"""Label propagation: few labels, or guesses, spread along a graph of neighbours."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fewlabel.batch import UNLABELLED
from fewlabel.errors import UserError

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = ["label_propagation", "neighbour_graph", "smoothed"]

Probabilities = NDArray[np.float32]

_TOLERANCE = 1e-3
_STEPS_AT_ONCE = 50


def neighbour_graph(features: NDArray[np.float32], neighbours: int = 8) -> "csr_array":
    """S = D^−½ W D^−½, (N, N), sparse: each example is joined with its nearest neighbours.

    W_ij = exp(−d_ij²/(d_i d_j)), symmetric, where d_i is the distance of i to its last neighbour
    (Zelnik-Manor & Perona 2004, "Self-Tuning Spectral Clustering"), and D is the sum of its rows.

    Args:
        features: (N, F).
        neighbours: of each example, at least 1; all others where there are fewer.
    """
    from scipy import sparse
    from sklearn.neighbors import kneighbors_graph

    n = len(features)
    neighbours = min(neighbours, n - 1)
    if not neighbours:
        return sparse.csr_array((n, n))
    graph = kneighbors_graph(features, neighbours, mode="distance").tocoo()
    squares = graph.data.astype(np.float64) ** 2
    last = squares.reshape(n, neighbours).max(1)
    scale = np.sqrt(last[graph.row] * last[graph.col])
    beside_copies = np.where(squares > 0, np.inf, 0.0)  # where d_i or d_j is 0
    weights = np.exp(-np.divide(squares, scale, out=beside_copies, where=scale > 0))
    one_way = sparse.csr_array((weights, (graph.row, graph.col)), shape=(n, n))
    both = one_way.maximum(one_way.T)
    sums = both.sum(1)
    normal = sparse.diags_array(np.divide(1, np.sqrt(sums), out=np.zeros(n), where=sums > 0))
    return normal @ both @ normal


def label_propagation(
    graph: "csr_array",
    labels: NDArray[np.int64],
    n_classes: int,
    *,
    reach: float = 0.99,
    temperature: float = 0.25,
) -> Probabilities:
    """Class probabilities q of all examples from the labels of a few.

    With S of `neighbour_graph` and the labels Y, one-hot,

        Z = (1 − a)(I − a S)^−1 Y,   q_ik ∝ (π_k Z_ik / Σ_j Z_jk)^(1/T)

    Zhou et al. 2004, "Learning with Local and Global Consistency". Every class gets the share π_k
    that it has among the labels (class mass normalisation, Zhu, Ghahramani & Lafferty 2003), and
    T < 1 sharpens what propagation leaves flat. Those with a label keep it.

    Args:
        graph: S, (N, N).
        labels: (N,) classes, −1 where there is none.
        n_classes: K.
        reach: a in (0, 1); near 1, labels go far.
        temperature: T > 0.

    Returns:
        q, (N, K), rows of sum 1. Where no label can be reached it is π.

    Raises:
        UserError: if no example has a label.
    """
    nothing = np.zeros((len(labels), n_classes), np.float32)
    return smoothed(graph, nothing, labels, reach=reach, temperature=temperature)


def smoothed(
    graph: "csr_array",
    guesses: Probabilities,
    labels: NDArray[np.int64],
    *,
    reach: float,
    temperature: float = 1.0,
) -> Probabilities:
    """Label propagation that starts from guesses P where there is no label.

    The same formula with Y_i = P_i there: the step "smooth" of Huang et al. 2020, "Combining Label
    Propagation and Simple Models Out-performs Graph Neural Networks", arXiv 2010.13993.

    Args:
        graph: S, (N, N).
        guesses: P, (N, K), of which the rows of those without a label count.
        labels: (N,) classes, −1 where there is none.
        reach: a in (0, 1).
        temperature: T > 0.

    Returns:
        q, (N, K), rows of sum 1.

    Raises:
        UserError: if no example has a label.
    """
    if not (labels != UNLABELLED).any():
        raise UserError("no example has a label to propagate; label a few of each class")
    labelled = labels != UNLABELLED
    known = np.eye(guesses.shape[1])[labels[labelled]]
    if labelled.all():
        return known.astype(np.float32)
    start = guesses.astype(np.float64)
    start[labelled] = known
    prior = known.mean(0)
    reached = _solve(graph, start, reach)
    mass = reached.sum(0)
    shares = reached * np.divide(prior, mass, out=np.zeros_like(mass), where=mass > 0)
    top = shares.max(1, keepdims=True)
    q = np.divide(shares, top, out=np.zeros_like(shares), where=top > 0) ** (1 / temperature)
    q[top[:, 0] <= 0] = prior
    q[labelled] = known
    return (q / q.sum(1, keepdims=True)).astype(np.float32)


def _solve(
    affinities: "csr_array", spread: NDArray[np.float64], reach: float
) -> NDArray[np.float64]:
    """(1 − a)(I − a S)^−1 Y = (1 − a) Σ_m (a S)^m Y, each element to about three digits.

    All terms are positive, so that the sum is right even where it is minute, many steps from any
    label; there the classes are told apart by the ratio of minute numbers.
    """
    start = (1 - reach) * spread
    matrix, total, done = reach * affinities, start, False
    while not done:
        for _ in range(_STEPS_AT_ONCE):
            before, total = total, matrix @ total + start
        done = bool((total - before <= _TOLERANCE * (1 - reach) * total).all())
    return total
