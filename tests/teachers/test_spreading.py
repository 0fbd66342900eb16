"""Which of propagation and the smoothed probe is believed."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from fewlabel.data import open_dataset
from fewlabel.teachers import (
    label_propagation,
    linear_probe,
    neighbour_graph,
    smoothed,
    spread_labels,
)

Data = Callable[[], tuple[NDArray, NDArray]]


def directions() -> tuple[NDArray, NDArray]:
    """Classes that differ along one direction; twenty others make neighbours of anyone."""
    rng = np.random.default_rng(0)
    classes = rng.integers(2, size=1500)
    x = rng.normal(size=(1500, 21)).astype(np.float32)
    x[:, 0] += 4 * classes
    return x, classes


def moons() -> tuple[NDArray, NDArray]:
    dataset = open_dataset("moons")
    some = np.random.default_rng(0).permutation(len(dataset))[:1500]
    return dataset.examples(some).numpy(), dataset.labels[some]


def shown(classes: NDArray, n: int) -> NDArray:
    return np.where(np.arange(len(classes)) < n, classes, -1)


@pytest.mark.parametrize("data", [directions, moons])
def test_with_enough_labels_the_better_is_believed(data: Data) -> None:
    x, classes = data()
    labels = shown(classes, 200)
    graph = neighbour_graph(x)
    propagated = label_propagation(graph, labels, 2)
    probed = smoothed(graph, linear_probe(x, labels, propagated), labels, reach=0.8)
    right = [np.mean(q.argmax(1)[200:] == classes[200:]) for q in (propagated, probed)]
    better = propagated if data is moons else probed
    assert (right[0] > right[1] + 0.02) == (data is moons)
    assert np.array_equal(spread_labels(x, labels, 2), better)


def test_of_two_that_are_equally_good_propagation_is_believed() -> None:
    rng = np.random.default_rng(1)
    classes = rng.integers(3, size=300)
    x = (rng.normal(size=(300, 5)) + 20 * np.eye(5)[classes]).astype(np.float32)
    labels = shown(classes, 60)
    expected = label_propagation(neighbour_graph(x), labels, 3)
    assert np.array_equal(spread_labels(x, labels, 3), expected)


@pytest.mark.parametrize(
    "labels", [[0, -1, -1, -1, -1, -1], [0, 1, -1, -1, -1, -1], [0, 0, 1, -1]]
)
def test_of_too_few_labels_none_is_hidden(labels: list[int]) -> None:
    x = np.random.default_rng(0).normal(size=(len(labels), 2)).astype(np.float32)
    known = np.array(labels)
    q = spread_labels(x, known, 2)
    assert np.array_equal(q[known >= 0], np.eye(2)[known[known >= 0]])
    np.testing.assert_allclose(q.sum(1), 1, atol=1e-6)
