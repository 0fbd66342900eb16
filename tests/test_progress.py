from types import SimpleNamespace

import pytest

from fewlabel import progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that a test moves."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_a_log_shows_the_beginning_every_ten_seconds_and_the_end(
    clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress.track("working") as task:
        for done in range(101):  # a second each
            task.set(done, 100)
            clock.now += 1
    out, err = capsys.readouterr()
    assert out == ""
    shown = [line.split("/")[0] for line in err.splitlines()]
    assert shown == [f"working: {done}" for done in range(0, 101, 10)]
    assert err.splitlines()[-1] == "working: 100/100, 1:40"


def test_the_time_left_follows_from_the_pace_since_the_start(
    clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    """Resumed at 40 of 100: 15 steps in 30 s leave 45 steps, 90 s."""
    with progress.track("working") as task:
        task.set(40, 100)
        clock.now += 30
        task.set(55, 100, "loss 0.5")
    first, second = capsys.readouterr().err.splitlines()
    assert first == "working: 40/100"
    assert second == "working: 55/100, 1:30 left  loss 0.5"


def test_work_that_never_began_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.track("working"):
        pass
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar_on_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    with progress.track("working") as task:
        task.set(3, 4, "loss 0.5")
    out, err = capsys.readouterr()
    assert out == ""
    assert "working" in err
    assert "3/4" in err
    assert "loss 0.5" in err
