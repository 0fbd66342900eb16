import json
import math
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from safetensors.torch import load_file
from torch import nn, optim

import fewlabel
from fewlabel.errors import UserError
from fewlabel.run import Run
from fewlabel.training.checkpoint import Checkpoints, TrainingState
from fewlabel.training.ema import Ema


def state_after(steps: int) -> TrainingState:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = optim.AdamW(model.parameters())
    state = TrainingState(model, Ema(model, 0.9), optimizer, {})
    for step in range(steps):
        advance(state, step)
    return state


def advance(state: TrainingState, step: int) -> None:
    state.optimizer.zero_grad()
    state.model(torch.ones(4, 3)).square().sum().backward()
    state.optimizer.step()
    state.ema.update(state.model, step)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-10])


def alter(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)


def remove(file: Path) -> None:
    file.unlink()


@pytest.mark.parametrize("damage", [cut, alter, remove])
@pytest.mark.parametrize(
    "name",
    [
        "last.safetensors",
        "ema.safetensors",
        "optimizer.safetensors",
        "memory.safetensors",
        "checkpoint.json",
    ],
)
def test_any_damage_to_any_file_is_found(
    tmp_path: Path, damage: Callable[[Path], None], name: str
) -> None:
    checkpoints = Checkpoints(tmp_path / "score")
    for step in (10, 20):
        checkpoints.save(step, state_after(step).tensors())
    newest = checkpoints.newest()
    assert newest == (20, tmp_path / "score" / "step-00000020")
    if damage is alter and name == "checkpoint.json":  # one bit in a hash
        file = newest[1] / name
        content = json.loads(file.read_text())
        content["sha256"]["ema.safetensors"] = "0" * 64
        file.write_text(json.dumps(content))
    else:
        damage(newest[1] / name)
    assert checkpoints.newest() == (10, tmp_path / "score" / "step-00000010")


def test_two_checkpoints_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for step in (10, 20, 30, 40):
        checkpoints.save(step, state_after(1).tensors())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000030", "step-00000040"]


def test_a_restored_state_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    saved = state_after(3)
    folder = Checkpoints(tmp_path).save(3, saved.tensors())
    restored = state_after(0)
    restored.restore(folder)
    for step in range(3, 6):
        advance(saved, step)
        advance(restored, step)
    ours, theirs = restored.tensors(), saved.tensors()
    for name, tensors in theirs.items():
        for key, value in tensors.items():
            assert torch.equal(ours[name][key], value), f"{name}: {key}"


def test_moments_are_restored_in_the_memory_format_of_their_weights(tmp_path: Path) -> None:
    """In another one every step on a GPU would be slower from then on."""

    def state() -> TrainingState:
        torch.manual_seed(0)
        model = nn.Conv2d(4, 6, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = optim.AdamW(model.parameters())
        model(torch.ones(1, 4, 5, 5)).square().sum().backward()
        optimizer.step()
        return TrainingState(model, Ema(model, 0.9), optimizer, {})

    before, after = state(), state()
    Checkpoints(tmp_path).save(1, before.tensors())
    assert after.restore_newest(Checkpoints(tmp_path)) == 1
    weight = after.model.weight
    moments = [after.optimizer.state[weight][name] for name in ("exp_avg", "exp_avg_sq")]
    assert not weight.is_contiguous()
    assert all(moment.stride() == weight.stride() for moment in moments)
    assert torch.equal(moments[0], before.optimizer.state[before.model.weight]["exp_avg"])


def test_the_scale_of_the_loss_is_restored(tmp_path: Path) -> None:
    def scaled() -> TrainingState:
        state = state_after(1)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
        return TrainingState(state.model, state.ema, state.optimizer, {}, scaler)

    saved, restored = scaled(), scaled()
    for gradient in (1.0, 1.0, math.inf, math.inf, 1.0):  # two good steps double, a bad one halves
        saved.optimizer.zero_grad()
        saved.scaler.scale(gradient * saved.model.weight.sum()).backward()
        saved.scaler.step(saved.optimizer)
        saved.scaler.update()
    restored.restore(Checkpoints(tmp_path).save(5, saved.tensors()))
    assert restored.scaler.state_dict() == saved.scaler.state_dict()
    assert saved.scaler.get_scale() == 512.0 != scaled().scaler.get_scale()
    assert saved.scaler.state_dict()["_growth_tracker"] == 1


def test_a_step_saved_again_replaces_what_was_there(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    alter(checkpoints.save(10, state_after(1).tensors()) / "ema.safetensors")
    assert checkpoints.newest() is None
    again = state_after(2)
    checkpoints.save(10, again.tensors())
    weights = checkpoints.ema_weights()
    assert torch.equal(weights["weight"], again.ema.model.state_dict()["weight"])


def test_a_copy_needs_a_whole_checkpoint(tmp_path: Path) -> None:
    source = Checkpoints(tmp_path / "source")
    with pytest.raises(UserError, match=r"no whole checkpoint; train that run first"):
        Checkpoints(tmp_path / "copy").copy(source)


def test_a_run_whose_newest_checkpoint_is_damaged_samples_from_the_one_before(
    copied_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    newest = copied_run / "score" / "step-00000040"
    alter(newest / "ema.safetensors")
    run = fewlabel.load(copied_run, device="cpu")
    capsys.readouterr()
    found = run.score_model.state_dict()
    before = load_file(copied_run / "score" / "step-00000030" / "ema.safetensors")
    assert all(torch.equal(found[key], value) for key, value in before.items())
    expected = f"{newest} is damaged; the checkpoint before it is used\n"
    assert capsys.readouterr().err == expected
    shutil.rmtree(copied_run / "score" / "step-00000030")
    with pytest.raises(UserError, match="no whole checkpoint"):
        _ = fewlabel.load(copied_run).score_model


def test_nothing_is_pickled(finished_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise AssertionError("something was unpickled")

    for name in ("load", "loads", "Unpickler", "_Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    monkeypatch.setattr(torch, "load", refuse)
    run = fewlabel.load(finished_run.folder.path, device="cpu")
    assert run.sample(label=1, n=2, steps=3).isfinite().all()
    files = [p for p in finished_run.folder.path.rglob("*") if p.is_file()]
    suffixes = {p.suffix for p in files if p.name != ".lock"}
    assert suffixes == {".safetensors", ".json", ".jsonl", ".yaml"}
