"""What the cache holds is what was put there, or nothing."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fewlabel.data import cache, keep_features, kept_features, open_dataset

FACTS = {"scale": 0.125, "accuracy": [0.5, 0.25, 0.75], "none": None}


def flips(content: bytes) -> list[bytes]:
    """Each byte changed by one bit, the others as they were."""
    places = range(0, len(content))
    return [content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :] for i in places]


def test_facts_come_back_as_they_were_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    assert cache.kept_facts(path) is None
    cache.keep_facts(path, FACTS)
    assert cache.kept_facts(path) == FACTS
    content = path.read_bytes()
    damaged = [*flips(content), content[:-30], b"", b"[]", b"null", b"3", b"\xff", b"[" * 100_000]
    found = []
    for bad in damaged:
        path.write_bytes(bad)
        found.append(cache.kept_facts(path))
    changed = [facts for facts in found if facts is not None and facts != FACTS]
    assert changed == []
    assert len([facts for facts in found if facts is None]) > 100  # white space may differ


@pytest.mark.parametrize("dtype", ["I32", "U32"])
def test_features_of_another_type_are_not_those_that_were_kept(tmp_path: Path, dtype: str) -> None:
    """The header alone is damaged, and is a valid one: the bytes of the values are the same."""
    path = tmp_path / "features.safetensors"
    features = torch.arange(12.0).reshape(3, 4)
    keep_features(path, features)
    found = kept_features(path)
    assert found is not None
    assert torch.equal(found, features)
    content = path.read_bytes()
    for before, after in ((b'"F32"', f'"{dtype}"'.encode()), (b"[3,4]", b"[4,3]")):
        assert content.count(before) == 1
        path.write_bytes(content.replace(before, after))
        assert kept_features(path) is None
    for bad in (content[:-1], content[: len(content) // 2], b"", bytes(len(content))):
        path.write_bytes(bad)
        assert kept_features(path) is None


@pytest.mark.parametrize(
    "damage",
    [lambda text: text.replace("12", "13"), lambda text: text[:9], lambda text: '{"side": 5}'],
)
def test_the_most_frequent_side_is_found_again_if_what_was_kept_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[str], str]
) -> None:
    monkeypatch.setenv("FEWLABEL_CACHE", str(tmp_path / "cache"))
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(3):
            pixels = np.full((12, 12), 40 * i, np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{i}.png")
    assert open_dataset(tmp_path / "data").shape == (1, 12, 12)
    (kept,) = (
        path
        for path in (tmp_path / "cache").glob("*.json")
        if '"side"' in path.read_text() and "broken" not in json.loads(path.read_text())
    )
    whole = kept.read_text()
    kept.write_text(damage(whole))
    assert open_dataset(tmp_path / "data").shape == (1, 12, 12)
    assert kept.read_text() == whole
