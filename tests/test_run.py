import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import fewlabel
from fewlabel import guidance, samplers
from fewlabel.errors import UserError
from fewlabel.progress import Task
from fewlabel.run import Run
from fewlabel.samplers import grids
from fewlabel.training.train import train


def test_the_batch_size_does_not_change_the_images(finished_run: Run) -> None:
    labels = torch.arange(7) % 10
    whole = finished_run.sample(labels, n=7, seed=3, batch_size=7)
    parts = finished_run.sample(labels, n=7, seed=3, batch_size=3)
    assert torch.allclose(whole, parts, atol=1e-4)
    more = finished_run.sample(torch.arange(9) % 10, n=9, seed=3)
    assert torch.allclose(whole, more[:7], atol=1e-4)
    # The seeds and the places do change them.
    assert not torch.allclose(whole, finished_run.sample(labels, n=7, seed=4), atol=1e-2)
    same_label = finished_run.sample(5, n=2, seed=3)
    assert not torch.allclose(same_label[0], same_label[1], atol=1e-2)


def test_the_guided_score_is_what_samples_follow(finished_run: Run) -> None:
    """Of a class by name, for samplers beside those of the table too: here as many Euler steps."""
    process, shape = finished_run.score_model.process, (3, *finished_run.config.shape)
    guided = finished_run.guided("4", 2.0, temperature=1.5)
    drawn = samplers.sample(guided, process, shape, steps=7, seed=2).clamp(-1, 1)
    settings = {"scale": 2.0, "steps": 7, "seed": 2, "temperature": 1.5}
    assert torch.equal(drawn, finished_run.sample("4", 3, **settings))
    of_each = finished_run.guided(torch.tensor([4, 4, 4]), 2.0, temperature=1.5)
    assert torch.equal(
        samplers.sample(of_each, process, shape, steps=7, seed=2).clamp(-1, 1), drawn
    )
    own = samplers.Sampler(samplers.ddim, grids.karras, 5)
    plain = samplers.sample(guided, process, shape, own, seed=2).clamp(-1, 1)
    assert torch.equal(
        plain, finished_run.sample("4", 3, **settings | {"sampler": own, "steps": 5})
    )
    assert not torch.allclose(plain, drawn, atol=1e-2)


def test_the_labels_tell_how_many_samples_there_are(finished_run: Run) -> None:
    one = finished_run.sample([3, 5], steps=3)
    assert torch.equal(one, finished_run.sample(torch.tensor([3, 5]), 2, steps=3))
    with pytest.raises(UserError, match="no label was given"):
        finished_run.sample([])


def test_one_metric_and_one_scale_need_no_sequence(finished_run: Run) -> None:
    report = finished_run.evaluate("accuracy", 2.0, per_class=10, steps=3)
    same = finished_run.evaluate(("accuracy",), (2.0,), per_class=10, steps=3)
    assert [figure.to_dict() for figure in report.figures] == [
        figure.to_dict() for figure in same.figures
    ]
    assert report.overall("accuracy", 2.0).value >= 0


def test_a_request_goes_on_where_another_ended(finished_run: Run) -> None:
    whole = finished_run.sample(n=13, steps=3, seed=6)
    ends = [finished_run.draw(n=n, first=first, steps=3, seed=6) for n, first in ((6, 0), (7, 6))]
    assert torch.equal(torch.cat([drawn.labels for drawn in ends]), torch.arange(13) % 10)
    torch.testing.assert_close(torch.cat([drawn.images for drawn in ends]), whole)


def test_scale_0_samples_the_unconditional_score_alone(finished_run: Run) -> None:
    alone = samplers.sample(
        finished_run.score_model, finished_run.score_model.process, (5, 1, 8, 8), seed=2
    )
    drawn = finished_run.sample(label=4, n=5, scale=0, seed=2)
    assert torch.equal(drawn, alone.clamp(-1, 1))
    assert not torch.allclose(finished_run.sample(label=4, n=5, scale=2, seed=2), drawn)


