"""Class-conditional generation from data of which only a few examples carry a label.

    import fewlabel

    run = fewlabel.train("digits", method="lpg", labels=0.05, out="runs/a")
    images = run.sample(label=3, n=64, scale=2.0, seed=0)     # (64, 1, 8, 8) in [-1, 1]
    report = run.evaluate(metrics=("intra-fid", "accuracy"))
    run = fewlabel.load("runs/a")                             # later

The parts stand alone and compose: `fewlabel.process`, `fewlabel.score`, `fewlabel.classifier`,
`fewlabel.guidance`, `fewlabel.samplers`, `fewlabel.objectives`, `fewlabel.methods`,
`fewlabel.oracle`, `fewlabel.metrics`. `fewlabel.sample` follows any score function.
"""

import importlib
from typing import Any

__all__ = ["Run", "__version__", "load", "sample", "train"]

__version__ = "0.1.0"

_HOMES = {
    "Run": "fewlabel.run",
    "load": "fewlabel.run",
    "train": "fewlabel.training.train",
    "sample": "fewlabel.samplers",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: `import fewlabel` stays quick."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'fewlabel' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
