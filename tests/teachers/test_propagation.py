"""Labels spread along a graph, beside the inverse matrix that defines them."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from fewlabel.data import draw_splits, open_dataset
from fewlabel.errors import UserError
from fewlabel.teachers import label_propagation, neighbour_graph, smoothed


def blobs(n: int, k: int = 3, dimensions: int = 5, seed: int = 0) -> tuple[NDArray, NDArray]:
    """Overlapping clusters and their classes."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(k, size=n)
    centres = rng.normal(size=(k, dimensions)) * 1.5
    return (centres[classes] + rng.normal(size=(n, dimensions))).astype(np.float32), classes


def few(classes: NDArray, each: int) -> NDArray:
    labels = np.full(len(classes), -1)
    for label in np.unique(classes):
        labels[np.flatnonzero(classes == label)[:each]] = label
    return labels


def affinities(x: NDArray, neighbours: int) -> NDArray:
    """S, dense, from all distances."""
    squares = cdist(x.astype(np.float64), x.astype(np.float64), "sqeuclidean")
    np.fill_diagonal(squares, np.inf)
    last = np.sort(squares, 1)[:, neighbours - 1]
    weights = np.where(
        squares <= last[:, None], np.exp(-squares / np.sqrt(np.outer(last, last))), 0
    )
    weights = np.maximum(weights, weights.T)
    degrees = weights.sum(1)
    return weights / np.sqrt(np.outer(degrees, degrees))


def propagated(x: NDArray, labels: NDArray, k: int, neighbours: int = 8, **how: float) -> NDArray:
    return label_propagation(neighbour_graph(x, neighbours), labels, k, **how)


@pytest.mark.parametrize("temperature", [1.0, 0.25])
@pytest.mark.parametrize("reach", [0.5, 0.99])
@pytest.mark.parametrize("neighbours", [4, 12])
def test_it_is_the_inverse_that_the_paper_defines(
    neighbours: int, reach: float, temperature: float
) -> None:
    x, classes = blobs(150)
    labels = few(classes, 2)
    labels[np.flatnonzero(classes == 0)[2:6]] = 0  # the classes are not equally frequent
    found = propagated(x, labels, 3, neighbours, reach=reach, temperature=temperature)
    known = np.where(labels[:, None] == np.arange(3), 1.0, 0.0)
    inverse = np.linalg.inv(np.eye(150) - reach * affinities(x, neighbours))
    shares = (1 - reach) * inverse @ known
    shares = shares / shares.sum(0) * known.sum(0) / known.sum()
    expected = shares ** (1 / temperature)
    expected /= expected.sum(1, keepdims=True)
    expected[labels >= 0] = known[labels >= 0]
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_smoothing_is_the_same_inverse_of_guesses_and_labels() -> None:
    x, classes = blobs(150)
    labels = few(classes, 2)
    guesses = np.random.default_rng(1).dirichlet(np.ones(3), 150).astype(np.float32)
    found = smoothed(neighbour_graph(x), guesses, labels, reach=0.8, temperature=0.5)
    known = labels >= 0
    start = np.where(known[:, None], labels[:, None] == np.arange(3), guesses)
    shares = np.linalg.inv(np.eye(150) - 0.8 * affinities(x, 8)) @ start
    expected = (shares / shares.sum(0)) ** 2
    expected /= expected.sum(1, keepdims=True)
    expected[known] = start[known]
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_one_label_of_each_moon_is_enough() -> None:
    """Far along the arcs, where the nearest label is of the other class."""
    dataset = open_dataset("moons")
    splits = draw_splits(dataset, "1/class", seed=0)
    train = splits.train[::5]
    train = np.union1d(train, splits.labelled)
    labels = splits.training_labels(dataset)[train]
    points, truth = dataset.examples(train).numpy(), dataset.labels[train]
    found = propagated(points, labels, 2)
    assert np.array_equal(found.argmax(1), truth)
    known = points[labels >= 0]
    nearest = labels[labels >= 0][cdist(points, known).argmin(1)]
    assert np.mean(nearest == truth) < 0.95


def test_neither_the_order_nor_the_unit_of_the_features_matters() -> None:
    x, classes = blobs(120, seed=2)
    labels = few(classes, 2)
    found = propagated(x, labels, 3)
    order = np.random.default_rng(0).permutation(120)
    np.testing.assert_allclose(propagated(x[order], labels[order], 3), found[order], atol=1e-4)
    np.testing.assert_allclose(propagated(64 * x - 3, labels, 3), found, atol=1e-3)


def test_those_that_no_label_reaches_have_the_classes_of_the_labels() -> None:
    rng = np.random.default_rng(0)
    near, far = rng.normal(size=(30, 2)), rng.normal(size=(30, 2)) + 1000
    labels = np.full(60, -1)
    labels[:4] = [0, 0, 0, 2]
    found = propagated(np.concatenate([near, far]).astype(np.float32), labels, 3)
    np.testing.assert_allclose(found[30:], [[0.75, 0, 0.25]] * 30, atol=1e-6)
    assert np.array_equal(found[:4].argmax(1), labels[:4])


def test_copies_of_an_image_do_no_harm() -> None:
    x, classes = blobs(40, seed=3)
    x = np.concatenate([x, np.repeat(x[:1], 20, 0)])
    labels = few(np.concatenate([classes, np.repeat(classes[:1], 20)]), 2)
    found = propagated(x, labels, 3)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
    assert found[40:, classes[0]].min() > 0.9


def test_a_label_does_not_reach_far_through_copies() -> None:
    """exp(−d²/(d_i d_j)) → 0 as d_j → 0: 20 blank images near nothing are nobody's neighbours."""
    x = np.concatenate([np.zeros((20, 1)), 5 + np.arange(6)[:, None] / 10])
    graph = neighbour_graph(x, 8).toarray()
    assert np.isfinite(graph).all()
    assert (graph[:20, 20:] == 0).all()
    assert (graph[:20, :20].sum(1) > 0).all()


def test_of_few_examples_all_are_neighbours() -> None:
    x, classes = blobs(9, seed=4)
    labels = few(classes, 1)
    found = propagated(x[:6], labels[:6], 3)
    expected = propagated(x[:6], labels[:6], 3, neighbours=5)
    assert np.array_equal(found, expected)
    assert np.array_equal(propagated(x[:1], labels[:1], 3), np.eye(3)[labels[:1]])


def test_where_all_have_a_label_nothing_is_left_to_say() -> None:
    x, classes = blobs(20)
    assert np.array_equal(propagated(x, classes, 3), np.eye(3)[classes])


def test_what_cannot_be_is_said() -> None:
    x, _ = blobs(20)
    with pytest.raises(UserError, match="no example has a label"):
        propagated(x, np.full(20, -1), 3)
    graph = neighbour_graph(x, 5)
    with pytest.raises(UserError, match="no example has a label"):
        smoothed(graph, np.full((20, 3), 1 / 3, np.float32), np.full(20, -1), reach=0.5)
