import pytest

from falloff import data
from falloff.data import digits


@pytest.fixture
def few_scenes(monkeypatch):
    """Sets that are made here have 48 scenes in each split."""
    monkeypatch.setattr(digits, "COUNTS", dict.fromkeys(digits.COUNTS, 48))
    data._load.cache_clear()
    yield
    data._load.cache_clear()
