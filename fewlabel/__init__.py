"""Class-conditional generation from data of which only a few examples carry a label.

    import fewlabel

    run = fewlabel.train("digits", method="lpg", labels=0.05, out="runs/a")
    images = run.sample(label=3, n=64, scale=2.0, seed=0)     # (64, 1, 8, 8) in [-1, 1]
    report = run.evaluate(metrics=("intra-fid", "accuracy"))
    run = fewlabel.load("runs/a")                             # later
    report = fewlabel.judge("out/", data="digits")            # images of any generator

The parts stand alone and compose: `fewlabel.process`, `fewlabel.score`, `fewlabel.classifier`,
`fewlabel.guidance`, `fewlabel.samplers`, `fewlabel.likelihood`, `fewlabel.objectives`,
`fewlabel.methods`, `fewlabel.oracle`, `fewlabel.metrics`. `fewlabel.sample` follows any score
function.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fewlabel import (
        classifier,
        guidance,
        likelihood,
        methods,
        metrics,
        objectives,
        oracle,
        process,
        samplers,
        score,
    )
    from fewlabel.metrics.judging import judge
    from fewlabel.run import Run, load
    from fewlabel.samplers import sample
    from fewlabel.training.train import train

__all__ = [
    "Run",
    "__version__",
    "classifier",
    "guidance",
    "judge",
    "likelihood",
    "load",
    "methods",
    "metrics",
    "objectives",
    "oracle",
    "process",
    "sample",
    "samplers",
    "score",
    "train",
]

__version__ = "0.1.0"

_HOMES = {
    "Run": "fewlabel.run",
    "load": "fewlabel.run",
    "train": "fewlabel.training.train",
    "sample": "fewlabel.samplers",
    "judge": "fewlabel.metrics.judging",
}


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import what is asked for when it is asked for: `import fewlabel` stays quick."""
        if name in _HOMES:
            return getattr(importlib.import_module(_HOMES[name]), name)
        if name in __all__:
            return importlib.import_module(f"fewlabel.{name}")
        raise AttributeError(f"module 'fewlabel' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
