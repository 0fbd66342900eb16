"""Imported diffusers pipelines, against diffusers itself."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import DDIMPipeline, FlowMatchEulerDiscreteScheduler
from interop_cases import SIZE, changed_json, ddim_folder, images, unet, ve_folder
from safetensors.torch import load_file, save_file

from fewlabel.errors import UserError
from fewlabel.interop.importing import import_model
from fewlabel.randomness import SampleRandom
from fewlabel.run import Run
from fewlabel.samplers import ddim, solve
from fewlabel.training.train import train

Cli = Callable[..., SimpleNamespace]
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


def imported(source: Path, out: Path, **options: Any) -> Run:
    return import_model(source, out, device="cpu", **options)


def noise_by_diffusers(pipeline: DDIMPipeline, x: torch.Tensor, step: int) -> torch.Tensor:
    """What the scheduler takes for the noise in x."""
    output, kept = pipeline.unet(x, step).sample, pipeline.scheduler.alphas_cumprod[step].double()
    alpha, sigma = kept.sqrt(), (1 - kept).sqrt()
    kind = pipeline.scheduler.config.prediction_type
    if kind == "epsilon":
        return output.double()
    if kind == "sample":
        return (x - alpha * output) / sigma
    return alpha * output + sigma * x


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "squaredcos_cap_v2"])
@torch.no_grad()
def test_scores_of_discrete_schedules(tmp_path: Path, kind: str, schedule: str) -> None:
    pipeline = ddim_folder(tmp_path / "a", prediction_type=kind, beta_schedule=schedule)
    model = imported(tmp_path / "a", tmp_path / "run").score_model
    x = images(2)
    for step in (0, 1, 10, 137, 500, 900, 998):
        sigma = (1 - pipeline.scheduler.alphas_cumprod[step].double()).sqrt()
        expected = -noise_by_diffusers(pipeline, x, step) / sigma
        error = (model(x, torch.tensor(float(step))) - expected).abs().max()
        assert error < 1e-5 * expected.abs().max(), step


@torch.no_grad()
def test_samples_of_ddim(tmp_path: Path) -> None:
    """On the same noise and the same timesteps."""
    pipeline = ddim_folder(tmp_path / "a")
    model = imported(tmp_path / "a", tmp_path / "run").score_model
    expected = pipeline(
        4, generator=torch.Generator().manual_seed(0), num_inference_steps=50, output_type="pt"
    ).images
    times = pipeline.scheduler.timesteps.float()
    random = SampleRandom(0, range(4))
    x = solve(ddim, model, model.process, images(4), times, random).denoised
    ours = (x / 2 + 0.5).clamp(0, 1)
    assert 0.05 < (expected > 0.01).float().mean()
    assert (expected - ours).abs().max() < 1e-3


@pytest.mark.parametrize("centred", [True, False])
@torch.no_grad()
def test_scores_of_score_sde_ve(tmp_path: Path, centred: bool) -> None:
    """Of y in [0, 1] there and x = 2y − 1 here: σ doubles, the score halves."""
    pipeline = ve_folder(tmp_path / "a", center_input_sample=centred)
    run = imported(tmp_path / "a", tmp_path / "run")
    process = run.score_model.process
    ends = process.sigma(torch.tensor([0.0, 1.0]))
    assert torch.allclose(ends, torch.tensor([0.02, 100.0]))
    for u in (0.0, 0.2, 0.5, 0.9, 1.0):
        sigma = process.sigma(torch.tensor(u))
        y = 0.5 + sigma / 2 * images(2, 3)
        expected = pipeline.unet(y, (sigma / 2).expand(2)).sample / 2
        found = run.score_model(2 * y - 1, torch.tensor(u))
        assert (found - expected).abs().max() < 1e-5 * expected.abs().max(), u


@torch.no_grad()
def test_files_side_by_side_are_the_pipeline_in_folders(tmp_path: Path) -> None:
    """As the first pipelines on the hub lie, such as google/ddpm-cifar10-32."""
    ddim_folder(tmp_path / "a", beta_schedule="scaled_linear")
    flat = tmp_path / "flat"
    flat.mkdir()
    for file in (tmp_path / "a").rglob("*.*"):
        shutil.copy(file, flat / file.name)
    found = imported(flat, tmp_path / "b").score_model
    expected = imported(tmp_path / "a", tmp_path / "c").score_model
    assert found.process == expected.process
    x, t = images(2), torch.tensor(300.0)
    assert torch.equal(found(x, t), expected(x, t))


@torch.no_grad()
def test_a_bare_network_with_its_schedule_given(tmp_path: Path) -> None:
    network = unet(sample_size=None)
    network.save_pretrained(tmp_path / "bare")
    with pytest.raises(UserError, match="--size"):
        imported(tmp_path / "bare", tmp_path / "run")
    with pytest.raises(UserError, match="schedule"):
        imported(tmp_path / "bare", tmp_path / "run", size=SIZE)
    settings = ("beta_end=1e-2", "num_train_timesteps=200", "beta_schedule=linear")
    run = imported(tmp_path / "bare", tmp_path / "run", size=SIZE, settings=settings)
    assert run.config.process["beta_end"] == 0.01
    assert run.score_model.process.t_max == 199
    x, t = images(2), torch.tensor(20.0)
    expected = -network(x, 20).sample / run.score_model.process.sigma(t)
    assert (run.score_model(x, t) - expected).abs().max() < 1e-5 * expected.abs().max()


def test_old_names_and_pickled_weights(tmp_path: Path) -> None:
    ddim_folder(tmp_path / "a")
    path = tmp_path / "a" / WEIGHTS
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = load_file(path)
    expected = imported(tmp_path / "a", tmp_path / "new").score_model.state_dict()
    for new, old in names.items():
        weights = {key.replace(f".{new}.", f".{old}."): value for key, value in weights.items()}
    assert any("proj_attn" in key for key in weights)
    path.unlink()
    torch.save(weights, path.with_suffix(".bin"))
    found = imported(tmp_path / "a", tmp_path / "old").score_model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


@pytest.mark.parametrize("method", ["cg-sc-all", "cg-dlsm"])
def test_it_is_an_ordinary_run(
    method: str, cli: Cli, tmp_path: Path, tiny: tuple[str, ...]
) -> None:
    """It samples, tells what it is, and a classifier is trained for it alone."""
    ddim_folder(tmp_path / "a")
    out = tmp_path / "run"
    assert cli("import", tmp_path / "a", "--out", out).status == 0
    told = cli("info", out, "--json")
    assert '"state": "finished"' in told.out
    assert str(tmp_path / "a") in told.out
    drawn = cli("sample", out, "-n", 2, "--steps", 3, "--device", "cpu")
    assert drawn.status == 0, drawn.err
    assert [path.parent.name for path in out.glob("samples/*/grid.png")] == ["image-seed-0"]
    evaluated = cli("evaluate", out)
    assert (evaluated.status, "no data" in evaluated.err) == (2, True)
    sets = [text for text in tiny if text.startswith("classifier")]
    guided = train(
        *("digits",),
        **{"out": tmp_path / "guided", "score": out, "labels": "4/class", "steps": 4},
        **{"method": method, "device": "cpu", "overrides": sets},
    )
    assert guided.config.sigma_data != 0.5  # of the digits
    source = Run(out, "cpu").score_model.state_dict()
    shared = guided.score_model.state_dict()
    assert all(torch.equal(value, shared[name]) for name, value in source.items())
    assert guided.sample(label=3, n=2, steps=3).isfinite().all()
    with pytest.raises(UserError, match="is a run already"):
        imported(tmp_path / "a", out)


def test_what_cannot_be_imported(cli: Cli, tmp_path: Path) -> None:
    """One line says what is wrong, and no run is left."""
    folder, out = tmp_path / "a", tmp_path / "run"
    ddim_folder(folder)

    def refused(*fragments: str, options: tuple[str, ...] = ()) -> None:
        ended = cli("import", folder, "--out", out, *options)
        assert ended.status == 2
        assert len(ended.err.splitlines()) == 1
        assert all(fragment in ended.err for fragment in fragments), ended.err
        assert not out.exists()

    refused("beta_schedul", "keys are", options=("--set", "beta_schedul=linear"))
    refused("quadratic", options=("--set", "beta_schedule=quadratic"))
    refused("beta_end=wide", "give a number", options=("--set", "beta_end=wide"))
    refused("flow", "prediction_type", options=("--set", "prediction_type=flow"))
    for name, change, reason in (
        *(
            ("model_index.json", {part: ["diffusers", "Model"]}, "makes images by itself")
            for part in ("vae", "vqvae", "text_encoder")
        ),
        (
            "scheduler/scheduler_config.json",
            {"rescale_betas_zero_snr": True},
            "without any signal",
        ),
        ("unet/config.json", {"time_embedding_type": "learned"}, "whole timesteps alone"),
    ):
        before = (folder / name).read_text()
        changed_json(folder / name, **change)
        refused(reason)
        (folder / name).write_text(before)
    weights, config = folder / WEIGHTS, folder / "unet" / "config.json"
    whole, kept = weights.read_bytes(), config.read_text()
    weights.write_bytes(whole[: len(whole) // 2])
    refused(weights.name, "cannot be read")
    weights.write_bytes(whole)
    found = load_file(weights)
    save_file({k: v for k, v in found.items() if k != "mid_block.resnets.0.conv1.bias"}, weights)
    refused("missing key is mid_block.resnets.0.conv1.bias")
    save_file(found | {"extra.weight": torch.zeros(1)}, weights)
    refused("unexpected key is extra.weight")
    weights.write_bytes(whole)
    changed_json(config, block_out_channels=[8, 32])
    refused("shape")
    changed_json(config, block_out_channels=[8, 16, 16])
    refused("config.json", "down_block_types")
    changed_json(config, block_out_channels=[8, 16], out_channels=2)
    refused("out_channels")
    config.write_text(kept)
    changed_json(config, num_class_embeds=3)
    refused("conditional")
    changed_json(config, _class_name="UNet2DConditionModel")
    refused("UNet2DConditionModel")
    (folder / "unet" / "config.json").write_text("{")
    refused("config.json", "no JSON")
    ended = cli("import", tmp_path / "gone", "--out", out)
    assert (ended.status, "no such file" in ended.err) == (2, True)


def test_a_scheduler_of_another_kind_is_refused(tmp_path: Path) -> None:
    ve_folder(tmp_path / "a")
    changed_json(tmp_path / "a/scheduler/scheduler_config.json", _class_name="KarrasVeScheduler")
    with pytest.raises(UserError, match="KarrasVeScheduler"):
        imported(tmp_path / "a", tmp_path / "run")
    FlowMatchEulerDiscreteScheduler().save_pretrained(tmp_path / "a/scheduler")
    with pytest.raises(UserError, match="the scheduler FlowMatchEulerDiscreteScheduler"):
        imported(tmp_path / "a", tmp_path / "run")


def test_a_name_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the cache of the hub's library, without the network."""
    cache = tmp_path / "hub" / "models--someone--digits"
    ddim_folder(cache / "snapshots" / "abc123")
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("abc123")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    run = import_model("someone/digits", tmp_path / "run", device="cpu")
    assert run.config.imported_from == "someone/digits"
    assert run.sample(n=1, steps=2).isfinite().all()
    with pytest.raises(UserError, match=r"someone/nothing .* check the name"):
        import_model("someone/nothing", tmp_path / "other")
