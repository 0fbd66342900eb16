"""The tables of a comparison, from rows as it writes them."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from fewlabel.experiments.compare_tables import averaged, differences, findings
from fewlabel.report.comparison_page import comparison_of

METRICS = ["intra-fid"]


def figures(values: dict[tuple[int, int], float]) -> list[dict[str, Any]]:
    """Rows of one figure by draw and seed, each with an interval of ± its draw + 1."""
    keys = {"labels": "4/class", "method": "cg", "metric": "intra-fid", "class": None}
    return [
        {
            **keys,
            "label_seed": draw,
            "seed": seed,
            "value": value,
            "low": value - draw - 1,
            "high": value + draw + 1,
        }
        for (draw, seed), value in values.items()
    ]


def test_the_seeds_of_a_draw_are_one_repeat_and_draws_are_the_repeats() -> None:
    """Draws that differ by far more than seeds: 30 values know no more than their three draws."""
    rng = np.random.default_rng(0)
    values = {
        (draw, seed): 10 + 3 * draw + rng.uniform() for draw in range(3) for seed in range(10)
    }
    (found,) = averaged(figures(values))
    means = [np.mean([v for (d, _), v in values.items() if d == draw]) for draw in range(3)]
    half = stats.t.ppf(0.975, 2) * stats.sem(means)
    ends = np.mean(means) - half, np.mean(means) + half
    assert (found["value"], found["low"], found["high"]) == pytest.approx((np.mean(means), *ends))
    assert found["repeats"] == 30
    of_one = {key: value for key, value in values.items() if key[0] == 1}
    (found,) = averaged(figures(of_one))  # of one draw the seeds are what there is
    half = stats.t.ppf(0.975, 9) * stats.sem(list(of_one.values()))
    assert found["high"] - found["low"] == pytest.approx(2 * half)


def test_repeats_that_agree_to_the_last_digit_are_not_certain() -> None:
    (found,) = averaged(figures({(0, 0): 5.0, (1, 1): 5.0}))
    assert (found["low"], found["high"]) == (3.0, 7.0)
    seeds = {(0, 0): 4.0, (0, 1): 6.0, (1, 0): 6.0, (1, 1): 4.0}  # the draws agree, seeds do not
    (found,) = averaged(figures(seeds))
    assert (found["value"], found["low"], found["high"]) == (5.0, 3.0, 7.0)
    same = figures({(0, 0): 5.0, (1, 1): 5.0})
    more = [
        row | {"method": "lpg", "value": row["value"] - (0.1 if row["seed"] else 0.4 - 0.3)}
        for row in same
    ]
    assert differences([*same, *more], METRICS) is None


def test_differences_are_paired_by_repeat() -> None:
    """Against scipy's paired t-test; a repeat that only one has does not count."""
    a, b, c = [3.0, 5.0, 9.0, 4.0], [3.5, 5.25, 10.0], [1.0]
    rows = [
        {
            "labels": labels,
            "method": name,
            "label_seed": draw,
            "seed": draw,
            "metric": "intra-fid",
            "class": None,
            "value": sign * value,
        }
        for labels, sign in (("4/class", 1.0), ("all", -1.0))
        for name, values in (("a", a), ("b", b), ("c", c))
        for draw, value in enumerate(values)
    ]
    found = differences([r for r in rows if r["method"] != "c"], ["intra-fid", "unknown"])
    assert found is not None
    assert [column.title for column in found.columns] == ["intra-FID ↓"]
    for labels, method, other, sign in (("4/class", "a", "b", 1), ("all", "b", "a", -1)):
        best, rest = (labels, method), (labels, other)
        (behind,) = found.rows[rest]
        assert found.rows[best] == ["the best"]
        pairs = (b, a[:3]) if other == "b" else (a[:3], b)
        said = stats.ttest_rel(*(np.multiply(sign, values) for values in pairs))
        ends = said.confidence_interval(0.95)
        mean = sign * (np.mean(pairs[0]) - np.mean(pairs[1]))
        assert (behind.value, behind.low, behind.high) == pytest.approx((mean, *ends))
    alone = differences([r for r in rows if r["labels"] == "all" and r["method"] == "c"], METRICS)
    assert alone is None
    one = differences(rows, METRICS)  # c is the best with 4/class, by its one repeat
    assert one is not None
    assert one.rows["4/class", "a"] == [None]


def test_the_best_are_named_and_nobody_is_better_than_nobody() -> None:
    cg = averaged(figures({(0, 0): 5.0}))[0] | {"low": 4.9, "high": 5.1}
    same, far = cg | {"method": "lpg"}, cg | {"method": "dpt", "value": 9.0, "low": 8.9}
    near = cg | {"method": "dpt", "value": 5.15, "low": 5.05}

    def found(*rows: dict[str, Any]) -> str:
        told: dict[str, dict[tuple[str, str], str]] = {"λ": {}, "scale": {}}
        (text,) = findings(comparison_of(rows, METRICS, "", {}, told), METRICS)
        return text.removeprefix("Labels 4/class, intra-FID: ")

    assert found(cg, same) == "cg, lpg are equal."
    assert found(cg, same, far) == "cg, lpg are best, apart from all others."
    assert found(cg, near) == "cg is best, tied with dpt."
    assert found(cg, far) == "cg is best, apart from all others."
