"""The example of docs/your-own-network.md, run as it stands."""

import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "your-own-network.md"


def test_the_example_draws_the_class_that_it_asks_for() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(code, str(PAGE), "exec"), names)
    samples, points = names["samples"], names["points"][names["classes"] == 1]
    assert (samples[:, 0] > 0).double().mean() > 0.95
    assert (samples.mean(0) - points.mean(0)).abs().max() < 0.15
    assert (samples.std(0) / points.std(0)).log().abs().max() < 0.4
