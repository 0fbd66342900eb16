"""Checkpoints written by the published score-SDE code, against the scores it gave; see data/."""

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fewlabel.errors import UserError
from fewlabel.interop.importing import import_model
from fewlabel.run import Run

Cli = Callable[..., SimpleNamespace]
DATA = Path(__file__).parent / "data"
KINDS = ("ncsnpp_ve", "ddpmpp_vp")
every_kind = pytest.mark.parametrize("kind", KINDS)


def imported(source: Path, out: Path, **options: Any) -> Run:
    return import_model(source, out, size=16, device="cpu", **options)


@every_kind
@torch.no_grad()
def test_scores_equal_the_published_ones(kind: str, tmp_path: Path) -> None:
    model = imported(DATA / f"{kind}.pth", tmp_path / "run").score_model
    given = load_file(DATA / f"{kind}.safetensors")
    x, t, std, score = (given[name] for name in ("x", "t", "std", "score"))
    if kind == "ncsnpp_ve":  # images in [0, 1] there, in [-1, 1] here
        x, std, score = 2 * x - 1, 2 * std, score / 2
    assert torch.allclose(model.process.sigma(t), std, rtol=1e-5)
    sigma = std[:, None, None, None]
    noise = sigma * score  # what the network says, of order one at every noise level
    assert 0.3 < noise.std() < 3
    assert (sigma * model(x, t) - noise).abs().max() < 1e-5
    assert (noise[0] - noise[1]).abs().max() > 0.1


def test_the_run_tells_the_process_and_the_steps(tmp_path: Path) -> None:
    run = imported(DATA / "ncsnpp_ve.pth", tmp_path / "ve")
    assert run.config.process == {"name": "ve", "sigma_min": 0.02, "sigma_max": 100.0}
    assert run.folder.steps_done("score") == 7
    assert run.sample(n=2, sampler="pc", steps=3).shape == (2, 3, 16, 16)
    settings = ("sde=subvp", "beta_max=15")
    run = imported(DATA / "ddpmpp_vp.pth", tmp_path / "vp", settings=settings)
    assert (run.score_model.process.name, run.config.process["beta_max"]) == ("subvp", 15)


@every_kind
@torch.no_grad()
def test_the_average_is_taken_where_there_is_one(kind: str, tmp_path: Path) -> None:
    """Without it, and from its last weights instead, the network is another one."""
    content = torch.load(DATA / f"{kind}.pth", weights_only=True)
    torch.save({"model": content["model"]}, tmp_path / "last.pth")
    last = imported(tmp_path / "last.pth", tmp_path / "last").score_model.state_dict()
    average = imported(DATA / f"{kind}.pth", tmp_path / "average").score_model.state_dict()
    first, name = (
        content["ema"]["shadow_params"][0],
        "network.model.time_embedding.linear_1.weight",
    )
    assert torch.equal(average[name], first)
    assert not torch.equal(last[name], first)


class Malicious:
    """Pickles to a program that makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_malicious_file_is_refused_and_runs_nothing(
    cli: Cli, tmp_path: Path, legacy: bool
) -> None:
    path, mark = tmp_path / "evil.pth", tmp_path / "run-by-the-pickle"
    evil = {"model": Malicious(mark)}
    torch.save(evil, path, _use_new_zipfile_serialization=not legacy)
    ended = cli("import", path, "--size", 16, "--out", tmp_path / "run")
    assert not mark.exists()
    assert (ended.status, ended.out) == (2, "")
    assert len(ended.err.splitlines()) == 1
    assert "system" in ended.err
    assert "nothing in it was run" in ended.err
    assert not (tmp_path / "run").exists()
    path.write_bytes(pickle.dumps(evil))
    assert cli("import", path, "--size", 16, "--out", tmp_path / "run").status == 2
    assert not mark.exists()
    torch.load(_written(evil, tmp_path / "b.pth"), weights_only=False)  # it would have been run
    assert mark.exists()


def _written(content: dict[str, Any], path: Path) -> Path:
    torch.save(content, path)
    return path


def test_what_is_no_such_checkpoint(cli: Cli, tmp_path: Path) -> None:
    """One line names the file and the first key that is amiss."""
    path, out = tmp_path / "a.pth", tmp_path / "run"

    def refused(*fragments: str) -> None:
        ended = cli("import", path, "--size", 16, "--out", out)
        assert ended.status == 2
        assert len(ended.err.splitlines()) == 1
        assert all(fragment in ended.err for fragment in (str(path), *fragments)), ended.err
        assert not out.exists()

    shutil.copy(DATA / "ncsnpp_ve.pth", path)
    path.write_bytes(path.read_bytes()[:200_000])
    refused("cannot be read")
    path.write_bytes(b"")
    refused("cannot be read")

    whole = torch.load(DATA / "ncsnpp_ve.pth", weights_only=True)
    plain = dict(whole["model"])

    def changed(drop: str = "", **add: torch.Tensor) -> None:
        torch.save({"model": {k: v for k, v in plain.items() if k != drop} | add}, path)

    changed("module.all_modules.4.Conv_1.bias")
    refused("missing key is module.all_modules.4.Conv_1.bias")
    changed("module.all_modules.2.weight")
    refused("missing key is module.all_modules.2.weight")
    last = max(int(key.split(".")[2]) for key in plain if "all_modules" in key)
    changed(f"module.all_modules.{last}.weight")
    refused(f"missing key is module.all_modules.{last}.weight")
    changed(**{f"module.all_modules.{last + 1}.weight": torch.zeros(3)})
    refused(f"unexpected key is module.all_modules.{last + 1}.weight")
    changed(**{"module.sequence.weight": torch.zeros(3)})
    refused("unexpected key is module.sequence.weight")
    changed(**{"module.all_modules.4.Conv_1.bias": torch.zeros(3)})
    refused("shape", "bias")
    torch.save({"weights": plain}, path)
    refused("missing key is model")
    torch.save([1, 2], path)
    refused("holds no mapping")
    short = whole["ema"] | {"shadow_params": whole["ema"]["shadow_params"][:-1]}
    torch.save({"model": plain, "ema": short}, path)
    refused(f"module.all_modules.{last}.bias")


@pytest.mark.parametrize(
    ("kind", "settings", "says"),
    [
        ("ddpmpp_vp", "sde=ve", "give vp or subvp"),
        ("ddpmpp_vp", "sigma_max=50", "is of VP or sub-VP; give sde or beta_min or beta_max"),
        ("ncsnpp_ve", "sde=vp", "is of VE, as it has Fourier features; give sigma_min or"),
    ],
)
def test_a_process_that_the_network_cannot_have_is_refused(
    tmp_path: Path, kind: str, settings: str, says: str
) -> None:
    with pytest.raises(UserError, match=says):
        imported(DATA / f"{kind}.pth", tmp_path / "run", settings=[settings])


def test_an_import_that_was_killed_before_its_weights_were_there_can_be_repeated(
    tmp_path: Path,
) -> None:
    source, out = DATA / "ddpmpp_vp.pth", tmp_path / "run"
    first = imported(source, out).score_model.state_dict()
    shutil.rmtree(out / "score")
    again = imported(source, out).score_model.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in first.items())


def test_the_size_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--size"):
        import_model(DATA / "ncsnpp_ve.pth", tmp_path / "run")