def test_guidance_moves_samples_towards_the_class(finished_run: Run) -> None:
    t = torch.tensor(0.3)
    labels = torch.arange(60) % 10

    def mean_log_prob(scale: float) -> float:
        images = finished_run.sample(labels, n=60, scale=scale, seed=1, steps=8)
        log_prob = finished_run.classifier.log_prob(images, t)
        return float(log_prob.gather(1, labels[:, None]).mean())

    assert mean_log_prob(6.0) > mean_log_prob(1.0) > mean_log_prob(0.0)


@pytest.mark.parametrize("process", ["{name: ve, sigma_max: 20}", "{name: vp}"])
def test_an_interval_is_one_of_noise_levels(
    tmp_path: Path, tiny: tuple[str, ...], process: str
) -> None:
    """Of a process whose time is not σ: by the times at which its σ/α are the ends."""
    run = train(
        "digits", method="cg", labels=0.05, steps=1, out=tmp_path, device="cpu",
        overrides=[*tiny, f"process={process}", "score.sheet_every=0"],
    )  # fmt: skip
    of_score = run.score_model.process
    times = [float(of_score.time_at(torch.tensor(level))) for level in (0.3, 3.0)]
    labels, ends = torch.full((4,), 7), (times[0], times[1])
    guided = guidance.classifier(
        run.score_model, run.classifier.likelihood_score, labels, 5.0, times=ends
    )
    expected = samplers.sample(guided, of_score, (4, 1, 8, 8), steps=12, seed=2).clamp(-1, 1)
    options = {"label": labels, "n": 4, "scale": 5.0, "steps": 12, "seed": 2}
    found = run.sample(**options, interval=(0.3, 3.0))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(run.sample(**options), found, atol=1e-3)
    above = run.sample(**options, interval=(0.3, math.inf))
    most = float(of_score.noise_ratio(torch.tensor(of_score.t_max)))
    torch.testing.assert_close(above, run.sample(**options, interval=(0.3, 1.01 * most)))
    assert not torch.allclose(above, found, atol=1e-3)
    below = run.sample(**options, interval=(0.0, 3.0))
    least = float(of_score.noise_ratio(torch.tensor(of_score.t_min)))
    torch.testing.assert_close(below, run.sample(**options, interval=(0.99 * least, 3.0)))
    assert not torch.allclose(below, found, atol=1e-3)
    nowhere = run.sample(**options, interval=(0.0, 0.5 * least))
    assert torch.equal(nowhere, run.sample(**options | {"scale": 0.0}))


def test_interval_and_temperature_weaken_guidance(finished_run: Run) -> None:
    """Towards none: an interval that no step meets, a classifier that is sure of nothing."""
    options = {"label": 4, "n": 3, "seed": 2, "steps": 6}
    guided = finished_run.sample(**options, scale=3)
    alone = finished_run.sample(**options, scale=0)
    assert not torch.allclose(guided, alone, atol=1e-2)
    outside = finished_run.sample(**options, scale=3, interval=(1e-5, 2e-5))
    assert torch.equal(outside, alone)
    unsure = finished_run.sample(**options, scale=3, temperature=1e6)
    assert torch.allclose(unsure, alone, atol=1e-3)
    warm = finished_run.sample(**options, scale=3, temperature=2.0)
    assert not torch.allclose(warm, guided, atol=1e-3)


def test_a_class_is_given_by_index_name_or_one_a_sample(finished_run: Run) -> None:
    by_index = finished_run.sample(label=7, n=3)
    assert torch.equal(by_index, finished_run.sample(label="7", n=3))
    assert torch.equal(by_index, finished_run.sample(label=[7, 7, 7], n=3))
    for one in (np.int64(7), torch.tensor(7), np.array(["7", "7", "7"]), [torch.tensor(7)] * 3):
        assert torch.equal(by_index, finished_run.sample(label=one, n=3))
    assert not torch.equal(by_index, finished_run.sample(label=1, n=3))
    assert finished_run.draw(None, 12, steps=2).labels.tolist() == [*range(10), 0, 1]


