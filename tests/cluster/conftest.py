"""The cluster, gone when the tests end, however they end."""

import signal
from collections.abc import Iterator

import pytest
import slurm_cluster
from slurm_cluster import Cluster


def pytest_configure() -> None:
    """A request to end (SIGTERM) lets the fixtures end too, as Ctrl-C does, also in a shell's background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: pytest.exit("SIGTERM", returncode=128 + signal.SIGTERM))


@pytest.fixture(scope="module")
def untouched() -> Iterator[None]:
    """The machine can run a cluster, and nothing of one is left on it afterwards."""
    if reason := slurm_cluster.obstacle():
        pytest.fail(reason, pytrace=False)
    before = slurm_cluster.traces()
    yield
    left = slurm_cluster.traces() - before
    assert not left, "left behind:\n" + "\n".join(sorted(left))


@pytest.fixture(scope="module")
def cluster(untouched: None) -> Iterator[Cluster]:
    """Slurm with two nodes and a Dask worker on each."""
    with slurm_cluster.running() as found:
        yield found
