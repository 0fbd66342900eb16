"""The figure of the experiments in the plane: what is drawn where, as the figure itself tells."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.quiver import Quiver
from numpy.typing import NDArray

from fewlabel.calibration import Reliability
from fewlabel.errors import UserError
from fewlabel.metrics.score_error import plane_grid
from fewlabel.report.fields import CLASS_COLOURS, Overview, moons_overview
from fewlabel.report.figures import method_style

GRID = plane_grid((-40.0, -25.0), (40.0, 25.0), 7)
EXACT = GRID.flip(1) / 300
FIELDS = {"exact": EXACT, "cg": -GRID / 200, "cg-x10": 10 * EXACT, "cond": None}
POINTS = torch.arange(16.0).reshape(2, 4, 2)
BINS = torch.tensor([0.6, 0.9], dtype=torch.float64)
LEVELS = (0.3, 7.5)
ERRORS = {
    ("cg", "D_L"): (0.4, 0.02),
    ("cg-x10", "D_L"): (4.0, 0.2),
    ("cg", "D_S"): (0.5, 1e-5),  # too small to be drawn
    ("cg-x10", "D_S"): (0.5, 1e-5),  # of the same score model
}


@pytest.fixture
def panels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Axes]:
    """The panels of a figure by title, and "samples of" before the name of samples."""
    kept: list[Figure] = []

    def keep(figure: Figure, path: Path, **how: object) -> None:
        kept.append(figure)
        path.write_bytes(b"drawn")

    monkeypatch.setattr(Figure, "savefig", keep)
    shown = Overview(
        samples={"data": list(POINTS), "cg": list(POINTS + 1)},
        grid=GRID,
        fields=FIELDS,
        sigma=7.5,
        by_noise=[
            {"method": method, "metric": metric, "sigma": sigma, "value": value}
            for (method, metric), values in ERRORS.items()
            for sigma, value in zip(LEVELS, values, strict=True)
        ],
        reliability={7.5: {"cg": Reliability(BINS, BINS - 0.2, torch.tensor([0.5, 0.5]))}},
    )
    moons_overview(shown, tmp_path / "a.png")
    (figure,) = kept
    samples, *others = figure.subfigs
    found = {f"samples of {axes.get_title()}": axes for axes in samples.axes}
    return found | {axes.get_title(): axes for part in others for axes in part.axes}


def arrows(quiver: Quiver) -> NDArray[Any]:
    """Of each arrow where it starts, and how far it goes for every unit of the scale."""
    return np.stack([quiver.X, quiver.Y, quiver.U / quiver.scale, quiver.V / quiver.scale], 1)


def test_arrows_of_an_estimate_lie_over_those_of_the_exact_field(panels: dict[str, Axes]) -> None:
    of = {
        title: [c for c in panels[title].collections if isinstance(c, Quiver)]
        for title in ("exact", "cg", "cg-x10 (arrows ÷ 10)")
    }
    assert "cond" not in panels
    assert [len(found) for found in of.values()] == [1, 2, 2]
    (grey,) = of["exact"]
    start, way = np.split(arrows(grey), 2, axis=1)
    third = plane_grid((-40.0, -25.0), (40.0, 25.0), 3)
    np.testing.assert_allclose(start, third, atol=1e-5)
    np.testing.assert_allclose(way * grey.scale, start[:, ::-1] / 300, rtol=1e-5, atol=1e-6)
    for exact, estimate in (of["cg"], of["cg-x10 (arrows ÷ 10)"]):
        np.testing.assert_array_equal(arrows(exact), arrows(grey))
        assert exact.get_facecolor()[0, :3] == pytest.approx(to_rgb("#b0b0b0"))
        assert estimate.get_facecolor()[0, :3] == pytest.approx(to_rgb(method_style("cg")[0]))
    estimate, ten_times = of["cg"][1], of["cg-x10 (arrows ÷ 10)"][1]
    np.testing.assert_allclose(
        arrows(estimate)[:, 2:] * grey.scale, -start / 200, rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(arrows(ten_times), arrows(grey), rtol=1e-5, atol=1e-6)


def test_samples_are_drawn_in_the_colour_of_their_class(panels: dict[str, Axes]) -> None:
    for name, points in {"data": POINTS, "cg": POINTS + 1}.items():
        drawn = panels[f"samples of {name}"].collections
        for of_class, where, colour in zip(drawn, points, CLASS_COLOURS, strict=True):
            np.testing.assert_array_equal(of_class.get_offsets(), where)
            assert of_class.get_facecolor()[0, :3] == pytest.approx(to_rgb(colour))


def test_errors_are_lines_by_noise_level(panels: dict[str, Axes]) -> None:
    (of_classifiers,) = (axes for title, axes in panels.items() if title.startswith("D_L:"))
    found = {line.get_label(): line.get_xydata().T for line in of_classifiers.lines}
    assert found.keys() == {"cg", "cg-x10"}
    for name, (sigmas, values) in found.items():
        np.testing.assert_allclose(sigmas, LEVELS)
        np.testing.assert_allclose(values, ERRORS[name, "D_L"])
    (of_scores,) = (axes for title, axes in panels.items() if title.startswith("D_S:"))
    (line,) = of_scores.lines
    np.testing.assert_allclose(line.get_xydata(), [[0.3, 0.5]])


def test_reliability_is_accuracy_over_confidence(panels: dict[str, Axes]) -> None:
    diagonal, line = panels["σ = 7.5"].lines
    assert (diagonal.get_xdata() == diagonal.get_ydata()).all()
    np.testing.assert_allclose(line.get_xydata(), [[0.6, 0.4], [0.9, 0.7]])
    assert line.get_label() == "cg, ECE 0.200"


def test_a_figure_without_samples_is_refused(tmp_path: Path) -> None:
    nothing = Overview(samples={}, grid=GRID, fields=FIELDS, sigma=7.5, by_noise=[])
    with pytest.raises(UserError, match="no samples to draw: train at least one method"):
        moons_overview(nothing, tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []
