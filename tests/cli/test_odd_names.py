"""Classes with names that are hard to draw go through every command to the end."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from texts_cases import HIDDEN, NAMES

from fewlabel.metrics import judge
from fewlabel.run import Run
from fewlabel.training.train import train

Cli = Callable[..., SimpleNamespace]
ODD = [name for case, name in NAMES.items() if case not in ("escape", "lines", "half")]
"""Those that are not refused when data are read."""
EACH = 20


@pytest.mark.parametrize("kind", ["images", "vectors"])
def test_sample_and_evaluate_come_to_the_end(
    cli: Cli,
    tmp_path: Path,
    tiny: tuple[str, ...],
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FEWLABEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(judge, "_STEPS", 5)
    monkeypatch.setattr(judge, "_EPOCHS", 0)
    random, n = np.random.default_rng(0), EACH * len(ODD)
    x = {
        "images": random.integers(0, 256, (n, 8, 8), dtype=np.uint8),
        "vectors": random.normal(size=(n, 2)),
    }[kind]
    labels = np.arange(n) % len(ODD)
    np.savez(tmp_path / "data.npz", **{kind: x, "labels": labels, "class_names": np.array(ODD)})
    overrides = tiny if kind == "images" else ["score.sheet_every=0"]
    run: Run = train(
        str(tmp_path / "data.npz"), method="cg", steps=2, out=tmp_path / "run",
        overrides=overrides, device="cpu",
    )  # fmt: skip
    for given in ([], ["--label", ODD[0]]):
        drawn = cli("sample", run.folder.path, "-n", 1, "--steps", 2, *given)
        assert drawn.status == 0, drawn.err
    grid = "grid" if kind == "images" else "points"
    found = sorted(path.parent.name for path in run.folder.path.glob(f"samples/*/{grid}.png"))
    assert found == ["__frac{a}{_-scale-4-seed-0".replace("{", "_").replace("}", "_"),
                     "all-scale-4-seed-0"]  # fmt: skip
    given = ["-n", 10, "--steps", 2, "--scale", "1,2", "--metrics", "accuracy"]
    judged = cli("evaluate", run.folder.path, *given)
    assert judged.status == 0, judged.err
    page = (run.folder.path / "report.html").read_text("utf-8")
    assert not any(text in page for text in HIDDEN)
    assert "<b>" not in page
    sheet = cli("datasets", tmp_path / "data.npz", "--out", tmp_path / "sheet.png")
    assert sheet.status == 0, sheet.err
    assert (tmp_path / "sheet.png").is_file()
