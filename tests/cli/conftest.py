import pytest

from fewlabel.metrics import judge


@pytest.fixture
def weak_judge(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A judge of a moment, in a cache of its own: it is too weak for other tests."""
    monkeypatch.setenv("FEWLABEL_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(judge, "_STEPS", 20)
    monkeypatch.setattr(judge, "_EPOCHS", 0)
