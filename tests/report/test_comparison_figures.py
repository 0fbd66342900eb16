"""The plots of a comparison: what is drawn where, as the figures themselves tell."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from fewlabel.calibration import reliability
from fewlabel.errors import UserError
from fewlabel.metrics import Estimate
from fewlabel.report import curves, label_curves, noise, panels, tradeoff
from fewlabel.report.figures import STYLES, method_style

AMOUNTS = {10: "1/class", 40: "4/class", 67: "0.05", 1347: "all"}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Figure]]:
    """The figures that are written while the test runs, laid out."""
    found: list[Figure] = []
    write = panels.write_figure

    def keep(figure: Figure, path: Path) -> Path:
        found.append(figure)
        return write(figure, path)

    for module in (curves, label_curves.panels, noise, tradeoff):
        monkeypatch.setattr(module, "write_figure", keep)
    yield found
    assert found, "nothing was drawn"


def legend_names(figure: Figure) -> list[str]:
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def assert_tidy(figure: Figure) -> None:
    """No text is cut at the edge, and the legend covers no panel."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    whole = figure.bbox
    legend = figure.legends[0].get_window_extent(renderer)
    for axes in figure.axes:
        assert not axes.get_window_extent(renderer).overlaps(legend)
        tight = axes.get_tightbbox(renderer)
        assert tight is not None
        assert tight.x0 >= -1 and tight.y0 >= -1  # noqa: PT018
        assert tight.x1 <= whole.x1 + 1 and tight.y1 <= whole.y1 + 1  # noqa: PT018
    assert legend.x1 <= whole.x1 + 1
    assert legend.y1 <= whole.y1 + 1


def by_labels(methods: list[str], start: float, step: float) -> dict[str, dict[int, Estimate]]:
    return {
        name: {n: Estimate(v := start + i * step + 1 / n, v - 0.02, v + 0.02) for n in AMOUNTS}
        for i, name in enumerate(methods)
    }


@pytest.mark.parametrize("methods", [["cg", "cg-sc-all"], list(STYLES)])
def test_label_sweep(tmp_path: Path, drawn: list[Figure], methods: list[str]) -> None:
    found = {
        "accuracy": by_labels(methods, 0.5, 0.02),
        "intra-fid": by_labels(methods, 1.0, 1.0),
    }
    path = label_curves.label_sweep(found, tmp_path / "labels.svg", AMOUNTS)
    assert path.read_bytes().startswith(b"<?xml")
    (figure,) = drawn
    assert_tidy(figure)
    assert legend_names(figure) == methods
    for axes, (metric, lines) in zip(figure.axes, found.items(), strict=True):
        assert [t.get_text() for t in axes.get_xticklabels()] == [
            f"{a} ({n})" for n, a in AMOUNTS.items()
        ]
        assert axes.get_xscale() == "log"
        data = [c.lines[0] for c in axes.containers]
        for line, (method, points) in zip(data, lines.items(), strict=True):
            assert line.get_color() == method_style(method)[0], metric
            places = np.array(line.get_xydata(), dtype=float)
            np.testing.assert_allclose(places[:, 1], [e.value for e in points.values()])
            assert (abs(np.log(places[:, 0] / np.array(list(points)))) < 0.3).all()


def test_label_sweep_refuses_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no figures by number of labels"):
        label_curves.label_sweep({"accuracy": {"cg": {}}}, tmp_path / "a.png")


def sweep(methods: list[str], labels: list[str]) -> list[dict[str, Any]]:
    """Precision rises and recall falls with the scale."""
    shared = itertools.product(labels, enumerate(methods), (1.0, 2.0, 4.0, 8.0))
    rows = []
    for amount, (i, method), scale in shared:
        point = {"precision": 1 - 0.5 / scale - 0.01 * i, "recall": 0.9 - 0.05 * scale + 0.01 * i}
        for metric, value in point.items():
            row = {"labels": amount, "method": method, "scale": scale, "metric": metric}
            rows.append(row | {"class": None, "value": value, "low": value, "high": value})
    return rows


@pytest.mark.parametrize("methods", [["cg", "dpt"], list(STYLES)])
def test_tradeoff(tmp_path: Path, drawn: list[Figure], methods: list[str]) -> None:
    labels = ["1/class", "all"]
    chosen = {(amount, method): 2.0 for amount in labels for method in methods}
    rows = sweep(methods, labels)
    single = rows[0] | {"class": 3, "value": 99.0}
    tradeoff.tradeoff([*rows, single], tmp_path / "a.png", chosen=chosen)
    (figure,) = drawn
    assert_tidy(figure)
    assert legend_names(figure) == [*methods, "chosen scale"]
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["labels 1/class", "labels all"]
    for axes in figure.axes:
        rings = [line for line in axes.lines if line.get_fillstyle() and line.get_markersize() > 8]
        assert len(rings) == len(methods)
        place = dict(zip(methods, (line.get_xydata()[0] for line in rings), strict=True))
        np.testing.assert_allclose(place["dpt"][0], 0.8 + 0.01 * methods.index("dpt"))
        assert axes.get_xlim()[1] < 1.2, "the figure of a single class is passed over"


