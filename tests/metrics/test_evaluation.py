"""Reports: what their figures are of."""

from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest
from torch import nn

from fewlabel.metrics import fid, judge
from fewlabel.run import Run


@pytest.fixture(scope="module", autouse=True)
def weak_judge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """In a cache of its own, since it is too weak for others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEWLABEL_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(judge, "_STEPS", 20)
        patch.setattr(judge, "_EPOCHS", 0)
        yield


def test_every_way_of_sampling_has_figures_of_its_own_samples(finished_run: Run) -> None:
    samplers, numbers = ("heun", "ddim"), (3, 4)
    report = finished_run.evaluate(
        ("fid",),
        (2.0,),
        sampler=samplers,
        steps=numbers,
        per_class=10,
        seed=4,
        extractor=nn.Flatten(),
    )
    dataset, splits = finished_run.dataset, finished_run.splits
    others = np.setdiff1d(np.arange(len(dataset)), splits.validation)
    real = dataset.examples(others).flatten(1)
    ways = product(samplers, numbers)
    for (sampler, steps), draw, figure in zip(ways, report.draws, report.figures, strict=True):
        drawn = finished_run.draw(n=100, scale=2.0, sampler=sampler, steps=steps, seed=4)
        assert (draw.sampler, draw.steps, draw.nfe) == (sampler, steps, drawn.nfe)
        assert (figure.sampler, figure.steps) == (sampler, steps)
        assert figure.value == pytest.approx(fid(real, drawn.images.flatten(1)), rel=1e-6)
    assert len({figure.value for figure in report.figures}) == 4
