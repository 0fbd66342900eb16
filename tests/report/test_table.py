import csv
import io
import itertools
from collections.abc import Sequence

import pytest

from fewlabel.errors import UserError
from fewlabel.metrics import Estimate
from fewlabel.report.table import (
    Cell,
    Column,
    Comparison,
    Entry,
    Failed,
    groups,
    notes,
    to_csv,
    to_markdown,
)
from fewlabel.report.terminal import print_table

ACCURACY = Column("accuracy ↑", "largest", ".0%")
FID = Column("FID ↓", "smallest", ".1f")


def grouped() -> Comparison:
    return Comparison(
        "caption",
        "method",
        [ACCURACY, FID, Column("scale")],
        {
            ("1/class", "cg"): [Estimate(0.5, 0.4, 0.6), Estimate(9, 8, 10), "2"],
            ("1/class", "dlsm"): [Estimate(0.7, 0.6, 0.8), Estimate(5, 4, 6), None],
            ("1/class", "sc"): [Estimate(0.2, 0.1, 0.3), Failed("diverged at step 3"), "4"],
            ("all", "cg"): [Estimate(0.95, 0.9, 0.99), Estimate(3, 2.5, 3.5), "1"],
            ("all", "dlsm"): [Estimate(0.9, 0.85, 0.95), None, "1"],
        },
    )


def marks(comparison: Comparison) -> dict[str, dict[str, list[str]]]:
    return {
        group.name: {name: [cell.mark for cell in row] for name, row in group.rows.items()}
        for group in groups(comparison)
    }


def test_best_and_tied_are_found_within_each_group() -> None:
    assert marks(grouped()) == {
        "1/class": {
            "cg": ["tied", "", ""],  # its interval touches that of the best
            "dlsm": ["best", "best", ""],
            "sc": ["", "", ""],
        },
        "all": {"cg": ["best", "", ""], "dlsm": ["tied", "", ""]},
    }


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
@pytest.mark.parametrize(("column", "sign"), [(ACCURACY, 1), (FID, -1)])
def test_a_tie_is_an_overlap_with_the_best_alone(
    order: Sequence[int], column: Column, sign: int
) -> None:
    """A chain of overlaps makes no tie: c overlaps b, and b overlaps the best a, but not c."""
    entries = {
        "a": Estimate(sign * 10, sign * 10 - 2, sign * 10 + 2),
        "b": Estimate(sign * 7, sign * 7 - 2, sign * 7 + 2),
        "c": Estimate(sign * 4, sign * 4 - 2, sign * 4 + 2),
        "d": Estimate(float("nan"), float("nan"), float("nan")),
    }
    names = ["abcd"[i] for i in order]
    found = marks(Comparison("", "m", [column], {name: [entries[name]] for name in names}))[""]
    assert found == {"a": ["best"], "b": ["tied"], "c": [""], "d": [""]}


def test_of_equal_values_all_are_best() -> None:
    rows = {"a": [Estimate(0.5, 0.2, 0.8)], "b": [Estimate(0.5, 0.4, 0.6)]}
    assert marks(Comparison("", "m", [ACCURACY], rows))[""] == {"a": ["best"], "b": ["best"]}


def test_a_row_without_rivals_or_a_column_without_contest_has_no_marks() -> None:
    alone = {"a": [Estimate(0.5, 0.2, 0.8)], "b": [None]}
    assert marks(Comparison("", "m", [ACCURACY], alone))[""] == {"a": [""], "b": [""]}
    both = {"a": [Estimate(0.5, 0.2, 0.8)], "b": [Estimate(0.4, 0.2, 0.8)]}
    plain = Comparison("", "m", [ACCURACY.uncontested()], both)
    assert marks(plain)[""] == {"a": [""], "b": [""]}
    assert notes(plain) == []


def test_cells_show_value_interval_gap_and_failure() -> None:
    rows = groups(grouped())[0].rows
    assert rows["dlsm"] == [Cell("70%", "60% to 80%", "best"), Cell("5.0", "4.0 to 6.0", "best"),
                            Cell("–")]  # fmt: skip
    assert rows["sc"][1:] == [Cell("failed"), Cell("4")]


def test_notes_explain_the_marks_and_the_failures() -> None:
    assert notes(grouped()) == [
        "Bold: the best of its column with the same labels.",
        "≈: tied with the best, as the two intervals overlap.",
        "sc, labels 1/class failed: diverged at step 3",
    ]
    ungrouped = Comparison("", "m", [ACCURACY, FID], {"a|b": [Failed("why"), Failed("why")]})
    assert notes(ungrouped) == ["a|b failed: why"]


def test_markdown_says_the_same_as_the_cells() -> None:
    text = to_markdown(grouped())
    head, rule, *lines = text.split("\n\n")[0].splitlines()
    assert head == "| labels | method | accuracy ↑ | FID ↓ | scale |"
    assert rule.count("---") == 5
    assert lines[0] == "| 1/class | cg | ≈ 50% (40% to 60%) | 9.0 (8.0 to 10.0) | 2 |"
    assert lines[1] == "|  | dlsm | **70%** (60% to 80%) | **5.0** (4.0 to 6.0) | – |"
    assert lines[2] == "|  | sc | 20% (10% to 30%) | failed | 4 |"
    assert lines[3].startswith("| all | cg | **95%**")
    assert text.rstrip("\n").split("\n\n")[1:] == ["caption", *notes(grouped())]


def test_markdown_is_not_broken_by_a_name() -> None:
    rows = {"a|b\nc": ["x|y"]}
    line = to_markdown(Comparison("", "m", [Column("t")], rows)).splitlines()[2]
    assert line == r"| a\|b c | x\|y |"


def test_csv_holds_the_unrounded_figures() -> None:
    third = Estimate(1 / 3, 0.1 + 0.2, 0.5)
    rows = {("1", "a, b"): [third, "2"], ("1", 'c"d'): [Estimate(0.1, 0, 1), None],
            ("1", "e"): [Failed("why, not"), "3"], ("1", "f"): [None, ""]}  # fmt: skip
    table = Comparison("caption", "method", [ACCURACY, Column("scale")], rows)
    found = list(csv.DictReader(io.StringIO(to_csv(table))))
    title = "accuracy ↑"
    ends = [float(found[0][title + part]) for part in ("", " low", " high")]
    assert ends == [third.value, third.low, third.high]
    assert [row["method"] for row in found] == ["a, b", 'c"d', "e", "f"]
    assert [row["labels"] for row in found] == ["1"] * 4
    assert [row[f"{title} note"] for row in found] == ["best", "tied", "failed: why, not", ""]
    assert [row[title] for row in found][2:] == ["", ""]
    assert [row["scale"] for row in found] == ["2", "", "3", ""]


@pytest.mark.parametrize("render", [groups, notes, to_markdown, to_csv])
def test_a_row_must_fit_the_columns(render: object) -> None:
    short = Comparison("", "method", [ACCURACY, FID], {"cg": ["1"]})
    with pytest.raises(UserError, match="row 'cg' has 1 cells for 2 columns"):
        render(short)  # type: ignore[operator]


def test_a_name_that_looks_like_markup_is_shown_as_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows: dict[str, list[Entry]] = {name: ["1"] for name in ("[background]", "[/x]")}
    print_table(Comparison("", "class", [Column("n")], rows))
    shown = capsys.readouterr().out
    assert "[background]" in shown
    assert "[/x]" in shown
