import math

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from torch import Tensor

from fewlabel.randomness import SampleRandom, StepRandom, generator_for

N = 20_000
X = torch.zeros(N, 1)


def draws(random: StepRandom, x: Tensor) -> list[Tensor]:
    return [random.normal_like(x), random.quantiles_like(x), random.normal_like(x)]


def test_seed_and_step_fix_the_numbers() -> None:
    x = torch.zeros(6, 3)
    draws(StepRandom(1, 7), x)  # what was drawn before does not matter
    torch.manual_seed(5)
    first = draws(StepRandom(1, 8), x)
    torch.manual_seed(6)
    second = draws(StepRandom(1, 8), x)
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first[0], first[2])


def test_drawing_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    draws(StepRandom(0, 0), X)
    SampleRandom(0, [0]).normal((3,))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("rows", [1, 6, 40])
@pytest.mark.parametrize("world", [2, 3])
def test_the_ranks_together_draw_what_one_process_draws(rows: int, world: int) -> None:
    whole = draws(StepRandom(3, 4, "unlabelled"), torch.zeros(rows * world, 2, 2))
    parts = [
        draws(StepRandom(3, 4, "unlabelled", rank, world), torch.zeros(rows, 2, 2))
        for rank in range(world)
    ]
    for i, expected in enumerate(whole):
        assert torch.equal(torch.cat([part[i] for part in parts]), expected)


@pytest.mark.parametrize(
    "other",
    [StepRandom(0, 1), StepRandom(1, 0), StepRandom(0, 0, "unlabelled")],
    ids=["step", "seed", "purpose"],
)
def test_other_keys_draw_independent_numbers(other: StepRandom) -> None:
    bound = 4 / math.sqrt(N)
    for a, b in zip(draws(StepRandom(0, 0), X), draws(other, X), strict=True):
        pair = torch.stack([a.flatten(), b.flatten()])
        assert torch.corrcoef(pair)[0, 1].abs() < bound
        assert torch.corrcoef(pair.square())[0, 1].abs() < bound


def test_successive_draws_are_independent() -> None:
    normal, quantiles, again = (v.flatten() for v in draws(StepRandom(0, 0), X))
    correlations = torch.corrcoef(torch.stack([normal, quantiles, again]))
    assert correlations.triu(1).abs().max() < 4 / math.sqrt(N)


def test_normal_numbers_are_normal() -> None:
    assert kstest(StepRandom(0, 0).normal_like(X).flatten().numpy(), "norm").pvalue > 1e-3
    samples = SampleRandom(0, range(2000)).normal((2, 3)).flatten()
    assert kstest(samples.numpy(), "norm").pvalue > 1e-3


@pytest.mark.parametrize("n", [1, 7, 128])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_quantile_falls_in_each_stratum(n: int, dtype: torch.dtype) -> None:
    for step in range(50):
        quantiles = StepRandom(2, step).quantiles_like(torch.zeros(n, 1, dtype=dtype))
        assert quantiles.dtype == dtype
        assert sorted((quantiles.double() * n).floor().int().tolist()) == list(range(n))


def test_each_quantile_alone_is_uniform_and_in_random_order() -> None:
    steps = [StepRandom(2, step).quantiles_like(torch.zeros(8, 1)) for step in range(1500)]
    rows = torch.stack(steps)
    for row in (0, 3, 7):
        assert kstest(rows[:, row].numpy(), "uniform").pvalue > 1e-3
    # without replacement of strata neighbours repel one another: correlation −1/(n − 1)
    correlation = torch.corrcoef(rows.T)[0, 1]
    strata_share = 1 - 1 / 64  # of the variance, the rest is within the strata
    assert abs(correlation + strata_share / 7) < 4 / math.sqrt(1500)


def test_quantiles_stay_inside_the_open_interval() -> None:
    quantiles = StepRandom(0, 0).quantiles_like(torch.zeros(2_000_000, 1))
    assert quantiles.min() > 0
    assert quantiles.max() < 1
    assert torch.special.ndtri(quantiles).isfinite().all()


@pytest.mark.parametrize(("rows", "world", "n"), [(150, 1, 2048), (50, 3, 2048), (8, 1, 8)])
def test_rows_choose_different_ones_of_many(rows: int, world: int, n: int) -> None:
    """Chains of a buffer, say: two rows that moved the same one would undo each other's step."""
    x, times = torch.zeros(rows), torch.zeros(n)
    for step in range(400):
        ranks = [
            StepRandom(0, step, rank=r, world=world).distinct_like(x, n) for r in range(world)
        ]
        chosen = torch.cat(ranks)
        assert len(chosen.unique()) == rows * world
        times[chosen] += 1
    share = rows * world / n  # each chain is as likely as any other
    assert times.mean() == pytest.approx(400 * share)
    assert times.var() == pytest.approx(400 * share * (1 - share), rel=0.2, abs=1e-6)


def test_integer_data_get_floating_noise() -> None:
    noise = StepRandom(0, 0).normal_like(torch.zeros(4, 2, dtype=torch.uint8))
    assert torch.equal(noise, StepRandom(0, 0).normal_like(torch.zeros(4, 2)))


@pytest.mark.parametrize("shape", [(2,), (1, 8, 8)])
def test_a_sample_does_not_depend_on_its_batch(shape: tuple[int, ...]) -> None:
    together = SampleRandom(4, range(10))
    parts = [
        SampleRandom(4, range(3)),
        SampleRandom(4, range(3, 4)),
        SampleRandom(4, range(4, 10)),
    ]
    for _ in range(2):  # also the numbers that are drawn later
        split = torch.cat([part.normal(shape) for part in parts])
        assert torch.equal(together.normal(shape), split)


def test_samples_are_independent_of_one_another_and_of_training() -> None:
    numbers = SampleRandom(0, [0, 1]).normal((N,))
    other = SampleRandom(1, [0]).normal((N,))
    step = StepRandom(0, 0).normal_like(X).flatten()[None]
    correlations = torch.corrcoef(torch.cat([numbers, other, step]))
    assert correlations.triu(1).abs().max() < 4 / math.sqrt(N)


def test_different_keys_are_different_generators() -> None:
    keys = [(1, 23), (12, 3), (123,), ("1", 23), ("1, 23",), (23, 1), ("a", "b"), ("a, b",)]
    keys += [("step", 0, step, "") for step in range(200)]
    firsts = {torch.rand(2, generator=generator_for(*key)).tolist()[0] for key in keys}
    assert len(firsts) == len(keys)


@pytest.mark.parametrize("seed", [np.int64(7), np.uint8(7), torch.tensor(7)], ids=type)
def test_an_integer_of_any_kind_is_the_same_seed(seed: int) -> None:
    assert generator_for("x", seed).initial_seed() == generator_for("x", 7).initial_seed()


@pytest.mark.parametrize("seed", [7.0, torch.Generator().manual_seed(7), None], ids=type)
def test_what_is_no_integer_is_no_seed(seed: object) -> None:
    with pytest.raises(TypeError):
        generator_for("x", seed)  # type: ignore[arg-type]
