from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from data_cases import MakeDataset, Refuses

from fewlabel.data import Dataset
from fewlabel.data.probability_table import probabilities_of


@pytest.fixture
def dataset(make_dataset: MakeDataset) -> Dataset:
    return make_dataset((20, 20), unlabelled=10)


def written(folder: Path, *lines: str, head: str = "file,a,b") -> Path:
    table = folder / "said.csv"
    table.write_text("\n".join((head, *lines)), encoding="utf-8")
    return table


def test_each_example_gets_the_probabilities_of_its_own_file(
    dataset: Dataset, tmp_path: Path
) -> None:
    """In any order of lines and columns; rounded sums are mended, other files do not count."""
    asked, p = np.array([5, 2, 11]), {2: 0.25, 5: 0.666, 11: 1.0, 7: 0.5}
    lines = [f"{1 - q:.3f},{i}.png,x,{q:.3f}" for i, q in p.items()]
    table = written(tmp_path, *lines, "9,unknown.png,,9", head="b,file,by,a")
    found = probabilities_of(dataset, asked, table)
    np.testing.assert_allclose(found[:, 0], [p[i] for i in asked], atol=1e-6)
    table = written(tmp_path, "5.png,0.333,0.666", "2.png,1,0", "11.png,0,1")
    np.testing.assert_allclose(
        probabilities_of(dataset, asked, table), [[1 / 3, 2 / 3], [1, 0], [0, 1]], atol=1e-6
    )


def test_without_files_the_index_says_which(dataset: Dataset, tmp_path: Path) -> None:
    bare = replace(dataset, files=None)
    table = written(tmp_path, "3,0.2,0.8", "1,0.9,0.1", head="index,a,b")
    found = probabilities_of(bare, np.array([1, 3]), table)
    np.testing.assert_allclose(found, [[0.9, 0.1], [0.2, 0.8]], rtol=1e-6)


@pytest.mark.parametrize(
    ("head", "lines", "says"),
    [
        ("file,a", ["1.png,1"], "has no column 'b'"),
        ("a,b", ["1,0"], "has no column 'file'"),
        ("file,a,b", ["1.png,.5,.5", "1.png,.5,.5"], "line 3: 1.png is listed a second time"),
        ("file,a,b", ["1.png,.5,.6"], "line 2: .5, .6 are no probabilities"),
        ("file,a,b", ["1.png,1.5,-.5"], "line 2: 1.5, -.5 are no probabilities"),
        ("file,a,b", ["1.png,1,"], "line 2: 1, nothing are no probabilities"),
        ("file,a,b", ["1.png,nan,1"], "line 2: nan, 1 are no probabilities"),
        ("file,a,b", ["1.png,yes,no"], "line 2: yes, no are no probabilities"),
        ("file,a,b", ["1.png,1,0"], "has no line for file 2.png, nor for 1 more"),
        ("file,a,b", [], "lists nothing"),
    ],
)
def test_what_says_no_probabilities_is_refused(
    dataset: Dataset, tmp_path: Path, refuses: Refuses, head: str, lines: list[str], says: str
) -> None:
    with refuses("said.csv", says):
        probabilities_of(dataset, np.array([1, 2, 3]), written(tmp_path, *lines, head=head))


def test_a_missing_table(dataset: Dataset, tmp_path: Path, refuses: Refuses) -> None:
    with refuses("cannot be read", "No such file"):
        probabilities_of(dataset, np.array([1]), tmp_path / "none.csv")
