"""Texts of users are shown literally: in figures, pictures, pages and Markdown."""

import html
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.mathtext import MathTextParser
from PIL import Image, ImageDraw
from texts_cases import HIDDEN, NAMES

from fewlabel.calibration import Reliability
from fewlabel.interop.card import card
from fewlabel.metrics.intervals import Estimate
from fewlabel.pictures.grid import class_grid, image_grid
from fewlabel.pictures.scatter import scatter
from fewlabel.report import curves, figures, label_curves, noise, tradeoff
from fewlabel.report.page import Page, Section, write_page
from fewlabel.report.table import Column, Comparison, to_markdown
from fewlabel.run import Run
from fewlabel.texts import brief, markdown, shown

every_name = pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)


def test_what_cannot_be_seen_is_escaped() -> None:
    assert shown("a\x1b[31m\n\x85\u202e\u2028\ud800") == r"a\x1b[31m\n\x85\u202e\u2028\ud800"
    for text in ("héron", "苍鹭", "\u0627\u0628", "👩\u200d🔬", r"$\frac{a}{$ \n", "a b"):
        assert shown(text) == text


def test_a_long_text_keeps_its_ends() -> None:
    assert brief("a" * 40) == "a" * 40
    assert brief("abcdefghijk", 10) == "abcdef…ijk"
    assert brief("\n" * 50, 10) == r"\n\n\n…n\n"


@every_name
def test_markdown_says_the_text_itself(name: str) -> None:
    told = markdown(name)
    assert not re.search(r"[<>]|(?<!\\)[*_`|\[\]$~]", told.replace(r"\\", ""))
    spoken = html.unescape(re.sub(r"\\([^a-z\d\s])", r"\1", told))  # as CommonMark reads it
    assert spoken == shown(" ".join(name.split()))


ODD = tuple(NAMES.values())
TITLE = r"$\frac{a}{$ 5$ or 6$" + "\x1b\n"
ENDS = {"value": 0.5, "low": 0.4, "high": 0.6, "class": None, "sigma": None}
ROWS = [
    ENDS | {"method": method, "labels": TITLE, "metric": metric, "scale": scale}
    for method in ODD
    for metric in ("precision", "recall")
    for scale in (1.0, 2.0)
]


def draw_scatter(path: Path) -> Path:
    return scatter({name: torch.randn(5, 2) for name in ODD}, path, TITLE)


def draw_sweep(path: Path) -> Path:
    return figures.scale_sweep(ROWS, path, metrics=("precision",))


def draw_tradeoff(path: Path) -> Path:
    return tradeoff.tradeoff(ROWS, path)


def draw_noise(path: Path) -> Path:
    rows = [row | {"sigma": row["scale"], "scale": 1.0} for row in ROWS]
    return noise.by_noise_level(rows, path, ("precision", "recall"))


def draw_reliability(path: Path) -> Path:
    share = torch.full((3,), 1 / 3)
    diagram = Reliability(share.cumsum(0), share.cumsum(0), share)
    return noise.reliability_diagrams({TITLE: dict.fromkeys(ODD, diagram)}, path)


def draw_label_sweep(path: Path) -> Path:
    points = {8: Estimate(0.5, 0.4, 0.6), 80: Estimate(0.7, 0.6, 0.8)}
    return label_curves.label_sweep({"accuracy": dict.fromkeys(ODD, points)}, path, {8: TITLE})


def draw_curves(path: Path) -> Path:
    """Losses of users: their names head the panels."""
    records = [{"stage": "score", "step": i, "losses": dict.fromkeys(ODD, i)} for i in (1, 2)]
    return curves.training_curves(records, path)


DRAWN = (
    draw_scatter,
    draw_sweep,
    draw_tradeoff,
    draw_noise,
    draw_reliability,
    draw_label_sweep,
    draw_curves,
)


@pytest.mark.parametrize("draw", DRAWN)
def test_figures_show_names_literally(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, draw: Callable[[Path], Path]
) -> None:
    formulas: list[str] = []
    parse = MathTextParser.parse

    def spied(self: MathTextParser, text: str, *how: Any, **more: Any) -> Any:
        formulas.append(text)
        return parse(self, text, *how, **more)

    monkeypatch.setattr(MathTextParser, "parse", spied)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # layouts that fail, letters that the font lacks
        told = draw(tmp_path / "figure.svg").read_text(encoding="utf-8")
    written = [html.unescape(text) for text in re.findall("<!-- (.*?) -->", told, re.DOTALL)]
    assert not any(hidden in text for text in written for hidden in HIDDEN)
    for name in ODD:  # the middle of long ones may be left out
        assert any(shown(name)[:12] in text for text in written), name
    if draw not in (draw_sweep, draw_curves):  # they have no title of a user
        assert any(shown(TITLE)[:12] in text for text in written)
    assert all(text.startswith(r"$\mathdefault{") for text in formulas)  # of ticks


@every_name
def test_pictures_show_names_literally(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    written: list[str] = []
    text = ImageDraw.ImageDraw.text

    def spied(self: Any, place: Any, drawn: str, *how: Any, **more: Any) -> None:
        written.append(drawn)
        text(self, place, drawn, *how, **more)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", spied)
    x = torch.zeros(2, 1, 8, 8)
    paths = [
        class_grid({name: {name: x}}, tmp_path / "a.png", name),
        image_grid(x, tmp_path / "b.png", name),
    ]
    assert len(written) == 4
    for drawn in written:
        assert drawn[:3] == shown(name)[:3]
        assert drawn == shown(name) or "…" in drawn
    for path in paths:
        with Image.open(path) as picture:
            assert picture.width < 1200
            assert np.asarray(picture)[:, -4:].min() == 255  # no text beyond the edge


@every_name
def test_pages_and_tables_show_names_literally(tmp_path: Path, name: str) -> None:
    table = Comparison(name, name, [Column("n")], {name: [name]})
    section = Section(name, facts={name: name}, comparison=table, commands=[name], notes=[name])
    page = write_page(tmp_path / "page.html", Page(name, name, [section])).read_text("utf-8")
    assert not any(text in page for text in HIDDEN)
    assert "<b>" not in page
    title = re.search("<title>(.*?)</title>", page, re.DOTALL)
    assert title
    assert html.unescape(title[1]) == "\n".join(map(shown, name.split("\n")))
    head, _, row, *_ = to_markdown(table).splitlines()
    assert head == f"| {markdown(name)} | n |"
    assert row == f"| {markdown(name)} | {markdown(name)} |"


def test_the_card_of_an_export_shows_names_literally(
    finished_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("<script>alert(1)</script>", "[x](http://y)", "a\nb`c", *"3456789")
    monkeypatch.setattr(Run, "class_names", names)
    text = card(finished_run, "DDPMPipeline")
    (line,) = (line for line in text.splitlines() if line.startswith("Classes, in order"))
    assert line.startswith(
        r"Classes, in order: &lt;script&gt;alert(1)&lt;/script&gt;, \[x\](http://y), a b\`c, 3"
    )
    assert "<script" not in re.sub("(?m)^    .*$", "", text)
