"""The central loop: more labels on the same score model, judged on the same held-out images."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewlabel.errors import UserError
from fewlabel.run import Run
from fewlabel.training.train import train


def drawn(path: Path, kind: int, seed: int) -> None:
    """A bright bar, upright or lying, in noise."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 90, (8, 8)).astype(np.uint8)
    at = int(random.integers(2, 6))
    pixels[(slice(None), at) if kind else (at, slice(None))] = 230
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def bars(tmp_path: Path) -> Path:
    """Ten labelled of each class and a hundred without."""
    for i in range(120):
        place = ("lying", "upright")[i % 2] if i < 20 else "unlabeled"
        drawn(tmp_path / "bars" / place / f"{i:03d}.png", i % 2, i)
    return tmp_path / "bars"


def turn(bars: Path) -> None:
    """Six labels a class more, three images fewer, one with another name."""
    files = sorted((bars / "unlabeled").iterdir())
    for path in files[:12]:
        kind = ("lying", "upright")[int(path.stem) % 2]
        path.rename(bars / kind / path.name)
    for path in files[12:15]:
        path.unlink()
    files[15].rename(bars / "unlabeled" / "renamed.png")


def test_no_image_changes_sides(
    bars: Path, tmp_path: Path, tiny: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"steps": 4, "device": "cpu", "overrides": tiny}
    first = train(bars, out=tmp_path / "first", **settings)
    before = first.splits
    trained = set(before.contents[before.train].tolist())
    held = set(before.contents[before.validation].tolist())
    turn(bars)
    second = train(bars, score=first.folder.path, out=tmp_path / "second", **settings)
    after = second.splits
    assert set(after.contents[after.train].tolist()) <= trained
    assert set(after.contents[after.validation].tolist()) <= held
    assert len(after.contents) == 117
    assert len(after.labelled) > len(before.labelled)
    # the run of the first turn is judged on the same images as that of the second
    again = Run(tmp_path / "first", "cpu")
    assert again.dataset.fingerprint == second.dataset.fingerprint
    np.testing.assert_array_equal(again.splits.validation, after.validation)
    np.testing.assert_array_equal(again.splits.train, after.train)
    assert "3 of its 120 examples are gone" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"another dataset.*3 of its 120 examples are gone"):
        train(bars, out=tmp_path / "first", **settings)


def test_a_split_made_otherwise_is_refused_by_file(
    bars: Path, tmp_path: Path, tiny: tuple[str, ...]
) -> None:
    """A score model that saw what is held out here: nothing would be left to measure by."""
    names = [path.relative_to(bars) for path in sorted(bars.glob("*/*.png"))]
    labelled = [name for name in names if name.parts[0] != "unlabeled"]
    settings = {"steps": 2, "device": "cpu", "overrides": tiny}
    small = tmp_path / "small"
    for name in labelled:
        (small / name).parent.mkdir(parents=True, exist_ok=True)
        (small / name).write_bytes((bars / name).read_bytes())
    listed = tmp_path / "all.csv"
    listed.write_text("file\n" + "".join(f"{name.as_posix()}\n" for name in labelled))
    saw_all = train(small, labels=str(listed), method="uncond", out=tmp_path / "all", **settings)
    with pytest.raises(UserError, match=r"trained on \d of the \d examples.*held out.*\.png"):
        train(small, score=saw_all.folder.path, out=tmp_path / "second", **settings)
    assert not (tmp_path / "second").exists()
