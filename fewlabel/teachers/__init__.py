"""What labels the unlabelled: class probabilities of clean examples, from which models learn."""

from fewlabel.teachers.probe import linear_probe
from fewlabel.teachers.propagation import label_propagation, neighbour_graph, smoothed
from fewlabel.teachers.representation import half_whitened, representation
from fewlabel.teachers.spreading import spread_labels

__all__ = [
    "half_whitened",
    "label_propagation",
    "linear_probe",
    "neighbour_graph",
    "representation",
    "smoothed",
    "spread_labels",
]
