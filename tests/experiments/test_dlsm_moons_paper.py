from pathlib import Path

import pytest
import torch

from fewlabel.experiments.dlsm_moons import Effort, reproduce_paper
from fewlabel.experiments.dlsm_moons_paper import PAPER, PROCESS, PaperEffort, paper_entries
from fewlabel.score import score_weight

LENGTHS = PaperEffort(steps=4, batch=40)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("paper")
    paper_entries(folder, LENGTHS)
    return folder


def test_the_lengths_are_the_published_ones() -> None:
    assert (PAPER.steps, PAPER.batch) == (40_000, 4000)
    assert (PROCESS.sigma_min, PROCESS.sigma_max) == (1e-3, 10.0)


def test_the_losses_are_weighted_with_the_fourth_power_of_the_noise(out: Path) -> None:
    model = paper_entries(out, LENGTHS)["cg"].score_model
    sigma = torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64)
    weight = score_weight(PROCESS, PROCESS.time_at(sigma), model.sigma_data)
    torch.testing.assert_close(weight * model.sigma_data**2, sigma**4, rtol=2e-4, atol=0)


def test_the_branches_add_up(out: Path) -> None:
    """The published score is A h(x) + B k(σ) + b: a change of σ moves it equally everywhere."""
    model = paper_entries(out, LENGTHS)["cg"].score_model
    x = torch.tensor([[0.0, 0.0], [20.0, -5.0], [-30.0, 7.0]])
    low, high = (model(x, PROCESS.time_at(torch.tensor(sigma))) for sigma in (0.5, 7.5))
    moved = high - low
    assert moved.norm() > 1e-3
    torch.testing.assert_close(moved, moved[:1].expand(3, 2))


def test_classifiers_see_the_point_and_the_noise_as_they_are(out: Path) -> None:
    """The network gets x and σ themselves, not the normalised inputs of our classifiers."""
    classifier = paper_entries(out, LENGTHS)["cg-dlsm"].classifier
    assert classifier is not None
    x, sigma = torch.randn(5, 2) * 10, torch.full((5,), 7.5)
    raw = classifier.network.get_submodule("network")(x, sigma)
    torch.testing.assert_close(classifier(x, PROCESS.time_at(sigma)), raw, rtol=1e-4, atol=1e-4)


def test_a_conditional_score_is_that_of_its_own_network(out: Path) -> None:
    model = paper_entries(out, LENGTHS)["cond"].score_model
    x, t = torch.randn(6, 2), torch.tensor(0.9)
    y = torch.tensor([0, 1, 1, 0, 1, 0])
    both = [model(x, t, torch.full((6,), k)) for k in (0, 1)]
    assert (both[0] - both[1]).abs().min() > 1e-4
    torch.testing.assert_close(model(x, t, y), torch.where(y[:, None] == 0, *both))


def test_leaves_the_published_rows_beside_the_published_figures(out: Path) -> None:
    effort = Effort(points=20, samples=20, sampler_steps=4)
    document = reproduce_paper(out, effort, LENGTHS)
    assert {row["method"] for row in document["rows"]} == {"cond", "cg", "cg-x10", "cg-dlsm"}
    assert "(0.066/0.064)" in (out / "table.md").read_text()
    assert Path(document["figure"]).stat().st_size > 10_000
