from pathlib import Path
from typing import Any

import pytest

from fewlabel.errors import UserError
from fewlabel.metrics import Estimate
from fewlabel.report.comparison_page import comparison_of, comparison_page
from fewlabel.report.page import write_page
from fewlabel.report.table import Failed, groups, notes


def row(labels: str, method: str, metric: str, value: float) -> dict[str, Any]:
    ends = {"low": value - 0.1, "high": value + 0.1}
    return {"labels": labels, "method": method, "metric": metric, "value": value} | ends


ROWS = [
    row("4/class", "cg", "accuracy", 0.5),
    row("4/class", "cg", "fid", 3.0),
    row("4/class", "dpt", "accuracy", 0.9),
    row("all", "cg", "accuracy", 0.8),
    row("all", "cg", "fid", 2.0),
    row("4/class", "cg", "accuracy", 7.0) | {"class": 2},
    row("4/class", "cg", "kid", 7.0),
]
FAILED = {("all", "cg-jem"): "diverged", ("4/class", "dpt"): "killed", ("all", "cg"): "draw 2"}


def test_rows_become_a_table_in_groups() -> None:
    table = comparison_of(ROWS, ["accuracy", "fid"], "caption", FAILED)
    assert dict(table.rows) == {
        ("4/class", "cg"): [Estimate(0.5, 0.4, 0.6), Estimate(3.0, 2.9, 3.1)],
        ("4/class", "dpt"): [Estimate(0.9, 0.8, 1.0), None],
        ("all", "cg"): [Estimate(0.8, 0.8 - 0.1, 0.9), Estimate(2.0, 1.9, 2.1)],
        ("all", "cg-jem"): [Failed("diverged")] * 2,
    }
    assert [c.title for c in table.columns] == ["accuracy ↑", "FID ↓"]
    assert [group.name for group in groups(table)] == ["4/class", "all"]
    assert notes(table)[1:] == [
        "cg-jem, labels all failed: diverged",
        "dpt, labels 4/class failed in part: killed",
        "cg, labels all failed in part: draw 2",
    ]


def test_a_column_may_be_of_one_noise_level() -> None:
    rows = [
        row("all", method, "classifier-ece", value) | {"sigma": sigma}
        for method, value in (("cg", 0.2), ("dpt", 0.4))
        for sigma in (0.1, 0.5)
    ]
    rows[1]["value"] = 0.7
    table = comparison_of(rows, ["classifier-ece@0.5"], "")
    assert [c.title for c in table.columns] == ["calibration error, σ = 0.5 ↓"]
    (group,) = groups(table)
    assert {name: cells[0].text for name, cells in group.rows.items()} == {
        "cg": "0.700",
        "dpt": "0.400",
    }


def test_draws_are_to_be_averaged_first() -> None:
    with pytest.raises(UserError, match="two rows have cg, labels 4/class, accuracy"):
        comparison_of([*ROWS, ROWS[0]], ["accuracy"], "")


def test_the_page_has_every_part(tmp_path: Path) -> None:
    table = comparison_of(ROWS, ["accuracy", "fid"], "caption", FAILED)
    page = comparison_page(
        "Digits",
        "lead",
        facts={"data": "digits"},
        tables={"All figures": table, "Accuracy": comparison_of(ROWS, ["accuracy"], "")},
        figures={"By labels": []},
        commands=["fewlabel compare digits"],
        notes=["few draws"],
    )
    titles = [section.title for section in page.sections]
    assert titles == ["What was compared", "All figures", "Accuracy", "By labels", "Do it again"]
    html = write_page(tmp_path / "a.html", page).read_text(encoding="utf-8")
    for text in ("few draws", "fewlabel compare digits", "cg-jem, labels all failed: diverged"):
        assert text in html