def test_a_name_goes_before_an_index(finished_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of classes called 1 and 0, "1" and 1 are the first."""
    monkeypatch.setattr(Run, "class_names", ("1", "0", "cat"))
    assert [finished_run.class_index(label) for label in ("1", "0", "cat", "2", 1)] == [
        *(0, 1, 2, 2, 0)
    ]


def test_a_number_is_a_name_where_names_are_numbers(
    finished_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of classes called 1 to 3 no number is a position; a tensor holds positions alone."""
    assert finished_run.classifier  # built for the classes that it has
    monkeypatch.setattr(Run, "class_names", ("1", "2", "3"))
    assert [finished_run.class_index(label) for label in (1, "2", 3, "3.0")] == [0, 1, 2, 2]
    for label in (0, "0", 4):
        with pytest.raises(UserError, match=r"is unknown to .*choose one of 1, 2, 3"):
            finished_run.class_index(label)
    drawn = finished_run.draw([torch.tensor(0), 1, "3", np.int64(2)], steps=2, scale=0)
    assert drawn.labels.tolist() == [0, 0, 2, 1]
    assert finished_run.draw(torch.tensor([0, 2]), steps=2, scale=0).labels.tolist() == [0, 2]
    with pytest.raises(UserError, match=r"a tensor of labels holds 3; .* indices 0 to 2"):
        finished_run.draw(torch.tensor([3]))


@pytest.mark.parametrize("label", ["cat", 10, -1, "10", "", "1.5", 1.5])
def test_an_unknown_class_is_refused_with_those_there_are(
    finished_run: Run, label: int | str
) -> None:
    with pytest.raises(UserError, match=r"is unknown to .*choose one of 0, 1, 2"):
        finished_run.sample(label=label)


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"n": 0}, "at least 1"),
        ({"steps": 1}, "at least 2"),
        ({"steps": 0}, "at least 2"),
        ({"scale": -0.5}, "0 is unconditional"),
        ({"sampler": "magic"}, "choose one of"),
        ({"batch_size": 0}, "256 is usual"),
        ({"interval": (2.0, 0.5)}, "lower end first"),
        ({"interval": (-0.1, 0.5)}, "begins below 0"),
        ({"n": 3, "label": [1, 2]}, "one label a sample"),
    ],
)
def test_options_out_of_range_are_refused(
    finished_run: Run, options: dict[str, object], fragment: str
) -> None:
    with pytest.raises(UserError, match=fragment):
        finished_run.sample(**({"label": 1, "n": 2} | options))  # type: ignore[arg-type]


def test_evaluations_are_counted(finished_run: Run) -> None:
    """dpm++ evaluates at each of its 24 times, heun twice a step, and both once at the end."""
    assert finished_run.draw(3, n=2).nfe == 24 + 24
    assert finished_run.draw(3, n=2, scale=0).nfe == 24
    assert finished_run.draw(3, n=5, batch_size=2).nfe == 24 + 24
    assert finished_run.draw(3, n=2, steps=5, sampler="heun", scale=0).nfe == 2 * 4 + 1
    assert finished_run.draw(3, n=2, steps=5, sampler="heun").nfe == 2 * (2 * 4 + 1)
    times = grids.karras(finished_run.score_model.process, 24)
    inside = int(((times >= 0.3) & (times <= 2.0)).sum())
    assert 0 < inside < 24
    assert finished_run.draw(3, n=2, interval=(0.3, 2.0)).nfe == 24 + inside


def test_a_run_folder_may_be_moved(
    finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished_run.folder.path, tmp_path / "first")
    (tmp_path / "first").rename(tmp_path / "second")
    monkeypatch.chdir(tmp_path)
    moved = fewlabel.load("second", device="cpu")
    expected = finished_run.sample(label=2, n=2, seed=9)
    assert torch.equal(moved.sample(label=2, n=2, seed=9), expected)


def test_a_run_samples_with_the_averaged_weights(finished_run: Run) -> None:
    from safetensors.torch import load_file

    newest = max((finished_run.folder.path / "classifier").glob("step-*"))
    used = finished_run.classifier.state_dict()
    average, last = (load_file(newest / f"{name}.safetensors") for name in ("ema", "last"))
    assert all(torch.equal(used[key], average[key]) for key in average)
    assert not all(torch.equal(used[key], last[key]) for key in last)


