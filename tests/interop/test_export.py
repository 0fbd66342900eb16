"""Exported runs, as diffusers loads them, and imported again."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline, EDMEulerScheduler
from interop_cases import ddim_folder, random_weights, ve_folder
from safetensors.torch import load_file

from fewlabel import process as processes
from fewlabel.classifier import NoisyClassifier
from fewlabel.config import Config
from fewlabel.errors import UserError
from fewlabel.interop.export import export_run
from fewlabel.interop.importing import import_model
from fewlabel.models import build_score_model, classifier_network
from fewlabel.randomness import SampleRandom
from fewlabel.run import Run
from fewlabel.run_folder import RunFolder
from fewlabel.samplers import ddim, dpm_solver_2m, solve

Cli = Callable[..., SimpleNamespace]


@pytest.fixture(autouse=True)
def modules_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """diffusers copies the code of a pipeline to a cache before it runs it."""
    folder = str(tmp_path / "modules")
    monkeypatch.setattr("diffusers.utils.dynamic_modules_utils.HF_MODULES_CACHE", folder)


def a_run(folder: Path, like: Run, score: dict[str, Any] | None = None, **changes: Any) -> Run:
    """A run of random weights of an unconditional score network, and no other models."""
    values = like.config.model_dump() | {"method": "uncond"} | changes
    config = Config.model_validate(values | {"score": values["score"] | (score or {})})
    run_folder = RunFolder(folder)
    run_folder.begin(config, like.splits)
    model = build_score_model(config)
    random_weights(model)
    run_folder.checkpoints("score").save(1, {"ema": model.state_dict()}, finished=True)
    return Run(folder, "cpu")


def pipeline_of(folder: Path, **options: Any) -> Any:
    return DiffusionPipeline.from_pretrained(folder, trust_remote_code=True, **options)


CASES: dict[str, dict[str, Any]] = {
    "edm": {},
    "padded patches": {"shape": (3, 14, 18), "score": {"patch": 2, "widths": (8, 16)}},
    "fourier": {"score": {"embedding": "fourier"}},
    "vp": {"process": {"name": "vp"}},
}


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_a_pipeline_of_our_own_draws_what_the_run_draws(
    case: str, tmp_path: Path, finished_run: Run
) -> None:
    """On the same noise and the same grid, with Euler's method there and DDIM's here."""
    run = a_run(tmp_path / "run", finished_run, **CASES[case])
    export_run(run.folder.path, tmp_path / "out")
    pipeline = pipeline_of(tmp_path / "out")
    pipeline.scheduler = EDMEulerScheduler.from_config(pipeline.scheduler.config)
    drawn = pipeline(
        3, num_inference_steps=12, generator=torch.Generator().manual_seed(0), output_type="pt"
    ).images
    model = run.score_model
    sigmas = pipeline.scheduler.sigmas[:-1]
    times = model.process.time_at(sigmas.double()).float()
    noise = torch.randn(3, *run.config.shape, generator=torch.Generator().manual_seed(0))
    x = model.process.alpha(times[0]) * sigmas[0] * noise
    x = solve(ddim, model, model.process, x, times, SampleRandom(0, range(3))).denoised
    ours = (x / 2 + 0.5).clamp(0, 1)
    assert 0.05 < ((drawn > 0) & (drawn < 1)).float().mean()
    assert (drawn - ours).abs().max() < 1e-3


@torch.no_grad()
def test_it_draws_in_half_precision_too(tmp_path: Path, finished_run: Run) -> None:
    """As pipelines are mostly loaded for GPUs: images of float32, up to its rounding."""
    run = a_run(tmp_path / "run", finished_run)
    export_run(run.folder.path, tmp_path / "out")
    drawn = [
        pipeline_of(tmp_path / "out", dtype=kind)(
            4, num_inference_steps=12, generator=torch.Generator().manual_seed(0), output_type="pt"
        ).images
        for kind in (torch.float32, torch.bfloat16)
    ]
    error = (drawn[0] - drawn[1]).abs().mean()
    assert drawn[1].dtype == torch.float32
    assert 0 < error < 0.1 * (drawn[0] - drawn[0].roll(1, 0)).abs().mean()


@torch.no_grad()
def test_its_own_solver_is_ours(tmp_path: Path, finished_run: Run) -> None:
    """DPM-Solver++(2M) on the Karras grid, both; the last steps differ in order."""
    out = tmp_path / "out"
    export_run(finished_run.folder.path, out)
    pipeline = pipeline_of(out)
    drawn = pipeline(
        8, num_inference_steps=200, generator=torch.Generator().manual_seed(0), output_type="pt"
    ).images
    model = finished_run.score_model
    times = pipeline.scheduler.sigmas[:-1]
    noise = torch.randn(8, *finished_run.config.shape, generator=torch.Generator().manual_seed(0))
    random = SampleRandom(0, range(8))
    last = solve(dpm_solver_2m, model, model.process, times[0] * noise, times, random)
    ours = (last.denoised / 2 + 0.5).clamp(0, 1)
    assert (drawn - ours).abs().mean() < 2e-3


@pytest.mark.parametrize("case", ["edm", "padded patches", "fourier"])
@torch.no_grad()
def test_exported_and_imported_it_is_the_same(
    case: str, tmp_path: Path, finished_run: Run
) -> None:
    run = a_run(tmp_path / "run", finished_run, **CASES[case])
    export_run(run.folder.path, tmp_path / "out")
    again = import_model(tmp_path / "out", tmp_path / "again", device="cpu")
    assert_same(run, again)


SCHEDULES: dict[str, dict[str, Any]] = {
    "usual": {},
    "velocity": {
        "prediction_type": "v_prediction",
        "beta_schedule": "scaled_linear",
        "beta_start": 8.5e-4,
        "beta_end": 0.012,
    },
    "clean": {
        "prediction_type": "sample",
        "num_train_timesteps": 200,
        "trained_betas": [0.001 + 0.06 * (i / 200) ** 2 for i in range(200)],
    },
}
MAKERS = {name: partial(ddim_folder, **schedule) for name, schedule in SCHEDULES.items()}


@pytest.mark.parametrize("make", [*MAKERS.values(), ve_folder], ids=[*MAKERS, "ve"])
@torch.no_grad()
def test_imported_and_exported_it_is_the_same(make: Callable, tmp_path: Path) -> None:
    before = make(tmp_path / "a")
    run = import_model(tmp_path / "a", tmp_path / "run", device="cpu")
    export_run(run.folder.path, tmp_path / "b")
    after = DiffusionPipeline.from_pretrained(tmp_path / "b")
    assert type(after) is type(before)
    for name, value in before.unet.state_dict().items():
        assert torch.equal(after.unet.state_dict()[name], value)
    drawn = [
        pipeline(
            2, num_inference_steps=5, generator=torch.Generator().manual_seed(0), output_type="np"
        ).images
        for pipeline in (before, after)
    ]
    assert abs(drawn[0] - drawn[1]).max() < 1e-6
    assert_same(run, import_model(tmp_path / "b", tmp_path / "again", device="cpu"))


def assert_same(one: Run, other: Run) -> None:
    """Equal weights, and equal scores at equal noise."""
    weights = other.score_model.state_dict()
    for name, value in one.score_model.state_dict().items():
        assert torch.equal(value, weights[name]), name
    x = torch.randn(2, *one.config.shape, generator=torch.Generator().manual_seed(5))
    for ratio in (0.05, 1.0, 9.0):
        scores = []
        for model in (one.score_model, other.score_model):
            t = model.process.time_at(torch.tensor(ratio))
            scores.append(model(x, t))
        assert torch.equal(*scores)


@torch.no_grad()
def test_it_fills_the_empty_folder_one_is_in(
    tmp_path: Path, finished_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files = export_run(finished_run.folder.path, ".")
    assert tmp_path / "model_index.json" in files


def test_the_classifier_and_the_card(cli: Cli, tmp_path: Path, finished_run: Run) -> None:
    """The classifier is built again from the two files alone."""
    out = tmp_path / "out"
    ended = cli("export", finished_run.folder, "--to", "diffusers", "--out", out, "--json")
    assert ended.status == 0, ended.err
    assert str(out / "README.md") in json.loads(ended.out)["files"]
    told = json.loads((out / "classifier" / "config.json").read_text())
    section = finished_run.config.classifier.model_copy(
        update={"widths": tuple(told["widths"]), "layers": told["layers"]}
    )
    network = classifier_network(
        tuple(told["shape"]), len(told["class_names"]), section, finished_run.config.score
    )
    network.load_state_dict(load_file(out / "classifier" / "model.safetensors"))
    process = processes.from_config(told["process"])
    model = NoisyClassifier(network, process, told["sigma_data"], told["energy"]).eval()
    x, t = torch.randn(4, 1, 8, 8), torch.tensor(1.0)
    assert torch.allclose(model.log_prob(x, t), finished_run.classifier.log_prob(x, t), atol=1e-5)
    card = (out / "README.md").read_text()
    for fact in ("digits", finished_run.config.method, "trust_remote_code", "classifier"):
        assert fact in card
    assert "classifier: accuracy" in card


def test_the_code_of_the_card_draws(tmp_path: Path, finished_run: Run) -> None:
    """In a process that knows nothing of this package."""
    export_run(finished_run.folder.path, tmp_path / "out")
    lines = (tmp_path / "out" / "README.md").read_text().splitlines()
    code = "\n".join(line[4:] for line in lines if line.startswith("    "))
    code = code.split("fewlabel sample")[0].replace("FOLDER", str(tmp_path / "out"))
    program = f"{code}\nimport sys\nprint(len(images), images[0].size, 'fewlabel' in sys.modules)"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment | {"HF_MODULES_CACHE": str(tmp_path / "modules")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "16 (8, 8) False"


def test_what_cannot_be_exported(cli: Cli, tmp_path: Path, finished_run: Run) -> None:
    """One line says why, and nothing is written."""
    out = tmp_path / "out"

    def refused(run: Path, *fragments: str, options: tuple[str, ...] = ()) -> None:
        ended = cli("export", run, "--out", out, *options)
        assert ended.status == 2
        assert len(ended.err.splitlines()) == 1
        assert all(fragment in ended.err for fragment in fragments), ended.err

    blocks = a_run(tmp_path / "blocks", finished_run, score={"blocks": "ddpm++"})
    refused(blocks.folder.path, "ddpm++", "plain")
    small = {"shape": (1, 9, 9), "score": {"patch": 8, "widths": (8, 16), "layers": 1}}
    refused(a_run(tmp_path / "small", finished_run, **small).folder.path, "padded")
    vectors = {"shape": (2,), "score": {"widths": (8,), "attention": (False,)}}
    refused(a_run(tmp_path / "vectors", finished_run, **vectors).folder.path, "vectors")
    conditional = a_run(tmp_path / "cfg", finished_run, method="cfg-all")
    refused(conditional.folder.path, "conditional", "cfg-all")
    refused(finished_run.folder.path, "onnx", options=("--to", "onnx"))
    assert not out.exists()
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    refused(finished_run.folder.path, "not empty")
    assert (out / "mine.txt").read_text() == "mine"
    with pytest.raises(UserError, match="no run folder"):
        export_run(tmp_path / "gone", tmp_path / "other")
