"""What figures there can be: intervals made of spread and a centre may reach beyond."""

import math
from dataclasses import replace

from fewlabel.metrics.intervals import Estimate

__all__ = ["within_limits"]

_SHARES = ("accuracy", "cas", "precision", "recall", "coverage", "memorised", "ece")
_AT_LEAST = {"fid": 0.0, "density": 0.0, "is": 1.0} | dict.fromkeys(_SHARES, 0.0)


def within_limits(metric: str, estimate: Estimate) -> Estimate:
    """A figure with its interval cut where it leaves what the metric can be.

    Args:
        metric: a name as results have it: in `METRICS`, or "classifier-accuracy" and
            "classifier-ece", with "@" and a noise level or without.
        estimate: the figure; one that is no share and no distance, such as the unbiased kernel
            distance, comes back as it is.
    """
    name = metric.partition("@")[0]
    for prefix in ("copies-", "intra-", "classifier-"):
        name = name.removeprefix(prefix)
    least, most = _AT_LEAST.get(name, -math.inf), 1.0 if name in _SHARES else math.inf
    return replace(estimate, low=max(least, estimate.low), high=min(most, estimate.high))
