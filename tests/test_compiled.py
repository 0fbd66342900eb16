"""A compiled model is the same function."""

import shutil
from pathlib import Path

import pytest

from fewlabel.errors import UserError
from fewlabel.run import Run, load
from fewlabel.training.train import train

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="compiling needs g++")


@pytest.mark.slow
@needs_compiler
def test_a_compiled_run_draws_the_same_images(finished_run: Run) -> None:
    """And so is a compiled classifier, whose gradient guides them."""
    compiled = load(finished_run.folder.path, "cpu", compiled=True)
    ours, theirs = (run.draw(n=4, steps=4).images for run in (compiled, finished_run))
    assert (ours - theirs).abs().max() < 1e-4
    assert (finished_run.draw(n=4, steps=4, scale=0.0).images - theirs).abs().max() > 0.01


@pytest.mark.slow
@needs_compiler
def test_dlsm_trains_beside_a_compiled_score_network(
    tiny: tuple[str, ...], tmp_path: Path
) -> None:
    """DLSM differentiates the classifier twice; the score model is evaluated alone."""
    logged = []
    for compiled in (True, False):
        overrides = (*tiny, "score.sheet_every=0", f"compile={compiled}")
        settings = {"method": "cg-dlsm", "labels": "2/class", "steps": 5, "device": "cpu"}
        run = train("digits", out=tmp_path / f"{compiled}", overrides=overrides, **settings)
        assert run.config.compile is compiled
        logged.append([record["losses"] for record in run.folder.records()])
    for ours, theirs in zip(*logged, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3)


def test_without_a_compiler_one_line_says_so(
    finished_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UserError, match=r"needs a C\+\+ compiler such as g\+\+; leave it out"):
        load(finished_run.folder.path, "cpu", compiled=True).sample(n=1)
