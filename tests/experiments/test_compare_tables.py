"""The tables of a comparison, from rows as it writes them."""

import numpy as np
import pytest
from scipy import stats

from fewlabel.experiments.compare_tables import differences

METRICS = ["intra-fid"]


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
