"""Judging images of any generator: as those of a run, from memory or from files."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image
from torch import Tensor, nn

import fewlabel
from fewlabel.data import Dataset, open_dataset
from fewlabel.data.dataset import as_images, stored
from fewlabel.errors import UserError
from fewlabel.interop.export import export_run
from fewlabel.metrics import judge as judges
from fewlabel.metrics import proportion
from fewlabel.metrics.measure import Measure
from fewlabel.metrics.report import Report
from fewlabel.metrics.table import GROUPS, METRICS, Judged, Metric
from fewlabel.report.evaluation import figures_by_draw
from fewlabel.run import Run, Samples

METRICS_OF_ALL_KINDS = ("accuracy", "fid", "intra-fid", "is", "coverage", "memorised")
PER_CLASS = 11  # no multiple of the groups of an interval


@pytest.fixture(scope="module", autouse=True)
def weak_judge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """In a cache of its own, since it is too weak for others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEWLABEL_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(judges, "_STEPS", 20)
        patch.setattr(judges, "_EPOCHS", 0)
        yield


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return open_dataset("digits")


@pytest.fixture(scope="module")
def drawn(finished_run: Run) -> Samples:
    return finished_run.draw(n=10 * PER_CLASS, steps=3)


def figures(report: Report) -> list[tuple[Any, ...]]:
    return [(f.metric, f.class_index, f.value, f.low, f.high) for f in report.figures]


def judged(images: Any, labels: Any = None, **options: Any) -> Report:
    return fewlabel.judge(images, labels, **{"data": "digits", "metrics": "fid"} | options)


def test_to_evaluate_a_run_is_to_draw_and_to_judge(finished_run: Run, drawn: Samples) -> None:
    of_run = finished_run.evaluate(METRICS_OF_ALL_KINDS, per_class=PER_CLASS, steps=3)
    alone = judged(drawn.images, drawn.labels, metrics=METRICS_OF_ALL_KINDS)
    assert figures(alone) == figures(of_run)
    assert (alone.extractor, alone.judge_accuracy) == (of_run.extractor, of_run.judge_accuracy)
    assert (alone.n_samples, alone.warnings) == (of_run.n_samples, of_run.warnings)
    document = alone.to_dict()
    assert [document[key] for key in ("run", "method", "labels", "seed")] == [None] * 4
    assert document["draws"] == []
    assert {row["scale"] for row in document["results"]} == {None}
    assert "images" not in of_run.to_dict()
    with pytest.raises(UserError, match="no guidance scale"):
        alone.best_scale("fid")
    with pytest.raises(UserError, match="no guidance scale"):
        alone.plot()


@pytest.mark.parametrize("reference", ["report", "validation"])
def test_the_splits_of_a_run_and_its_reference_count(
    finished_run: Run, drawn: Samples, reference: Any
) -> None:
    metrics = ("kid", "copies-intra-fid")
    of_run = finished_run.evaluate(metrics, per_class=PER_CLASS, steps=3, reference=reference)
    dataset, splits = finished_run.dataset, finished_run.splits
    known: dict[str, Any] = {"metrics": metrics, "reference": reference, "data": dataset}
    alone = judged(drawn.images, drawn.labels, splits=splits, **known)
    assert figures(alone) == figures(of_run)
    assert figures(judged(drawn.images, drawn.labels, **known)) != figures(of_run)


def test_the_order_of_the_classes_does_not_matter(drawn: Samples) -> None:
    by_class = drawn.labels.argsort(stable=True)
    in_turn = judged(drawn.images, drawn.labels, metrics=METRICS_OF_ALL_KINDS)
    sorted_ = judged(drawn.images[by_class], drawn.labels[by_class], metrics=METRICS_OF_ALL_KINDS)
    assert figures(sorted_) == figures(in_turn)


@pytest.mark.parametrize("counts", [(10, 23, 50), (11, 11, 11), (14, 10, 12)])
def test_each_group_has_its_part_of_each_class(counts: tuple[int, ...]) -> None:
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
    rows = torch.arange(len(labels))
    whole: Any = Judged(**dict.fromkeys(Judged.__annotations__, rows) | {"fake_labels": labels})
    groups = [whole.group(index) for index in range(GROUPS)]
    for group in groups:
        assert torch.equal(labels[group.fake], group.fake_labels)
        for label, count in enumerate(counts):
            n = int((group.fake_labels == label).sum())
            assert count // GROUPS <= n <= count // GROUPS + 1
    shown = torch.cat([group.fake for group in groups])
    assert len(shown.unique()) == len(shown) > len(labels) - 2 * GROUPS


