"""What labels the unlabelled: class probabilities of clean examples, from which models learn."""

from fewlabel.teachers.propagation import label_propagation
from fewlabel.teachers.representation import representation

__all__ = ["label_propagation", "representation"]
