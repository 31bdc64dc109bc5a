"""Set-up that all tests share."""

import shutil

import pytest
import torch
from hypothesis import settings
from scenes import write_set

settings.register_profile("falloff", max_examples=25, deadline=None, derandomize=True)
settings.load_profile("falloff")


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Small tensors are slower on many threads, and other work may share the cores."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def spots(tmp_path_factory):
    """The folder of FALLOFF_DATA with one small set, "spots": bright pixels of two kinds on dark pictures."""
    folder = tmp_path_factory.mktemp("sets")
    write_set(folder, "spots")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FALLOFF_DATA", str(folder))
        yield folder


# A small experiment and its record. What makes it is imported late: with this file, Dask silenced pytest's own log.


@pytest.fixture(scope="module")
def root(spots, tmp_path_factory):
    """The root of a project with one small experiment, and a worker for it."""
    from recordings import project

    with project(tmp_path_factory.mktemp("project")) as root:
        yield root


@pytest.fixture(scope="module")
def recorded(root):
    """The manifest of what was recorded there."""
    from falloff.study import recording

    [path] = recording.write("tiny", publish=True)
    return path


@pytest.fixture
def copied(recorded, root, tmp_path, monkeypatch):
    """The manifest in a copy of the project, without its runs, that a test may change."""
    shutil.copytree(root / "data", tmp_path / "data")
    monkeypatch.setenv("FALLOFF_ROOT", str(tmp_path))
    return tmp_path / recorded.relative_to(root)
