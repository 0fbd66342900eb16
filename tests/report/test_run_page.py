import shlex
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from fewlabel.metrics import Estimate
from fewlabel.metrics.judging import nearest_training
from fewlabel.metrics.report import Draw, Figure, Report
from fewlabel.report.page import Page, Section
from fewlabel.report.run_page import labelled_examples, run_page, write_run_report
from fewlabel.run import Run
from fewlabel.training.plan import plan
from fewlabel.training.train import train


def report_of(
    run: Run, scales: tuple[float, ...], sampler: str = "dpm++", with_classes: bool = True
) -> Report:
    """An evaluation with figures that tell what they are of: 0.01 × scale, or the class."""
    figures = [
        Figure(scale, sampler, 24, metric, None, scale / 100, 0.0, 1.0)
        for scale in scales
        for metric in ("accuracy", "fid")
    ]
    if with_classes:
        figures += [
            Figure(scales[0], sampler, 24, "accuracy", i, i / 10, 0.0, 1.0) for i in range(10)
        ]
    warning = "fid: few samples"
    draws = [Draw(scale, sampler, 24, 48, 1.0) for scale in scales]
    known = ("cg", "0.05", 200, "judge-x", 0.97, 3)
    return Report(str(run.folder), *known, draws, figures, [warning])


def sections(page: Page) -> Mapping[str, Section]:
    return {section.title: section for section in page.sections}


def test_the_page_says_what_was_trained(finished_run: Run, tmp_path: Path) -> None:
    page = run_page(finished_run, tmp_path)
    parts = sections(page)
    assert list(parts) == [
        "What was trained on what",
        "Samples by class",
        "Training curves",
        "Calibration of the classifier",
        "Do it again",
    ]
    facts = parts["What was trained on what"].facts
    splits = finished_run.splits
    assert f"{len(splits.train)} training examples of 1 × 8 × 8" in facts["data"]
    assert f"{len(splits.labelled)} training examples carry one (0.05)" == facts["labels"]
    assert facts["method"] == "lpg"
    assert "score 40/40" in facts["steps"]
    assert facts["noise"].startswith("edm (sigma_min ")


def test_calibration_is_that_of_validation(finished_run: Run, tmp_path: Path) -> None:
    table = sections(run_page(finished_run, tmp_path))["Calibration of the classifier"].comparison
    assert table is not None
    logged = [r["validation"] for r in finished_run.folder.records() if r["validation"]][-1]
    assert {
        level: [f"{logged[f'accuracy@{sigma}']:.1%}", f"{logged[f'ece@{sigma}']:.3f}"]
        for level, sigma in (("σ = 0.1", "0.1"), ("σ = 0.5", "0.5"), ("σ = 2", "2"))
    } == dict(table.rows)


def test_an_evaluation_is_shown_with_its_protocol(finished_run: Run, tmp_path: Path) -> None:
    report = report_of(finished_run, (4.0, 1.0))
    parts = sections(run_page(finished_run, tmp_path, report))
    figures = parts["Figures"]
    table = figures.comparison
    assert table is not None
    assert dict(table.rows) == {
        "1": [Estimate(0.01, 0.0, 1.0)] * 2,
        "4": [Estimate(0.04, 0.0, 1.0)] * 2,
    }
    assert all(column.best is None for column in table.columns), "scales are no rivals"
    for text in ("200 samples", "seed 3", "judge-x", "97.0%", "95 %"):
        assert text in table.caption
    assert figures.notes == ["fid: few samples"]
    assert [Path(f.image).name for f in figures.figures] == ["sweep.png"]
    of_classes = parts["Figures of each class"].comparison
    assert of_classes is not None
    assert {n: row[0].value for n, row in of_classes.rows.items() if isinstance(row[0], Estimate)}\
        == {str(i): i / 10 for i in range(10)}  # fmt: skip


def test_one_scale_has_no_sweep(finished_run: Run, tmp_path: Path) -> None:
    parts = sections(
        run_page(finished_run, tmp_path, report_of(finished_run, (2.0,), with_classes=False))
    )
    assert not parts["Figures"].figures
    assert "Figures of each class" not in parts


def test_samples_are_those_of_an_evaluated_scale(
    finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[float, object]] = []
    sample = finished_run.sample

    def remember(label: object, n: int, scale: float, **options: object) -> object:
        asked.append((scale, options.get("sampler")))
        return sample(label, n, scale, **options | {"steps": 2})  # type: ignore[arg-type]

    monkeypatch.setattr(finished_run, "sample", remember)
    run_page(finished_run, tmp_path)
    run_page(finished_run, tmp_path, report_of(finished_run, (3.0, 1.0)))
    usual = finished_run.method.scale
    run_page(finished_run, tmp_path, report_of(finished_run, (1.0, usual), "heun"))
    assert asked == [(usual, None), (3.0, "dpm++"), (usual, "heun")]


def test_labelled_examples_are_training_images_of_their_class(finished_run: Run) -> None:
    splits, dataset = finished_run.splits, finished_run.dataset
    for index, images in enumerate(labelled_examples(finished_run).values()):
        of_class = [i for i in splits.labelled if dataset.labels[i] == index]
        assert 0 < len(images) <= len(of_class)
        known = dataset.examples(np.array(of_class))
        assert all((known == image).flatten(1).all(1).any() for image in images)


def test_the_command_repeats_the_run(finished_run: Run, tmp_path: Path) -> None:
    evaluated = "fewlabel evaluate runs/a --scale 1,2"
    first, second = sections(
        run_page(finished_run, tmp_path, report_of(finished_run, (1.0,)), command=evaluated)
    )["Do it again"].commands
    program, command, data, option, config, _, out = shlex.split(first)
    assert (program, command, option) == ("fewlabel", "train", "--config")
    assert not Path(out).exists()
    planned = plan(data, options={}, config=Path(config))
    assert planned.config == finished_run.config
    assert planned.splits == finished_run.splits
    assert second == evaluated


def test_samples_are_set_beside_their_nearest_training_images(copied_run: Path) -> None:
    run = Run(copied_run, "cpu")
    path = write_run_report(run, report_of(run, (1.0,)))
    assert path == copied_run / "report.html"
    assert "Nearest training images" in path.read_text(encoding="utf-8")
    before = {p.name for p in copied_run.iterdir()} - {"report.html"}
    assert not any(name.endswith(".png") for name in before)
    copies = run.dataset.examples(run.splits.train[[7, 3]])
    found = nearest_training(copies, run.dataset, run.splits)
    assert found.index.tolist() == run.splits.train[[7, 3]].tolist()
    assert found.distance.max() < 1e-4  # rounding: features of other batches


@pytest.mark.parametrize(("method", "calibrated"), [("cond", False), ("cg", True)])
def test_vectors_are_drawn_in_the_plane_and_noise_is_told_in_units_of_their_spread(
    tmp_path: Path, tiny: tuple[str, ...], method: str, calibrated: bool
) -> None:
    settings = [s for s in tiny if "widths" not in s and "attention" not in s]
    run = train("moons", labels="2/class", steps=2, method=method, out=tmp_path / "run",
                overrides=settings, device="cpu")  # fmt: skip
    parts = sections(run_page(run, tmp_path))
    assert parts["Samples by class"].figures[0].caption == "200 samples of each class."
    assert "σ in units of σ_data" in parts["Training curves"].figures[0].caption
    assert ("Calibration of the classifier" in parts) == calibrated
    if calibrated:
        table = parts["Calibration of the classifier"].comparison
        assert table is not None
        assert list(table.rows) == ["σ = 0.1 σ_data", "σ = 0.5 σ_data", "σ = 2 σ_data"]
