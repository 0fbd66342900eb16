"""From options to a configuration: precedence, and what is refused before anything is built."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from fewlabel.config import Config, read_yaml
from fewlabel.errors import UserError
from fewlabel.metrics.judging import check_data
from fewlabel.models import build_classifier, build_score_model, training_times
from fewlabel.objectives import LogitNormal, LogNormal, Times, Uniform
from fewlabel.presets import PRESETS, TAUGHT
from fewlabel.run import Run
from fewlabel.training.plan import plan
from fewlabel.training.train import train

Cli = Callable[..., SimpleNamespace]


def resolved(*overrides: str, config: Path | None = None, **options: Any) -> Config:
    steps, score = options.pop("steps", None), options.pop("score", None)
    data = options.pop("data", "digits")
    return plan(
        data, options=options, steps=steps, score=score, config=config, overrides=overrides
    ).config


@pytest.fixture
def write(tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    def to_file(values: dict[str, Any]) -> Path:
        path = tmp_path / "settings.yaml"
        path.write_text(yaml.safe_dump(values))
        return path

    return to_file


def test_each_source_of_a_setting_wins_over_those_before_it(
    write: Callable[[dict[str, Any]], Path],
) -> None:
    preset = PRESETS["tiny"]["score"]["fit"]["steps"]
    file = write({"score": {"fit": {"steps": preset + 1, "batch": 7}}, "method": "cg", "seed": 5})
    given: list[Config] = [
        resolved(),
        resolved(config=file),
        resolved(config=file, steps=preset + 2, seed=6),
        resolved("score.fit.steps=5000", "seed=7", config=file, steps=preset + 2, seed=6),
    ]
    steps = [config.score.fit.steps for config in given]
    assert steps == [preset, preset + 1, preset + 2, 5000]
    assert [config.seed for config in given] == [0, 5, 6, 7]
    # Neighbours of a key that is set stay as the weaker source has them.
    assert [config.score.fit.batch for config in given[1:]] == [7, 7, 7]
    assert given[3].score.fit.learning_rate == PRESETS["tiny"]["score"]["fit"]["learning_rate"]
    assert [config.method for config in given[1:]] == ["cg", "cg", "cg"]


def test_a_classifier_that_is_taught_all_images_trains_longer_unless_told() -> None:
    longer = TAUGHT["tiny"]["classifier"]["fit"]["steps"]
    methods = ("cg", "cg-sc-all", "dpt", "lpg", "lpg-dlsm")
    preset = PRESETS["tiny"]["classifier"]["fit"]["steps"]
    steps = [resolved(method=method).classifier.fit.steps for method in methods]
    assert steps == [preset, preset, preset, longer, longer]
    assert resolved(method="lpg", steps=5).classifier.fit.steps == 5
    assert resolved("classifier.fit.steps=7", method="lpg").classifier.fit.steps == 7
    assert resolved(method="lpg").score == resolved(method="cg").score


def test_the_last_of_two_overrides_wins() -> None:
    assert resolved("seed=1", "seed=2").seed == 2


def test_a_weight_of_a_loss_is_set_and_the_others_stay() -> None:
    changed = resolved("classifier.fit.weights.sc=0.7", method="cg-sc-all")
    weights = changed.classifier.fit.weights
    assert weights["sc"] == 0.7
    assert weights["ce"] == resolved(method="cg").classifier.fit.weights["ce"]


def test_labels_may_be_a_number_wherever_they_are_given(
    write: Callable[[dict[str, Any]], Path],
) -> None:
    assert resolved("labels=0.05").labels == resolved(config=write({"labels": 0.05})).labels
    assert resolved("labels=0.05") == resolved(labels="0.05")


@pytest.mark.parametrize("text", ["2e-2", "2.0E-2", "+.2e-1", "0.02"])
def test_a_number_may_have_an_exponent_wherever_it_is_given(
    write: Callable[[dict[str, Any]], Path], tmp_path: Path, text: str
) -> None:
    assert resolved(f"process.sigma_min={text}").process["sigma_min"] == 0.02
    path = tmp_path / "settings.yaml"
    path.write_text(f"process: {{sigma_min: {text}}}\n")
    assert resolved(config=path).process["sigma_min"] == 0.02


@pytest.mark.parametrize("text", ["1e5", "1e-3", "no", "3"])
def test_a_text_that_looks_like_a_number_stays_one(tmp_path: Path, text: str) -> None:
    config = resolved().model_copy(update={"imported_from": text})
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml())
    assert read_yaml(path)["imported_from"] == text


@pytest.mark.parametrize(
    ("override", "key", "mend"),
    [
        ("sigma_data=abc", "sigma_data", "number"),
        ("sigma_data=-1", "sigma_data", "greater than 0"),
        ("score.fit.stesp=10", "score.fit.stesp", "learning_rate"),
        ("nonsense=1", "nonsense", "the keys there are data"),
        ("classifier.depth=1", "classifier.depth", "the keys there are widths, layers"),
        ("score.fit.steps=many", "score.fit.steps", "integer"),
        ("score.fit.steps=0", "score.fit.steps", "greater than 0"),
        ("score.fit.ema=1", "score.fit.ema", "less than 1"),
        ("seed=abc", "seed", "integer"),
        ("size=abc", "size", "integer"),
        ("data=[1]", "data", "string"),
        ("method=[1]", "method", "string"),
        ("preset=[1]", "preset", "string"),
        ("score=3", "score", "dictionary"),
        ("score.widths=[12,16]", "score.widths.0", "multiple of 8"),
        ("score.widths=[32]", "score.attention", "give one true or false for each"),
        ("classifier.network=strange", "classifier.network", "'resnet34' or 'encoder'"),
        ("classifier.network=resnet18", "classifier.network", "resnet18 has 4 widths, not 2"),
        ("score.blocks=strange", "score.blocks", "'plain', 'ddpm++' or 'ncsn++'"),
        ("classifier.energy=strange", "classifier.energy", "'scaled', 'quadratic' or 'plain'"),
        ("process.name=strange", "process", "choose one of ve"),
        ("process.beta=1", "process edm", "beta"),
        ("process.sigma_min=30", "sigma_min=30", "smaller sigma_min"),
        (
            "classifier.fit.weights.jem=1",
            "classifier.fit.weights.jem",
            "lpg has no such loss; it has ce",
        ),
        ("method=magic", "'magic'", "choose one of uncond"),
        ("preset=huge", "'huge'", "choose one of tiny"),
        ("seed", "--set seed", "key=value"),
        ("=3", "--set =3", "key=value"),
        ("seed=[1", "--set seed=[1", "quote it"),
        ("seed=[&a 1, *a]", "--set seed=", "quote it"),
        ("sigma_data=2001-99-99", "--set sigma_data=2001-99-99", "quote it"),
        ("seed=" + "9" * 5000, "--set seed=", "quote it"),
        ("seed=0x" + "f" * 9000, "--set seed=", "quote it"),
        ("seed=" + "[" * 400, "--set seed=", "quote it"),
        ("sigma_data=1e300", "sigma_data", "less than or equal to 1"),
        ("sigma_data=1e-300", "sigma_data", "greater than 0"),
        ("process.sigma_max=1e300", "sigma_max=1e+300", "scale the data and them"),
        ("score.times.mean=1e300", "mean=1e+300", "-1.2 and 1.2 are usual"),
        ("process={name: vp, beta_max: 1e300}", "beta_max=1e+300", "20 is usual"),
        ("process={name: discrete, steps: 1000000000000}", "100,000 steps", "about 1000"),
        ("score.layers=1000000", "score.layers", "less than or equal to 64"),
        ("classifier.layers=1000000", "classifier.layers", "less than or equal to 64"),
        ("score.fit.batch=1000000000000", "score.fit.batch", "less than or equal to 1048576"),
        ("score.unet={layers_per_block: 1000000}", "layers_per_block", "from 1 to 64"),
    ],
)
def test_a_wrong_override_is_refused_by_its_key_with_the_mend(
    override: str, key: str, mend: str
) -> None:
    with pytest.raises(UserError) as caught:
        resolved(override)
    assert key in str(caught.value)
    assert mend in str(caught.value)


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        ("score: [", "is not YAML"),
        ("- 1\n- 2\n", "holds no mapping"),
        ("sed: 1\n", "sed: unknown key"),
        ("score:\n  fit:\n    batch: big\n", "score.fit.batch"),
        ("a: &a [x, x]\nmethod: *a\n", "has the alias *a; write the value there"),
        ("sigma_data: 2001-99-99\n", "is not YAML: month must be in 1..12"),
        ("seed: " + "[" * 400 + "]" * 400, "nested too deeply"),
        ("seed: [" + "1, " * 2**17 + "1]", "has at most 262,144 letters"),
        (f"seed: [{', '.join('1' * 9 for _ in range(999))}]", "111111111…"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, content: str, fragment: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(content)
    with pytest.raises(UserError) as caught:
        resolved(config=path)
    assert fragment in str(caught.value)


@pytest.mark.parametrize("stage", ["score", "classifier"])
def test_a_network_is_weighed_before_it_is_built(
    stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One level of width 1024 has millions of weights, and they are counted without them."""
    monkeypatch.setenv("FEWLABEL_MAX_MB", "20")
    given = (f"{stage}.widths=[1024]", "score.attention=[false]")
    config = resolved(*given, *(["score.widths=[32]"] if stage == "classifier" else []))
    build = build_score_model if stage == "score" else partial(build_classifier, classes=10)
    with pytest.raises(UserError, match=rf"{stage}: .* weights would take .* limit 20 MB"):
        build(config)
    monkeypatch.setenv("FEWLABEL_MAX_MB", "1000")
    with torch.device("meta"):
        n = sum(weights.numel() for weights in build(config).parameters())
    assert 4 * n > 20 * 2**20
    monkeypatch.setenv("FEWLABEL_MAX_MB", str(-(-4 * n // 2**20)))
    with torch.device("meta"):
        build(config)


@pytest.mark.parametrize(
    ("unet", "reason"),
    [
        ({}, "in_channels is 3, the images have 1"),
        ({"in_channels": 1}, "out_channels is 3, the images have 1"),
        ({"in_channels": 1, "down_block_types": ["strange"]}, "give a UNet2DModel's settings"),
    ],
)
def test_a_unet_for_other_images_is_refused(unet: dict[str, Any], reason: str) -> None:
    config = resolved(f"score.unet={unet}")
    with pytest.raises(UserError, match=reason):
        build_score_model(config)


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.yaml: No such file"):
        resolved(config=tmp_path / "gone.yaml")


def test_the_size_of_other_data_is_not_taken_and_a_note_says_so(
    write: Callable[[dict[str, Any]], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    file = write({"data": "moons", "size": 32, "sigma_data": 9.0, "seed": 5})
    config = resolved(config=file)
    assert (config.shape, config.seed) == ((1, 8, 8), 5)
    assert config.sigma_data < 2
    assert f"note: size 32 in {file} is that of other data" in capsys.readouterr().err
    resolved(config=file, size=8)
    assert "note" not in capsys.readouterr().err


def test_without_data_nothing_begins() -> None:
    with pytest.raises(UserError, match=r"no data: name a built-in dataset or a folder"):
        resolved(data=None)


def test_the_configuration_of_a_run_reads_back_as_itself(finished_run: Run) -> None:
    file = finished_run.folder.path / "config.yaml"
    again = plan(None, options={}, config=file)
    assert again.config == finished_run.config
    assert again.splits == finished_run.splits
    # And it is what was asked for.
    assert finished_run.config.labels == "0.05"
    assert finished_run.config.score.widths == (8, 32)
    assert finished_run.config.score.fit.checkpoint_every == 10


def newest_ema(folder: Path, stage: str) -> dict[str, torch.Tensor]:
    newest = max((folder / stage).glob("step-*"))
    return load_file(newest / "ema.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_a_shared_score_model_is_taken_as_it_is_and_weights_of_terms_are_honoured(
    finished_run: Run, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    """Self-calibration with weight 0 is plain cross-entropy: the classifiers are equal."""
    source = finished_run.folder.path

    def trained(name: str, method: str, *more: str) -> Path:
        overrides = (*tiny, "classifier.fit.steps=6", *more)
        options = {"labels": 0.05, "score": source, "method": method, "device": "cpu"}
        train("digits", out=tmp_path / name, overrides=overrides, **options)  # type: ignore[arg-type]
        return tmp_path / name

    plain = trained("cg", "cg")
    without = trained("without", "cg-sc-all", "classifier.fit.weights.sc=0")
    with_it = trained("with", "cg-sc-all")
    for folder in (plain, without, with_it):
        assert same(newest_ema(folder, "score"), newest_ema(source, "score"))
        stages = {record["stage"] for record in Run(folder).folder.records()}
        assert stages == {"classifier"}
    assert same(newest_ema(plain, "classifier"), newest_ema(without, "classifier"))
    assert not same(newest_ema(plain, "classifier"), newest_ema(with_it, "classifier"))
    with pytest.raises(UserError, match="is finished"):
        trained("cg", "cg")
    # Its config.yaml speaks of the score model it was given.
    again = plan(None, options={}, config=plain / "config.yaml")
    assert again.config == Run(plain).config
    assert again.config.score_from == str(source)


@pytest.mark.parametrize(
    ("colour", "side", "mend"),
    [(True, 12, "give another run"), (False, 12, "give --size 8 or another run")],
)
def test_a_score_model_of_another_shape_is_refused(
    finished_run: Run, tmp_path: Path, colour: bool, side: int, mend: str
) -> None:
    for index, label in enumerate(("cat", "cat", "dog", "dog")):
        (tmp_path / label).mkdir(exist_ok=True)
        level = (60 * index, 0, 0) if colour else (60 * index,) * 3
        Image.new("RGB", (side, side), level).save(tmp_path / label / f"{index}.png")
    with pytest.raises(UserError) as caught:
        resolved(data=str(tmp_path), score=finished_run.folder.path)
    shape = f"{side}×{side} with {'3 channels' if colour else '1 channel'}"
    for fragment in ("8×8 with 1 channel,", shape, f"; {mend}"):
        assert fragment in str(caught.value)


def test_a_score_model_that_was_not_trained_yet_is_refused_before_anything_is_written(
    copied_run: Path, tmp_path: Path, cli: Cli
) -> None:
    (copied_run / "score").rename(tmp_path / "elsewhere")
    out = tmp_path / "run"
    refused = cli("train", "digits", "--score", copied_run, "--out", out)
    assert refused.status == 2
    assert f"{copied_run} has no score model yet" in refused.err
    assert not out.exists()


def test_a_score_model_that_saw_what_is_held_out_is_refused(tmp_path: Path) -> None:
    """A CSV lists what the data alone would hold out; other runs would choose by those images."""
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(10):
            pixels = rng.integers(0, 255, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pets" / name / f"{i}.png")
    data = str(tmp_path / "pets")
    plain = plan(data, options={"method": "cg"})
    assert plain.dataset.files is not None
    held_out = [plain.dataset.files[i] for i in plain.splits.validation]
    listed = tmp_path / "listed.csv"
    listed.write_text("\n".join(["file", *held_out]))
    one_step = {"steps": 1, "overrides": ["score.sheet_every=0"], "device": "cpu"}
    run = train(data, out=tmp_path / "a", method="cg", labels=str(listed), **one_step)
    score = run.folder.path
    said = rf"{score} was trained on {len(held_out)} of the {len(held_out)} examples .* held out"
    with pytest.raises(UserError, match=said):
        plan(data, options={"method": "cg"}, score=score)
    given = plan(data, options={"method": "cg", "labels": str(listed)}, score=score)
    assert given.config.score_from == str(score)


def test_more_labels_of_few_images_keep_their_score_model(tmp_path: Path) -> None:
    """Classes that grow to 8 labels would have two held out each, more than those held out now."""
    random = np.random.default_rng(0)
    vectors, labels = random.standard_normal((52, 2)), np.full(52, -1)
    labels[:6] = [0, 0, 1, 1, 2, 2]
    np.savez(tmp_path / "points.npz", vectors=vectors, labels=labels)
    data, few = str(tmp_path / "points.npz"), {"steps": 1, "device": "cpu"}
    run = train(data, out=tmp_path / "a", method="cg", **few)
    labels[6:24] = np.arange(18) % 3
    np.savez(tmp_path / "points.npz", vectors=vectors, labels=labels)
    alone = plan(data, options={"method": "cg"}).splits
    assert len(np.intersect1d(alone.validation, run.splits.train)) > len(alone.validation) / 2
    planned = plan(data, options={"method": "cg"}, score=run.folder.path)
    np.testing.assert_array_equal(planned.splits.validation, run.splits.validation)
    assert len(planned.splits.labelled) > len(run.splits.labelled)
    with pytest.raises(UserError, match="leave --score out if there is one: its score model saw"):
        check_data(["intra-fid"], planned.dataset, planned.splits, "validation")


def test_a_score_model_of_other_files_is_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files that were all saved anew are others; the score model may have seen their images."""
    random, few = np.random.default_rng(0), {"steps": 1, "device": "cpu"}
    vectors, labels = random.standard_normal((40, 2)), np.arange(40) % 2
    for name, values in (("a", vectors), ("b", vectors + 1e-3)):
        np.savez(tmp_path / f"{name}.npz", vectors=values, labels=labels)
    data = {name: str(tmp_path / f"{name}.npz") for name in "ab"}
    score = train(data["a"], out=tmp_path / "run", method="cg", **few).folder.path
    for name, known in (("a", False), ("b", True)):
        capsys.readouterr()
        plan(data[name], options={"method": "cg"}, score=score)
        assert ("knows 0 of the 40 examples" in capsys.readouterr().err) == known


@pytest.mark.parametrize(
    ("given", "of_score", "of_classifier"),
    [
        ((), LogNormal(-0.4, 1.2), LogNormal(-0.4, 1.2)),
        (("classifier.times.mean=0.5",), LogNormal(-0.4, 1.2), LogNormal(0.5, 1.2)),
        (
            ("process={name: vp}", "classifier.times={name: uniform, low: 0.01}"),
            Uniform(),
            Uniform(0.01),
        ),
        (("process={name: ve}", "score.times={name: logitnormal}"), LogitNormal(), LogitNormal()),
    ],
)
def test_the_classifier_has_the_training_times_of_the_score_model_or_its_own(
    given: tuple[str, ...], of_score: Times, of_classifier: Times
) -> None:
    config = resolved(*given)
    found = [training_times(config, stage) for stage in ("score", "classifier")]
    assert found == [of_score, of_classifier]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("score.times={name: often}", r"times 'often' are unknown; choose one of uniform"),
        ("classifier.times.p_mean=1", r"times lognormal have no parameter 'p_mean'"),
        ("classifier.times.std=0", r"std=0 is not positive"),
        ("score.times.mean=much", r"mean, std are numbers; got"),
    ],
)
def test_training_times_that_there_are_not_are_refused(given: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolved(given)


def test_vectors_far_from_0_are_refused(tmp_path: Path) -> None:
    """Sampling begins at N(0, (10 σ_data)²), which data around 300 ± 5 have never been in."""
    rng, labels = np.random.default_rng(0), np.arange(400) % 2
    for name, centre in {"near": 10.0, "far": 300.0}.items():
        vectors = centre + 5 * rng.standard_normal((400, 3))
        np.savez(tmp_path / f"{name}.npz", vectors=vectors, labels=labels)
    resolved(data=str(tmp_path / "near.npz"))
    with pytest.raises(
        UserError,
        match=r"vectors lie around 299.9, and .* spread of 5.* subtract their mean",
    ):
        resolved(data=str(tmp_path / "far.npz"))
    resolved("process.sigma_max=3000", data=str(tmp_path / "far.npz"))  # it begins wide enough
