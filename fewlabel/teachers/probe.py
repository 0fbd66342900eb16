"""A linear classifier of features that learns from labels and from propagated labels."""

import numpy as np
from numpy.typing import NDArray

from fewlabel.batch import UNLABELLED
from fewlabel.teachers.propagation import Probabilities

__all__ = ["linear_probe"]

_TRUST = 0.3
_INVERSE_PENALTY = 0.3
_ITERATIONS = 300
_TOLERANCE = 1e-3


def linear_probe(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    propagated: Probabilities,
) -> Probabilities:
    """Class probabilities of all examples by multinomial logistic regression.

    It minimises ½‖W‖² + C Σ_i w_i CE(ŷ_i, W f_i + b), where ŷ_i is the label or, where there is
    none, the class that propagation finds likeliest. A label has the weight 1. The others have
    weights ∝ (max_k q_ik)², all of them together 0.3 times that of the labels. C = 0.3. Of two
    classes it is the binary regression of w = W_1 − W_0, with the penalty ½‖w‖².

    Args:
        features: (N, F), of order one.
        labels: (N,) classes, −1 where there is none.
        propagated: q of `label_propagation`, (N, K).

    Returns:
        (N, K), rows of sum 1. With labels of one class alone, or of every example, q.
    """
    from sklearn.linear_model import LogisticRegression

    labelled = labels != UNLABELLED
    if labelled.all() or len(np.unique(labels[labelled])) < 2:
        return propagated
    weights = propagated.max(1).astype(np.float64) ** 2
    weights[labelled] = 0
    weights *= _TRUST * labelled.sum() / weights.sum()
    weights[labelled] = 1
    targets = np.where(labelled, labels, propagated.argmax(1))
    probe = LogisticRegression(C=_INVERSE_PENALTY, max_iter=_ITERATIONS, tol=_TOLERANCE)
    probe.fit(features, targets, sample_weight=weights)
    found = np.zeros_like(propagated)
    found[:, probe.classes_] = probe.predict_proba(features)
    return found