@pytest.fixture(scope="module")
def folder(finished_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `fewlabel sample` writes."""
    from fewlabel.report.samples import draw_to_folder

    out = tmp_path_factory.mktemp("samples") / "out"
    how: dict[str, Any] = {"scale": 2.0, "sampler": "heun", "steps": 3, "seed": 4}
    draw_to_folder(finished_run, out, label=None, n=10, batch_size=64, **how)
    return out


def test_samples_of_a_folder_are_judged_as_they_are_stored(
    finished_run: Run, folder: Path
) -> None:
    labels = torch.arange(10).repeat_interleave(10)
    how: dict[str, Any] = {"scale": 2.0, "sampler": "heun", "steps": 3, "seed": 4}
    images = finished_run.draw(labels, **how).images
    pixels = stored(images)
    kept = judged(as_images(pixels), labels, metrics=METRICS_OF_ALL_KINDS)
    for source in (folder, folder / "samples.npz", str(folder)):
        found = judged(source, metrics=METRICS_OF_ALL_KINDS)
        assert figures(found) == figures(kept)
        assert found.images == str(source)
    in_memory = (pixels, pixels[..., 0], torch.from_numpy(pixels).permute(0, 3, 1, 2))
    for one in (*in_memory, np.repeat(pixels, 3, axis=-1)):
        assert figures(judged(one, labels)) == figures(judged(folder))
    rounded = kept.overall("fid").value
    assert judged(images, labels).overall("fid").value == pytest.approx(rounded, rel=1e-3)


def in_folders(root: Path, pixels: np.ndarray, names: list[str], side: int = 8) -> Path:
    for row, (image, name) in enumerate(zip(pixels, names, strict=True)):
        path = root / name / f"{row:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(image[..., 0])
        picture.resize((side, side), Image.Resampling.NEAREST).save(path)
    return root


@pytest.mark.parametrize("side", [8, 32])
def test_pictures_by_class_are_brought_to_the_size_of_the_data(
    drawn: Samples, tmp_path: Path, side: int
) -> None:
    pixels = stored(drawn.images)
    source = in_folders(tmp_path / "out", pixels, [f"{label}.0" for label in drawn.labels], side)
    found = judged(source, metrics=("fid", "intra-kid"))
    if side == 8:
        same = judged(pixels, drawn.labels, metrics=("fid", "intra-kid"))
        assert figures(found) == figures(same)
    large = np.stack([np.asarray(Image.open(path)) for path in sorted(source.rglob("*.png"))])
    y = np.sort(drawn.labels.numpy(), kind="stable")
    assert figures(found) == figures(judged(large, y, metrics=("fid", "intra-kid")))


@torch.no_grad()
def test_images_that_a_pipeline_of_diffusers_drew(
    cli: Callable[..., SimpleNamespace], finished_run: Run, tmp_path: Path
) -> None:
    export_run(finished_run.folder.path, tmp_path / "exported")
    pipeline = DiffusionPipeline.from_pretrained(tmp_path / "exported", trust_remote_code=True)
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    pictures = pipeline(100, num_inference_steps=3, generator=generator).images
    for row, picture in enumerate(pictures):
        path = tmp_path / "out" / str(row % 10) / f"{row:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
    given = ("--data", "digits", "--metrics", "accuracy,fid,intra-fid", "--device", "cpu")
    done = cli("evaluate", tmp_path / "out", *given, "--json", "--out", tmp_path / "kept")
    assert done.status == 0, done.err
    found = json.loads(done.out)
    assert found == json.loads((tmp_path / "kept" / "evaluation.json").read_text("utf-8"))
    assert (found["images"], found["data"]) == (str(tmp_path / "out"), "digits")

    images = as_images(np.stack([np.asarray(picture) for picture in pictures])[..., None])
    metrics = ("accuracy", "fid", "intra-fid")
    labels = torch.arange(100) % 10
    direct = judged(images, labels, metrics=metrics)
    assert found["results"] == direct.to_dict()["results"]

    class Pipeline(Run):
        """The same images, drawn by a run."""

        def draw(self, *given: Any, **options: Any) -> Samples:
            return Samples(images, labels, 2.0, 3, 3, 0.0)

    of_run = Pipeline(finished_run.folder.path, "cpu").evaluate(metrics, per_class=10)
    assert figures(of_run) == figures(direct)


def test_vectors(tmp_path: Path) -> None:
    moons = open_dataset("moons")
    rows = np.concatenate([np.flatnonzero(moons.labels == label)[:100] for label in (0, 1)])
    x, y = moons.examples(rows), moons.labels[rows]
    names = np.array(moons.class_names)
    np.savez(tmp_path / "x.npz", vectors=x.numpy(), labels=y, class_names=names)
    known: dict[str, Any] = {"data": moons, "metrics": ("fid", "accuracy")}
    assert figures(judged(tmp_path / "x.npz", **known)) == figures(judged(x, y, **known))
    named = [moons.class_names[label] for label in y]
    assert figures(judged(x.numpy(), named, **known)) == figures(judged(x, y, **known))
    with pytest.raises(UserError, match="examples of 8×8 with 1 channel, moons has 2 numbers"):
        judged(torch.zeros(20, 1, 8, 8), torch.arange(20) % 2, data=moons)


def test_classes_are_compared_by_name(digits: Dataset, tmp_path: Path, drawn: Samples) -> None:
    names = tuple(f"class {9 - label}" for label in range(10))
    other = replace(digits, class_names=names)
    order = np.array(sorted(names))
    given = np.array([list(order).index(names[label]) for label in drawn.labels])
    path = tmp_path / "x.npz"
    np.savez(path, images=stored(drawn.images), labels=given, class_names=order)
    known: dict[str, Any] = {"data": other, "metrics": "intra-fid"}
    same = judged(as_images(stored(drawn.images)), drawn.labels, **known)
    assert figures(judged(path, **known)) == figures(same)


IMAGES = torch.zeros(110, 1, 8, 8)
LABELS = torch.arange(110) % 10


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES, None, "images in memory have no labels"),
        (IMAGES, LABELS[:5], r"labels of shape \(5,\) for 110 images"),
        (IMAGES, LABELS + 1, "labels reach from 1 to 10: the classes of digits have the indices"),
        (IMAGES, LABELS.float(), "labels are torch.float32: give indices"),
        (IMAGES, ["cat"] * 110, "labels: class 'cat' is none of digits, which has 0, 1"),
        (IMAGES, LABELS.clamp(max=8), "0 images of class 9 are too few for fid; give at least 10"),
        (IMAGES[:109], LABELS[:109], None),
        (IMAGES[:95], LABELS[:95], "9 images of class 5 are too few for fid; give at least 10"),
        (IMAGES.expand(-1, 3, -1, -1), LABELS, "8×8 with 3 channels, digits has 8×8 with 1"),
        (torch.zeros(110, 1, 9, 9), LABELS, "9×9 with 1 channel, digits has 8×8 with 1 channel"),
        (torch.zeros(110, 8, 8), LABELS, r"examples of shape \(110, 8, 8\), digits has"),
        (torch.full((110, 1, 8, 8), 255.0), LABELS, "images reach from 255 to 255: bring them to"),
        (torch.full((110, 1, 8, 8), torch.nan), LABELS, "7040 value.s. are NaN or infinite"),
        (np.zeros((110, 64), np.uint8), LABELS, r"images are bytes of shape \(110, 64\): give"),
        (np.zeros((110, 8, 8, 4), np.uint8), LABELS, r"images are bytes of shape \(110, 8, 8, 4"),
        (np.arange(110 * 192).reshape(110, 8, 8, 3).astype(np.uint8), LABELS, "images in colour"),
        ("gone", LABELS, "gone: files tell the class of each image; leave labels out"),
        ("gone", None, "'gone' and no such folder was found"),
    ],
)
def test_what_does_not_fit_is_refused(images: Any, labels: Any, message: str | None) -> None:
    if message is None:
        assert judged(images, labels, extractor=nn.Flatten()).n_samples == len(images)
        return
    with pytest.raises(UserError, match=message) as caught:
        judged(images, labels)
    assert "\n" not in str(caught.value)


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    pixels = np.zeros((100, 8, 8, 1), np.uint8)
    names = [str(row % 10) for row in range(100)]
    source = in_folders(tmp_path / "a", pixels, [*names[:-1], "cat"])
    with pytest.raises(UserError, match="class 'cat' is none of digits"):
        judged(source)
    source = in_folders(tmp_path / "b", pixels, [*names[:-1], "unlabeled"])
    with pytest.raises(UserError, match=r"1 images have no class, such as unlabeled/0099\.png"):
        judged(source)
    np.savez(tmp_path / "x.npz", vectors=np.zeros((100, 2)), labels=np.arange(100) % 10)
    with pytest.raises(UserError, match=r"x\.npz: examples of 2 numbers, digits has 8×8"):
        judged(tmp_path / "x.npz")


def test_images_from_0_to_1_are_told(drawn: Samples) -> None:
    half = judged(drawn.images / 2 + 0.5, drawn.labels, extractor=nn.Flatten())
    assert any("no value is below 0" in warning for warning in half.warnings)
    whole = judged(drawn.images, drawn.labels, extractor=nn.Flatten())
    assert not any("no value is below 0" in warning for warning in whole.warnings)


@pytest.mark.parametrize(
    ("options", "fragments"),
    [
        (["--data", "digits", "--scale", "2"], ["--scale", "leave it out"]),
        (["--data", "digits", "-n", "100"], ["-n", "leave it out"]),
        (["--data", "digits", "--metrics", "magic"], ["'magic'", "intra-fid"]),
        (["--data", "digits", "--out", "{images}/kept"], ["kept", "lies in the data folder"]),
        (["--data", "gone"], ["'gone'", "no such folder"]),
        ([], ["no run folder", "--data DATA"]),
    ],
)
def test_wrong_options(
    cli: Callable[..., SimpleNamespace], folder: Path, options: list[str], fragments: list[str]
) -> None:
    refused = cli("evaluate", folder, *(option.format(images=folder) for option in options))
    assert (refused.status, refused.out) == (2, "")
    assert all(fragment in refused.err for fragment in fragments)
    assert not (folder / "kept").exists()


def test_a_table_for_people(cli: Callable[..., SimpleNamespace], folder: Path) -> None:
    before = {path.name for path in folder.iterdir()}
    given = ("--data", "digits", "--metrics", "fid,intra-fid", "--device", "cpu")
    done = cli("evaluate", folder, *given)
    assert done.status == 0, done.err
    assert f"100 images of {folder}" in done.out.replace("\n", "")
    assert "intra-FID ↓" in done.out
    assert {path.name for path in folder.iterdir()} == before


def test_a_metric_is_one_row(monkeypatch: pytest.MonkeyPatch, drawn: Samples) -> None:
    """Its title, better side, digits, limits and needs all come from there."""

    def dark(judged: Judged) -> dict[int | None, Any]:
        share = proportion(judged.images.flatten(1).mean(1) < 0)
        return {None: replace(share, low=-1.0, high=2.0)}

    measure = Measure("darkness", "smallest", ".1%", 0.0, 1.0)
    monkeypatch.setitem(METRICS, "dark", Metric(measure, "how dark", dark, per_class=11))
    report = judged(drawn.images, drawn.labels, metrics="dark", extractor=nn.Flatten())
    (figure,) = report.figures
    assert (figure.low, figure.high) == (0.0, 1.0)
    assert figure.value == float((drawn.images.flatten(1).mean(1) < 0).float().mean())
    (column,) = figures_by_draw(report).columns
    assert (column.title, column.digits) == ("darkness ↓", ".1%")
    assert report.judge_accuracy is None
    with pytest.raises(UserError, match="10 images of class 0 are too few for dark; give at"):
        judged(drawn.images[1:], drawn.labels[1:], metrics="dark", extractor=nn.Flatten())


def test_the_parts_are_public(digits: Dataset) -> None:
    metrics = fewlabel.metrics
    assert {"train_judge", "dataset_features", "nearest_training"} <= set(metrics.__all__)
    known = metrics.train_judge(digits)
    features = metrics.dataset_features(digits, [3, 7], known)
    assert torch.equal(features, known.read(digits.examples([3, 7]))[0])
    found = metrics.nearest_training(digits.examples([3]), digits, extractor=nn.Flatten())
    among: Tensor = digits.examples(fewlabel.data.draw_splits(digits, "all", 0).train).flatten(1)
    distance = (among - digits.examples([3]).flatten(1)).norm(dim=1).min()
    assert float(found.distance) == pytest.approx(float(distance), abs=1e-5)
