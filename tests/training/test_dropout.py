"""Training with dropout, whose masks are a function of seed and step like all other noise."""

import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file

from fewlabel.training.train import train


def test_a_run_with_dropout_goes_on_bit_for_bit(tiny: tuple[str, ...], tmp_path: Path) -> None:
    """And with random Fourier features, which are weights that are not trained."""
    overrides = (*tiny, "score.dropout=0.3", "score.blocks=ncsn++", "score.embedding=fourier")

    def trained(name: str) -> dict[str, torch.Tensor]:
        out = tmp_path / name
        train("digits", method="cond", steps=20, out=out, overrides=overrides, device="cpu")
        return load_file(out / "score" / "step-00000020" / "last.safetensors")

    whole = trained("whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "interrupted")
    shutil.rmtree(tmp_path / "interrupted" / "score" / "step-00000020")
    resumed = trained("interrupted")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    start = load_file(tmp_path / "whole" / "score" / "step-00000010" / "last.safetensors")
    still = {key for key in whole if torch.equal(whole[key], start[key])}
    assert still == {key for key in whole if key.endswith("time_proj.weight")}
