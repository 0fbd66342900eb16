import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from toys import Fails, Pull, Root, Scalar, Slope, run_fit, settings

from fewlabel.batch import Batch
from fewlabel.classifier import NoisyClassifier
from fewlabel.errors import TrainingError, UserError
from fewlabel.objectives import CrossEntropy, LogNormal, Term
from fewlabel.process import EDM
from fewlabel.randomness import StepRandom, generator_for
from fewlabel.training.checkpoint import Checkpoints
from fewlabel.training.ema import Ema
from fewlabel.training.loop import learning_rate
from fewlabel.training.plan import Plan, plan
from fewlabel.training.stages import check_settings


def test_the_average_starts_as_the_closed_form_of_its_warm_up() -> None:
    """From 0 towards 1: what is left after n steps is Π (1+j)/(10+j) = 1 / C(n+9, 9)."""
    ema, model = Ema(Scalar(0.0), 0.9999), Scalar(1.0)
    for n in range(1, 40):
        ema.update(model, n - 1)
        assert 1 - ema.model.w.item() == pytest.approx(1 / math.comb(n + 9, 9), abs=1e-6)


def test_the_average_ends_with_its_own_decay() -> None:
    """The warm-up reaches 0.5 at step 8; from there on each step halves what is left."""
    ema, model = Ema(Scalar(0.0), 0.5), Scalar(1.0)
    left = []
    for step in range(14):
        ema.update(model, step)
        left.append(1 - ema.model.w.item())
    assert left[7] == pytest.approx(1 / math.comb(17, 9), abs=1e-6)
    # 1/24310 is near float32's resolution at 1: the differences are taken from a longer way.
    far = Ema(Scalar(0.0), 0.5)
    for step in range(8, 14):
        far.update(model, step)
    assert 1 - far.model.w.item() == pytest.approx(0.5**6, rel=1e-5)


