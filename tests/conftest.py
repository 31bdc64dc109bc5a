"""Set-up that all tests share."""

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
