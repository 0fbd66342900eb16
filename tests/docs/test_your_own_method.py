"""The method that docs/your-own-method.md adds, as it stands there."""

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import distributions

from fewlabel import methods
from fewlabel.batch import Batch
from fewlabel.objectives import LogNormal
from fewlabel.process import EDM
from fewlabel.randomness import StepRandom
from fewlabel.run import Run
from fewlabel.run_folder import RunFolder

Cli = Callable[..., SimpleNamespace]
PAGE = Path(__file__).parents[2] / "docs" / "your-own-method.md"


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_the_guidance_of_the_page_lies_between_what_it_is_made_of(finished_run: Run) -> None:
    names: dict[str, Any] = {}
    code = blocks()[2].replace('"runs/a"', repr(str(finished_run.folder)))
    exec(compile(code, str(PAGE), "exec"), names)
    assert names["images"].shape == (16, 1, 8, 8)
    process = finished_run.score_model.process
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for ratio in (0.01, 1.0, 3.0):
        t = process.time_at(torch.tensor(ratio))
        plain, strong = names["plain"](x, t), names["strong"](x, t)
        assert not torch.allclose(plain, strong, rtol=1e-3)
        expected = plain + (strong - plain) / (1 + ratio)
        torch.testing.assert_close(names["growing"](x, t), expected, rtol=1e-4, atol=1e-5)


def test_the_new_loss_is_the_negative_entropy_and_its_row_trains(
    cli: Cli, tiny: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss, row, _ = blocks()
    names: dict[str, Any] = dict(vars(methods))
    exec(compile(loss, str(PAGE), "exec"), names)
    logits = torch.tensor([[0.0, 1.0, -2.0], [3.0, 3.0, 3.0]], dtype=torch.float64)
    classifier = SimpleNamespace(process=EDM(), log_prob=lambda x, t: logits.log_softmax(1))
    batch = Batch(torch.zeros(2, 1, 4, 4), torch.tensor([0, 1]))
    found = names["ConfidencePenalty"](classifier, LogNormal())(batch, StepRandom(0, 0))
    torch.testing.assert_close(found, -distributions.Categorical(logits=logits).entropy())

    ((name, method),) = eval("{" + row + "}", names).items()
    monkeypatch.setitem(methods.METHODS, name, method)
    assert method.shares_score
    sets = [part for text in tiny for part in ("--set", text)]
    short = ("--steps", 5, *sets)
    ended = cli(
        "train", "digits", "--method", name, "--labels", "4/class", *short, "--out", tmp_path
    )
    assert ended.status == 0, ended.err
    losses = [record["losses"] for record in RunFolder(tmp_path).records()]
    logged = [of["cp"] for of in losses if "cp" in of]
    assert logged
    assert all(-torch.tensor(10.0).log() <= value < 0 for value in logged)