def test_the_average_of_a_fit_moves_step_by_step(tmp_path: Path) -> None:
    model, config = Scalar(), settings(steps=12, ema=0.9)
    path = [0.0]
    for _ in run_fit(model, {"slope": Slope(model)}, config, tmp_path):
        path.append(model.w.item())
    average = path[0]
    for step, weight in enumerate(path[1:]):
        decay = min(0.9, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * weight
    saved = Checkpoints(tmp_path).ema_weights()["w"].item()
    assert saved == pytest.approx(average, rel=1e-5)


def test_a_fit_leaves_the_global_generator_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    model = Scalar()
    list(run_fit(model, {"slope": Slope(model)}, settings(steps=2), tmp_path))
    assert torch.equal(torch.rand(3), expected)


def test_the_learning_rate_from_its_start_to_its_end() -> None:
    config = settings(steps=100, learning_rate=0.3, warmup=9)
    assert learning_rate(config, 0) == pytest.approx(0.3 / 10)
    assert learning_rate(config, 4) == pytest.approx(0.3 * 5 / 10 * math.sqrt(0.96))
    assert learning_rate(config, 75) == pytest.approx(0.3 / 2)
    assert learning_rate(config, 100) == 0
    late = [learning_rate(config, step) for step in range(10, 101)]
    assert late == sorted(late, reverse=True)
    assert learning_rate(settings(learning_rate=0.3), 0) == 0.3


def test_other_schedules() -> None:
    config = settings(steps=100, learning_rate=0.3, schedule="cosine")
    assert learning_rate(config, 0) == pytest.approx(0.3)
    assert learning_rate(config, 25) == pytest.approx(0.3 * (2 + math.sqrt(2)) / 4)
    assert learning_rate(config, 100) == pytest.approx(0)
    config = settings(steps=100, learning_rate=0.3, warmup=9, schedule="constant")
    assert [learning_rate(config, step) for step in (4, 9, 99)] == pytest.approx([0.15, 0.3, 0.3])


@pytest.mark.parametrize("accumulate", [2, 5, 10])
def test_micro_batches_change_nothing_but_rounding(tmp_path: Path, accumulate: int) -> None:
    """Each sees the noise of its rows; the gradient is the mean."""
    batch = Batch(torch.linspace(-1, 1, 10), torch.arange(10) % 2)

    def ended(folder: Path, **values: int) -> tuple[float, list[dict[str, float]]]:
        model = Scalar(0.3)
        terms = {"a": Pull(model, 1.0, noise=0.5), "b": Pull(model, -1.0, noise=2.0)}
        config = settings(steps=20, learning_rate=0.05, clip=0.5, **values)
        records = list(run_fit(model, terms, config, folder, batch=batch))
        return model.w.item(), [record.losses for record in records]

    (weight, losses), (whole, expected) = (
        ended(tmp_path / "parts", accumulate=accumulate),
        ended(tmp_path / "whole"),
    )
    assert weight == pytest.approx(whole, abs=1e-6)
    for ours, theirs in zip(losses, expected, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)


def test_a_batch_must_divide_into_its_shares() -> None:
    def planned(*overrides: str) -> Plan:
        return plan("digits", options={"method": "cg"}, overrides=overrides)

    parts = "classifier.fit.accumulate=3", "classifier.fit.batch=24"
    check_settings(planned(*parts), 4)
    with pytest.raises(UserError, match=r"classifier\.fit\.batch=24 .* 16 × 3 .*multiple of 48"):
        check_settings(planned(*parts), 16)


def test_a_gradient_that_is_clipped_moves_as_one_of_norm_one(tmp_path: Path) -> None:
    """Adam alone would hide a constant factor, so every other gradient is a hundred times it."""

    class Uneven(Slope):
        calls = 0

        def forward(self, batch: Batch, random: StepRandom) -> Tensor:
            self.calls += 1
            return super().forward(batch, random) * (1 if self.calls % 2 else 100)

    ends = []
    for kind, clip in ((Slope, 1.0), (Uneven, 1.0), (Uneven, 1e9)):
        model = Scalar()
        config = settings(steps=20, learning_rate=0.01, clip=clip)
        list(run_fit(model, {"slope": kind(model)}, config, tmp_path / f"{kind.__name__}{clip}"))
        ends.append(model.w.item())
    assert ends[1] == pytest.approx(ends[0], rel=1e-4)
    assert abs(ends[2] / ends[0] - 1) > 0.05


def test_weights_decay_by_the_rate_times_the_decay(tmp_path: Path) -> None:
    """Without a gradient AdamW leaves Π (1 − η_s λ); in Adam's L2 form it would step by η_s."""

    class Flat(Slope):
        def forward(self, batch: Batch, random: StepRandom) -> Tensor:
            return 0 * super().forward(batch, random)

    model, config = Scalar(2.0), settings(steps=30, learning_rate=0.1, weight_decay=0.3)
    list(run_fit(model, {"flat": Flat(model)}, config, tmp_path))
    left = math.prod(1 - 0.3 * learning_rate(config, step) for step in range(30))
    assert model.w.item() == pytest.approx(2 * left, rel=1e-5)


def test_a_share_has_whole_eighths_for_a_loss_on_every_eighth_row() -> None:
    def planned(batch: int) -> Plan:
        given = f"classifier.fit.batch={batch}", "classifier.fit.accumulate=4"
        return plan("digits", options={"method": "lpg-dlsm"}, overrides=given)

    check_settings(planned(32), 1)
    with pytest.raises(UserError, match=r"batch=16 is 4 rows .* dlsm .* every 8th; .* of 32"):
        check_settings(planned(16), 1)


def test_a_fit_moves_by_the_learning_rates(tmp_path: Path) -> None:
    """Under a constant gradient Adam's step is the learning rate itself."""
    model, config = Scalar(), settings(steps=30, learning_rate=0.01, warmup=4)
    steps = list(run_fit(model, {"slope": Slope(model)}, config, tmp_path))
    expected = sum(0.01 * min(1, (s + 1) / 5) * math.sqrt(1 - s / 30) for s in range(30))
    assert -model.w.item() == pytest.approx(expected, rel=1e-4)
    assert [record.step for record in steps] == list(range(1, 31))


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (3.0, 1.0), (0.0, 1.0)])
def test_the_weights_of_the_terms_decide_where_it_ends(
    tmp_path: Path, low: float, high: float
) -> None:
    """The minimiser of a·w² + b·(w − 1)² is b/(a + b)."""
    model = Scalar(0.5)
    terms: dict[str, Term] = {"low": Pull(model, 0.0), "high": Pull(model, 1.0)}
    config = settings(steps=300, learning_rate=0.05)
    weights = {"low": low, "high": high}
    *_, last = run_fit(model, terms, config, tmp_path, weights)
    end = high / (low + high)
    assert model.w.item() == pytest.approx(end, abs=0.01)
    # The records show the terms themselves, not multiplied by their weights.
    assert last.losses == pytest.approx({"low": end**2, "high": (1 - end) ** 2}, abs=0.02)


