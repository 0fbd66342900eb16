import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from fewlabel.errors import UserError
from fewlabel.report import figures


def sweep_row(method: str, scale: float, metric: str, value: float, **more: Any) -> dict[str, Any]:
    row = {"method": method, "scale": scale, "metric": metric, "value": value, "class": None}
    return row | {"low": value - 0.1, "high": value + 0.1} | more


ROWS = [
    sweep_row(method, scale, metric, scale / 10)
    for method in ("cg", "cg-sc-all")
    for scale in (1.0, 2.0, 4.0)
    for metric in ("accuracy", "intra-fid")
]


def share_of(path: Path, colour: str) -> int:
    """How many pixels have exactly this colour."""
    with Image.open(path) as picture:
        rgb = np.asarray(picture.convert("RGB"))
    return int((rgb == np.round(255 * np.array(to_rgb(colour)))).all(-1).sum())


def test_each_method_is_drawn_in_its_colour(tmp_path: Path) -> None:
    both = figures.scale_sweep(ROWS, tmp_path / "both.png")
    one = figures.scale_sweep([r for r in ROWS if r["method"] == "cg"], tmp_path / "one.png")
    cg, sc = figures.method_style("cg")[0], figures.method_style("cg-sc-all")[0]
    assert share_of(both, cg) > 500
    assert share_of(both, sc) > 500
    assert share_of(one, cg) > 500
    assert share_of(one, sc) == 0


def test_the_figure_is_wide_enough_for_700_pixels(tmp_path: Path) -> None:
    with Image.open(figures.scale_sweep(ROWS, tmp_path / "sweep.png")) as picture:
        assert picture.width == 1400


def test_the_chosen_scale_is_ringed(tmp_path: Path) -> None:
    plain = figures.scale_sweep(ROWS, tmp_path / "plain.svg").read_text()
    ringed = figures.scale_sweep(ROWS, tmp_path / "ringed.svg", {"cg": 2.0}).read_text()
    assert "chosen scale" in ringed
    assert "chosen scale" not in plain


def test_single_classes_and_other_metrics_are_passed_over(tmp_path: Path) -> None:
    more = [sweep_row("cg", 1.0, "accuracy", 9.0) | {"class": 3}, sweep_row("cg", 1.0, "fid", 9.0)]
    plain = figures.scale_sweep(ROWS, tmp_path / "a.png").read_bytes()
    assert figures.scale_sweep(ROWS + more, tmp_path / "b.png").read_bytes() == plain


def test_sweep_refuses(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no rows to draw: evaluate accuracy or intra-fid"):
        figures.scale_sweep([], tmp_path / "a.png")
    with pytest.raises(UserError, match="two rows have cg, accuracy, scale 1"):
        figures.scale_sweep([*ROWS, ROWS[0]], tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_styles_are_distinct_and_stable() -> None:
    assert len(set(figures.STYLES.values())) == len(figures.STYLES)
    for (a, _), (b, _) in itertools.combinations(figures.STYLES.values(), 2):
        assert np.abs(np.subtract(to_rgb(a), to_rgb(b))).sum() > 0.2


def test_pyplot_is_not_used(tmp_path: Path) -> None:
    program = f"""
import sys
from fewlabel.pictures import grid
from fewlabel.report import figures, page
assert "matplotlib" not in sys.modules, "matplotlib is imported before a figure is drawn"
figures.scale_sweep({ROWS!r}, {str(tmp_path / "a.png")!r})
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