def test_the_data_of_a_run_must_be_what_it_was(copied_run: Path) -> None:
    path = copied_run / "labels.json"
    manifest = fewlabel.load(copied_run).splits
    others = np.arange(len(manifest.contents), dtype=np.uint64)
    other = replace(manifest, fingerprint="0" * 32, contents=others)
    path.write_text(json.dumps(other.to_json()))
    with pytest.raises(UserError, match=r"was made from another dataset.*1797 of its 1797"):
        _ = fewlabel.load(copied_run).dataset


@pytest.mark.parametrize("device", ["gpu9", "cuda:77" if torch.cuda.is_available() else "cuda"])
def test_a_device_that_is_not_there_is_refused(finished_run: Run, device: str) -> None:
    if torch.cuda.is_available() and device != "gpu9":
        pytest.skip("this machine has a GPU")
    with pytest.raises(UserError, match="give cpu"):
        fewlabel.load(finished_run.folder.path, device=device)


def test_opening_a_run_leaves_the_global_generator_alone(finished_run: Run) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    opened = fewlabel.load(finished_run.folder.path, "cpu")
    assert opened.score_model is not opened.classifier
    assert torch.equal(torch.rand(3), expected)


class Seen(Task):
    """Progress that is kept: each (done, total), with the evaluations made until then."""

    def __init__(self, run: Run) -> None:
        self.told: list[tuple[int, int, int]] = []
        self.calls = 0
        run.score_model.register_forward_hook(self._count)

    def _count(self, *_: object) -> None:
        self.calls += 1

    def set(self, done: int, total: int, note: str = "") -> None:
        self.told.append((done, total, self.calls))


class Zero(torch.nn.Module):
    """With it a score model is that of one wide Gaussian, which the ode follows in few steps."""

    def forward(self, u: torch.Tensor, c_noise: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(u)


@pytest.fixture
def own_run(finished_run: Run) -> Run:
    """A run with a score model of its own, to be watched."""
    run = fewlabel.load(finished_run.folder.path, "cpu")
    run.score_model.network = Zero()
    return run


@pytest.mark.parametrize("sampler", ["dpm++", "heun", "pc", "ddim", "ode"])
def test_progress_goes_with_the_work_and_ends_with_it(own_run: Run, sampler: str) -> None:
    seen, n, steps = Seen(own_run), 24, 12
    how = {"scale": 0, "steps": steps, "sampler": sampler, "batch_size": 12, "seed": 1}
    drawn = own_run.draw(3, n, **how, progress=seen)
    done = [done for done, _, _ in seen.told]
    assert done == sorted(done)
    assert {total for _, total, _ in seen.told} == {n}
    assert seen.told[-1] == (n, n, seen.calls)
    assert done.count(n) == 1
    if sampler == "ode":  # by log σ/α: how much work is left it does not know
        assert len({*done}) > 12
    else:
        for share, _, calls in seen.told:
            assert abs(share / n - calls / seen.calls) < 1 / (2 * steps) + 1 / n
    assert torch.equal(drawn.images, own_run.sample(3, n, **how))


def test_a_callback_stops_a_request(own_run: Run) -> None:
    """With the images of earlier batches, and its own batch as it is, denoised."""
    seen, batches = Seen(own_run), []
    how = {"scale": 0, "steps": 6, "batch_size": 4, "seed": 1}
    whole = own_run.sample(n=10, **how)
    before, seen.told = seen.calls, []

    def stop(step: samplers.Step) -> bool:
        batches.append(step)
        return len(batches) < 6 + 3

    drawn = own_run.draw(n=10, **how, callback=stop, progress=seen)
    assert seen.calls - before == 6 + 3
    assert torch.equal(drawn.images[:4], whole[:4])
    assert torch.equal(drawn.images[4:], batches[-1].denoised.clamp(-1, 1))
    assert drawn.labels.tolist() == [*range(8)]
    assert max(done for done, _, _ in seen.told) < 8
    assert torch.equal(own_run.sample(n=10, **how, callback=lambda step: None), whole)
    assert torch.equal(own_run.sample(n=10, **how, callback=lambda step: step.done < 1), whole[:4])


def test_a_callback_in_one_of_several_processes_is_refused(
    finished_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fewlabel.launched.number", lambda: 2)
    monkeypatch.setattr("fewlabel.launched.own_share", range)
    with pytest.raises(UserError, match="a callback sees one of several processes"):
        finished_run.sample(n=2, callback=lambda step: None)