@pytest.mark.parametrize("stop_at", [1, 5, 9])
def test_a_fit_stopped_anywhere_goes_on_bit_for_bit(tmp_path: Path, stop_at: int) -> None:
    config = settings(steps=10, ema=0.9, checkpoint_every=4)

    def ended(folder: Path, stop_at: int | None) -> tuple[int, float]:
        model = Scalar(0.3)
        terms: dict[str, Term] = {"pull": Pull(model, 1.0, noise=0.5)}
        *_, last = run_fit(model, terms, config, folder, stop_at=stop_at)
        return last.step, model.w.item()

    assert ended(tmp_path / "broken", stop_at)[0] == stop_at
    assert ended(tmp_path / "broken", None) == ended(tmp_path / "whole", None)
    ours, theirs = (Checkpoints(tmp_path / name).ema_weights() for name in ("broken", "whole"))
    assert torch.equal(ours["w"], theirs["w"])


def test_a_loss_that_is_not_finite_is_named_with_its_step_and_the_last_checkpoint(
    tmp_path: Path,
) -> None:
    model, config = Scalar(), settings(checkpoint_every=5)
    terms: dict[str, Term] = {"good": Slope(model), "bad": Fails(model)}
    with pytest.raises(TrainingError) as caught:
        list(run_fit(model, terms, config, tmp_path / "score"))
    message = str(caught.value)
    assert "'bad' is not finite at step 7" in message
    assert str(tmp_path / "score" / "step-00000005") in message
    assert "learning_rate" in message


def test_a_gradient_that_is_not_finite_stops_before_it_spoils_the_weights(tmp_path: Path) -> None:
    model = Scalar(1.0)
    with pytest.raises(TrainingError, match=r"'gradient' is not finite at step 1.*none was saved"):
        list(run_fit(model, {"root": Root(model)}, settings(checkpoint_every=1), tmp_path))
    assert model.w.item() == 1.0
    assert Checkpoints(tmp_path).newest() is None


def test_the_loss_goes_down_on_a_problem_that_can_be_learned(tmp_path: Path) -> None:
    """Two classes ten standard deviations apart, seen through weak noise."""
    generator = generator_for("blobs")
    y = torch.arange(64) % 2
    x = torch.randn(64, 2, generator=generator) * 0.2 + (2.0 * y - 1)[:, None]

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(2, 16), nn.SiLU(), nn.Linear(16, 2))

        def forward(self, u: Tensor, c_noise: Tensor) -> Tensor:
            return self.layers(u)

    torch.manual_seed(0)
    weak = EDM(sigma_min=0.01, sigma_max=1.0)
    model = NoisyClassifier(Network(), weak, sigma_data=1.0, energy="plain")
    config = settings(steps=80, learning_rate=0.02)
    terms: dict[str, Term] = {"ce": CrossEntropy(model, times=LogNormal(-3.0, 0.5))}
    losses = [r.losses["ce"] for r in run_fit(model, terms, config, tmp_path, batch=Batch(x, y))]
    assert losses[0] > 0.3
    assert sum(losses[-5:]) / 5 < 0.05