def test_scales_beside_the_points_never_cover_each_other(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    tradeoff.tradeoff(sweep(list(STYLES), ["4/class"]), tmp_path / "a.png")
    (axes,) = drawn[0].axes
    renderer = FigureCanvasAgg(drawn[0]).get_renderer()
    texts = [text for text in axes.texts if isinstance(text, Annotation)]
    assert {text.get_text() for text in texts} == {"1", "2", "4", "8"}
    boxes = [text.get_window_extent(renderer) for text in texts]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def test_few_points_all_have_their_scale(tmp_path: Path, drawn: list[Figure]) -> None:
    tradeoff.tradeoff(sweep(["cg"], [""]), tmp_path / "a.png")
    (axes,) = drawn[0].axes
    assert sorted(text.get_text() for text in axes.texts) == ["1", "2", "4", "8"]
    (line, _) = axes.lines
    np.testing.assert_allclose(line.get_xydata()[:, 1], [0.5, 0.75, 0.875, 0.9375])


def test_tradeoff_refuses(tmp_path: Path) -> None:
    rows = sweep(["cg"], ["all"])
    with pytest.raises(UserError, match="no rows to draw: evaluate precision and recall"):
        tradeoff.tradeoff([r for r in rows if r["metric"] == "recall"], tmp_path / "a.png")
    with pytest.raises(UserError, match="two rows have cg, precision, scale 1"):
        tradeoff.tradeoff([*rows, rows[0]], tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


def levels(methods: list[str], labels: list[str]) -> list[dict[str, Any]]:
    return [
        {"labels": amount, "method": method, "sigma": sigma, "metric": metric, "value": 1 / i}
        for amount, method, sigma, (i, metric) in itertools.product(
            labels,
            methods,
            (0.05, 0.1, 0.5, 2.0),
            enumerate(("classifier-accuracy", "classifier-ece"), 1),
        )
    ]


def test_by_noise_level(tmp_path: Path, drawn: list[Figure]) -> None:
    rows = levels(["cg", "dpt"], ["4/class", "all"])
    without = rows[0] | {"sigma": None, "value": 7.0}
    noise.by_noise_level([*rows, without], tmp_path / "a.png")
    (figure,) = drawn
    assert_tidy(figure)
    assert legend_names(figure) == ["cg", "dpt"]
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "classifier accuracy, labels 4/class",
        "calibration error, labels 4/class",
        "classifier accuracy, labels all",
        "calibration error, labels all",
    ]
    for axes, value in zip(figure.axes, (1, 0.5, 1, 0.5), strict=True):
        for line in axes.lines:
            np.testing.assert_allclose(line.get_xdata(), [0.05, 0.1, 0.5, 2.0])
            np.testing.assert_allclose(line.get_ydata(), value)


def test_by_noise_level_refuses(tmp_path: Path) -> None:
    rows = levels(["cg"], ["all"])
    with pytest.raises(UserError, match="no rows with a noise level of kid"):
        noise.by_noise_level(rows, tmp_path / "a.png", ["kid"])
    with pytest.raises(UserError, match=r"two rows have cg, classifier-accuracy, σ = 0\.05"):
        noise.by_noise_level([*rows, rows[0]], tmp_path / "a.png")


def test_a_calibrated_classifier_lies_on_the_diagonal(tmp_path: Path, drawn: list[Figure]) -> None:
    generator = torch.Generator().manual_seed(0)
    p = (2 * torch.randn(20_000, 3, generator=generator)).softmax(-1)
    y = torch.multinomial(p, 1, generator=generator)[:, 0]
    sharp = (3 * p.log()).softmax(-1)
    methods = {"cg-sc-all": reliability(p, y), "cg": reliability(sharp, y)}
    noise.reliability_diagrams({"σ = 0.5": methods, "σ = 2": methods}, tmp_path / "a.png")
    (figure,) = drawn
    assert_tidy(figure)
    for axes in figure.axes:
        diagonal, calibrated, overconfident = (line.get_xydata() for line in axes.lines)
        assert (diagonal[:, 0] == diagonal[:, 1]).all()
        assert abs(calibrated[:, 0] - calibrated[:, 1]).max() < 0.07
        assert (overconfident[:, 0] - overconfident[:, 1]).max() > 0.15


def test_reliability_refuses_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no reliability to draw"):
        noise.reliability_diagrams({"σ = 1": {}}, tmp_path / "a.png")


def record(stage: str, step: int, losses: dict[str, float], **validation: float) -> dict[str, Any]:
    return {"stage": stage, "step": step, "losses": losses, "validation": validation}


@pytest.mark.parametrize("points", [1, 30, 400])
def test_training_curves(tmp_path: Path, drawn: list[Figure], points: int) -> None:
    records = [record("score", i, {"dsm": 2 / (i + 1)}) for i in range(points)]
    records.append(record("score", points, {}, dsm=3.0))
    more = {"ce@2": 0.7, "accuracy@0.5": 0.9, "accuracy@2": 0.4}
    records.append(record("classifier", 1, {"ce": 0.5}, **more))
    curves.training_curves(records, tmp_path / "curves.png")
    (figure,) = drawn
    assert_tidy(figure)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "score: score matching",
        "classifier: cross-entropy",
        "classifier: accuracy",
    ]
    assert legend_names(figure) == [
        *("training", "validation", "validation, σ = 2", "validation, σ = 0.5"),
    ]
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    np.testing.assert_allclose(lines["validation"].get_xydata(), [[points, 3.0]])
    whole = figure.axes[0].lines[0].get_ydata()
    np.testing.assert_allclose(whole, [2 / (i + 1) for i in range(points)])


def test_training_curves_refuse_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no losses in the training records"):
        curves.training_curves([], tmp_path / "curves.png")


@pytest.mark.parametrize(
    "draw",
    [
        lambda path: label_curves.label_sweep({"fid": by_labels(["cg"], 2.0, 1.0)}, path),
        lambda path: tradeoff.tradeoff(sweep(["cg"], ["all"]), path),
        lambda path: noise.by_noise_level(levels(["cg"], ["all"]), path),
    ],
)
def test_the_suffix_is_the_format(tmp_path: Path, draw: Callable[[Path], Path]) -> None:
    assert b"<svg" in draw(tmp_path / "a.svg").read_bytes()[:1000]
    assert draw(tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
