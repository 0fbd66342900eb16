from pathlib import Path

import pytest
from data_cases import MakeFolder, Refuses
from PIL import Image

from fewlabel.data import BUILTIN, open_dataset, refuse_inside
from fewlabel.errors import UserError


@pytest.mark.parametrize("name", BUILTIN)
def test_every_builtin_opens_under_its_name(name: str) -> None:
    dataset = open_dataset(name)
    assert dataset.name == name
    assert set(dataset.labels.tolist()) == set(range(dataset.n_classes))


def test_a_folder_opens_and_a_path_beats_a_builtin_name(
    make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = Image.new("L", (6, 6))
    root = make_folder({"a/1.png": image, "b/1.png": image}, "digits")
    monkeypatch.chdir(tmp_path)
    assert len(open_dataset(str(root), size=3)) == 2
    assert len(open_dataset(Path("digits"))) == len(open_dataset("./digits")) == 2
    assert len(open_dataset("digits")) == 1797


def test_digits_in_another_size_are_refused(refuses: Refuses) -> None:
    with refuses("8 × 8", "32", "leave the size out"):
        open_dataset("digits", size=32)


def test_an_unknown_name_lists_what_there_is(refuses: Refuses) -> None:
    with refuses("'Digts'", "digits", "no such folder", "did you mean digits?"):
        open_dataset("Digts")
    with refuses("'mnst:/data'", "did you mean mnist:/data?"):
        open_dataset("mnst:/data")
    with refuses("hf:", "no such folder"):
        open_dataset("hf:")
    with refuses("'/no/where'", *BUILTIN, "check the path"):
        open_dataset("/no/where")
    with refuses("''", "no such folder"):
        open_dataset("")


@pytest.mark.parametrize("prefix", ["", "hf:"])
def test_nothing_is_written_into_a_folder_of_images(tmp_path: Path, prefix: str) -> None:
    data = f"{prefix}{tmp_path}"
    refuse_inside(data, tmp_path.parent / "run")
    with pytest.raises(UserError, match="lies in the data folder"):
        refuse_inside(data, tmp_path / "deep" / "run")
