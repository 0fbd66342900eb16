"""What files of weights claim is checked before memory is taken for it."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from interop_cases import ddim_folder

from fewlabel.errors import UserError
from fewlabel.files import read_json
from fewlabel.interop.importing import import_model
from fewlabel.interop.tensors import read_pickled

MB = 2**20


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"block_out_channels": [8192, 16384]}, "give the configuration it was made with"),
        ({"layers_per_block": 10**6}, "layers_per_block is no whole number from 1 to 64"),
        ({"block_out_channels": [10**6, 8]}, "block_out_channels is no whole number from 1 to"),
        ({"block_out_channels": [8] * 13}, "block_out_channels has more than 12 levels"),
    ],
)
def test_a_network_of_absurd_size_takes_no_memory(
    tmp_path: Path, settings: dict[str, Any], reason: str
) -> None:
    """The first would take 100 GB, and the file has a few kilobytes."""
    ddim_folder(tmp_path / "source")
    config = tmp_path / "source" / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | settings))
    with pytest.raises(UserError, match=reason):
        import_model(tmp_path / "source", tmp_path / "run")


def test_a_checkpoint_that_unpacks_to_more_than_the_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"model": torch.zeros(MB)}, tmp_path / "plain.pth")
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as plain,
        zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    monkeypatch.setenv("FEWLABEL_MAX_MB", "1")
    read_pickled(tmp_path / "plain.pth")  # as large as it is
    with pytest.raises(UserError, match=r"bomb\.pth: its content would take 5 MB of memory"):
        read_pickled(tmp_path / "bomb.pth")


def test_a_tensor_that_repeats_one_number_is_as_large_as_it_looks(tmp_path: Path) -> None:
    torch.save({"model": {"a": torch.zeros(1).expand(10**9)}}, tmp_path / "wide.pth")
    with pytest.raises(UserError, match=r"wide\.pth: the tensors that it names would take 3,815 "):
        read_pickled(tmp_path / "wide.pth")


def test_json_that_is_nested_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text("[" * 100_000)
    with pytest.raises(ValueError, match="nested too deeply"):
        read_json(path)
    ddim_folder(tmp_path / "source")
    path.replace(tmp_path / "source" / "model_index.json")
    with pytest.raises(UserError, match=r"model_index\.json cannot be read"):
        import_model(tmp_path / "source", tmp_path / "run")
