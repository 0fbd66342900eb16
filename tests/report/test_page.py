import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from PIL import Image

from fewlabel.errors import UserError
from fewlabel.metrics import Estimate
from fewlabel.pictures.grid import image_grid
from fewlabel.report.page import Page, Picture, Section, write_page
from fewlabel.report.table import Column, Comparison, Failed

NASTY = '<b>&"'
VOID = {"meta", "link", "img"}


class Reader(HTMLParser):
    """Collects elements and text, and fails on an element that is closed out of turn."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, list[str]] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and data.strip():
            self.text.setdefault(self.open[-1], []).append(data.strip())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return image_grid(torch.zeros(4, 1, 8, 8), tmp_path / "grid.png")


def comparison() -> Comparison:
    return Comparison(
        caption="1000 samples a method",
        head="method",
        columns=[
            Column("accuracy", "largest", ".1%"),
            Column("intra-FID", "smallest", ".2f"),
            Column("scale"),
        ],
        rows={
            "cg": [Estimate(0.8, 0.75, 0.85), Estimate(12.0, 11.0, 13.0), "2"],
            NASTY: [Estimate(0.9, 0.85, 0.95), Estimate(9.5, 9.0, 10.0), None],
        },
    )


def page(picture: Path) -> Page:
    return Page(
        title=f"Digits {NASTY}",
        lead=f"lead {NASTY}",
        sections=[
            Section("Data", text=f"text {NASTY}", facts={f"key {NASTY}": f"value {NASTY}"}),
            Section("Results", comparison=comparison()),
            Section(
                "Samples",
                figures=[Picture(picture, f"caption {NASTY}", f"alt {NASTY}")] * 2,
                commands=[f"fewlabel train {NASTY}\nfewlabel sample"],
            ),
        ],
    )


def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    assert reader.open == []
    return reader


def test_the_page_parses_and_says_what_it_is(tmp_path: Path, picture: Path) -> None:
    reader = read(write_page(tmp_path / "report.html", page(picture)))
    assert reader.all("html") == [{"lang": "en"}]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in reader.all(
        "meta"
    )
    assert reader.text["title"] == reader.text["h1"] == [f"Digits {NASTY}"]
    assert reader.text["h2"] == ["Data", "Results", "Samples"]
    assert reader.text["code"] == [f"fewlabel train {NASTY}\nfewlabel sample"]


def test_every_text_is_escaped(tmp_path: Path, picture: Path) -> None:
    html = write_page(tmp_path / "report.html", page(picture)).read_text(encoding="utf-8")
    assert "<b>" not in html
    reader = read(tmp_path / "report.html")
    texts = [text for found in reader.text.values() for text in found]
    for text in ("lead", "text", "key", "value", "caption"):
        assert f"{text} {NASTY}" in texts
    assert NASTY in reader.text["th"]
    assert reader.all("img")[0]["alt"] == f"alt {NASTY}"


def test_the_page_needs_nothing_else(tmp_path: Path, picture: Path) -> None:
    html = write_page(tmp_path / "report.html", page(picture)).read_text(encoding="utf-8")
    assert not re.search(r"https?://|url\(|@import", html)
    reader = read(tmp_path / "report.html")
    assert reader.all("script") == []
    sources = [a.get("src") or a.get("href") for _, a in reader.elements]
    assert all(source.startswith("data:") for source in sources if source)


def test_images_are_embedded_whole(tmp_path: Path, picture: Path) -> None:
    write_page(tmp_path / "report.html", page(picture))
    images = read(tmp_path / "report.html").all("img")
    assert len(images) == 2
    for image in images:
        head, data = str(image["src"]).split(",")
        assert head == "data:image/png;base64"
        assert base64.b64decode(data) == picture.read_bytes()
        with Image.open(io.BytesIO(base64.b64decode(data))) as decoded:
            decoded.load()
            assert (image["width"], image["height"]) == tuple(map(str, decoded.size))


def test_the_best_of_each_column_is_bold(tmp_path: Path, picture: Path) -> None:
    reader = read(write_page(tmp_path / "report.html", page(picture)))
    assert reader.text["strong"] == ["90.0%", "9.50"]
    assert "75.0% to 85.0%" in reader.text["span"]
    assert "–" in reader.text["td"]


def test_groups_ties_and_failures_are_shown(tmp_path: Path) -> None:
    near, far = Estimate(0.8, 0.7, 0.88), Estimate(0.3, 0.2, 0.4)
    rows = {
        ("1/class", "cg"): [Estimate(0.9, 0.85, 0.95)],
        ("1/class", "dpt"): [near],
        ("all", "cg"): [far],
        ("all", "dpt"): [near],
        ("all", NASTY): [Failed(f"diverged {NASTY}")],
    }
    table = Comparison("caption", "method", [Column("accuracy ↑", "largest", ".0%")], rows)
    reader = read(
        write_page(tmp_path / "a.html", Page("t", "l", [Section("s", comparison=table)]))
    )
    assert reader.text["strong"] == ["90%", "80%"]
    assert {"80%\u00a0≈", "30%", "failed"} <= set(reader.text["td"])
    assert [a.get("class") for a in reader.all("td")] == ["best", "tied", None, "best", None]
    assert [text for text in reader.text["span"] if "labels" in text] == [
        "labels: 1/class",
        "labels: all",
    ]
    assert f"{NASTY}, labels all failed: diverged {NASTY}" in reader.text["p"]


def test_plots_are_shown_at_a_readable_size(tmp_path: Path) -> None:
    Image.new("RGB", (1400, 500)).save(tmp_path / "fine.png", dpi=(250, 250))
    section = Section("s", figures=[Picture(tmp_path / "fine.png", "", "")])
    reader = read(write_page(tmp_path / "a.html", Page("t", "l", [section])))
    assert [(a["width"], a["height"]) for a in reader.all("img")] == [("700", "250")]


def test_a_lone_value_is_no_winner(tmp_path: Path) -> None:
    table = Comparison("", "method", [Column("FID", "smallest")], {"cg": [Estimate(1, 0, 2)]})
    lone = Page("t", "l", [Section("s", comparison=table)])
    assert "strong" not in read(write_page(tmp_path / "a.html", lone)).text


def test_a_page_without_sections(tmp_path: Path) -> None:
    reader = read(write_page(tmp_path / "a.html", Page("t", "l", [])))
    assert reader.all("section") == []


def test_refuses_and_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    (tmp_path / "no.png").write_text("text")
    short = Comparison("", "method", [Column("a"), Column("b")], {"cg": ["1"]})
    for section, message in (
        (Section("s", comparison=short), "row 'cg' has 1 cells for 2 columns"),
        (Section("s", figures=[Picture(tmp_path / "no.png", "", "")]), "no.png is not a PNG"),
        (Section("s", figures=[Picture(tmp_path / "none.png", "", "")]), "cannot read .*none.png"),
    ):
        with pytest.raises(UserError, match=message):
            write_page(folder / "report.html", Page("t", "l", [section]))
    assert not folder.exists()
