"""How many hidden labels the teacher of lpg finds, by a score model's features and by pixels.

    python benchmarks/label_propagation.py RUN --labels 1/class,4/class --draws 8

RUN has an unconditional score model of data whose labels are known; without it, one is trained on
the embedded digits. Each draw of labels is spread over the training images; what is counted are
those whose label was hidden.
"""

import argparse
from collections.abc import Sequence
from statistics import mean
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

import fewlabel
from fewlabel.data import Dataset, draw_splits
from fewlabel.progress import track
from fewlabel.run import Run
from fewlabel.teachers import representation, spread_labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", nargs="?")
    parser.add_argument("--labels", default="1/class,4/class")
    parser.add_argument("--draws", type=int, default=8)
    asked = parser.parse_args()
    with TemporaryDirectory() as folder:
        if asked.run is None:
            asked.run = f"{folder}/score"
            fewlabel.train("digits", method="uncond", out=asked.run)
        compare(fewlabel.load(asked.run), asked.labels.split(","), asked.draws)


def compare(run: Run, amounts: Sequence[str], draws: int) -> None:
    """Print the share of hidden labels that are found, over draws."""
    train = run.splits.train
    with track("features") as task:
        features = representation(run.score_model, run.dataset, train, task)
    pixels = run.dataset.examples(train).flatten(1).numpy()
    for labels in amounts:
        for name, vectors in {"features": features, "pixels": pixels}.items():
            shares = [found(run.dataset, vectors, labels, draw) for draw in range(draws)]
            print(f"{labels:8} {name:9} mean {mean(shares):.3f}  least {min(shares):.3f}")


def found(dataset: Dataset, vectors: NDArray[np.float32], labels: str, draw: int) -> float:
    """The share of hidden labels that a draw finds."""
    splits = draw_splits(dataset, labels, draw)
    known, truth = splits.training_labels(dataset)[splits.train], dataset.labels[splits.train]
    q = spread_labels(vectors, known, dataset.n_classes)
    hidden = known < 0
    return float(np.mean(q.argmax(1)[hidden] == truth[hidden]))


if __name__ == "__main__":
    main()
