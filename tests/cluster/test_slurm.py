"""A sweep on a real Slurm of two nodes, one of which dies on the way."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import psutil
import pytest
import torch
from distributed import Client
from slurm_cluster import NODES, Cluster, ends_with_parent, tails, wait_for
from sweep import RUNS

from falloff import study
from falloff.study import Store, engine

SURVIVOR, VICTIM = NODES
WALL_TIME = ["seconds"]

Sweep = Callable[..., subprocess.Popen]


@dataclass(repr=False)  # pytest would print it all
class Story:
    """What happened."""

    listening: set[str]  # addresses at which Slurm's and Dask's processes waited for connections
    jobs: dict[str, list[str]]  # names of the processes from each node's daemon down to its worker
    done_before: dict[str, set[str]]  # tasks that each node had done when one died
    lost: set[str]  # tasks that the dead node had been given and had not done
    stored_before: dict[str, int]  # records when the node died, and when each was written
    done: dict[str, set[str]]
    stored: dict[str, int]
    table: pd.DataFrame
    local: pd.DataFrame  # of the same runs, without the cluster


@pytest.fixture(scope="module")
def sweep(cluster: Cluster) -> Iterator[Sweep]:
    """Starts ``sweep.py`` in a process of its own, with a scheduler or without; it ends with the tests."""
    started = []

    def start(name: str, scheduler: str = "") -> subprocess.Popen:
        program = Path(__file__).with_name("sweep.py")
        with cluster.log(name).open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, program, store(cluster, name).folder, pickled(cluster, name)],
                env=cluster.environment | {engine.SCHEDULER: scheduler}, stdout=log, stderr=log,
                start_new_session=True, preexec_fn=ends_with_parent(signal.SIGKILL),
            )
        started.append(process)
        return process

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # with the workers of its local cluster
        process.wait(timeout=10)


@pytest.fixture(scope="module")
def client(cluster: Cluster) -> Iterator[Client]:
    """Asks Dask's scheduler who does what."""
    with Client(cluster.scheduler, timeout=30, set_as_default=False) as connected:
        yield connected


@pytest.fixture(scope="module")
def story(cluster: Cluster, client: Client, sweep: Sweep) -> Story:
    """A sweep is sent to Slurm; a node dies when some of its records are stored; the sweep goes on to its end."""
    logs = [cluster.log(name) for name in ("slurm", "scheduler", *(f"worker-{node}" for node in NODES))]
    nodes = wait_for(lambda: joined(client), "a worker on each node", 60, *logs)
    jobs = {node: lineage(cluster, node, worker) for node, worker in workers(client, nodes).items()}
    finished(client)  # the scheduler keeps count from the first question on

    sent = sweep("slurm", cluster.scheduler)
    wait_for(lambda: sent.poll() is not None or (len(records(cluster)) > 2 and all(done(client, nodes).values())),
             "three records and a run done by each node", 90, *logs, progress=lambda: records(cluster))
    listening, done_before, given = listening_addresses(), done(client, nodes), assigned(client, nodes)
    stored_before = records(cluster)
    kill(cluster.processes(VICTIM))

    local = sweep("local")  # beside the other: the dead node's core is free now
    wait_for(lambda: None not in (sent.poll(), local.poll()), "the end of both sweeps", 90, cluster.log("local"), *logs,
             progress=lambda: [records(cluster, name) for name in ("slurm", "local")])
    assert sent.returncode == local.returncode == 0, tails(cluster.log("slurm"), cluster.log("local"))
    return Story(
        listening, jobs, done_before, given[VICTIM] - done_before[VICTIM], stored_before, done(client, nodes),
        records(cluster), *(pd.read_pickle(pickled(cluster, name)) for name in ("slurm", "local")),
    )


def test_the_workers_are_jobs_of_slurm_and_all_listen_on_loopback_only(story: Story):
    for node in NODES:
        assert story.jobs[node][0] == "slurmd" and "slurmstepd" in story.jobs[node]
    assert story.listening and all(address.startswith("127.") for address in story.listening), story.listening


def test_both_nodes_did_runs_and_the_survivor_those_of_the_dead_one(story: Story):
    assert all(story.done_before[node] for node in NODES)
    assert 0 < len(story.stored_before) < len(RUNS)
    assert story.lost and story.lost & story.done[SURVIVOR]
    assert story.lost <= story.done[SURVIVOR] | story.done[VICTIM]


def test_each_record_is_stored_once(story: Story):
    assert len(story.stored) == len(RUNS)
    assert story.stored_before.items() <= story.stored.items()  # what there was when the node died was kept


def test_the_table_and_the_nets_are_those_of_a_local_sweep(story: Story, cluster: Cluster):
    assert len(story.table) == len(RUNS)
    assert story.table["failure"].isna().all(), story.table["failure"].tolist()
    pd.testing.assert_frame_equal(
        story.table.drop(columns=WALL_TIME), story.local.drop(columns=WALL_TIME), check_exact=True
    )
    sent, local = (store(cluster, name) for name in ("slurm", "local"))
    pd.testing.assert_frame_equal(study.curves(RUNS, store=sent), study.curves(RUNS, store=local), check_exact=True)
    for run in RUNS:
        one, other = (where.get(run).weights for where in (sent, local))
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_slurm_takes_the_node_for_dead(story: Story, cluster: Cluster):
    def states() -> list[str]:
        return [cluster.ask("sinfo", "-h", "-n", node, "-o", "%T %E").lower() for node in (SURVIVOR, VICTIM)]

    wait_for(lambda: states()[1].startswith("down"), f"{VICTIM} down", 60, cluster.log("slurmctld"))
    assert states()[0].startswith("allocated") and "not responding" in states()[1]
    assert "JobState=NODE_FAIL" in cluster.ask("scontrol", "show", "job", cluster.jobs[VICTIM])
    assert "JobState=RUNNING" in cluster.ask("scontrol", "show", "job", cluster.jobs[SURVIVOR])


def test_a_second_run_computes_nothing(story: Story, cluster: Cluster, client: Client, monkeypatch):
    before = finished(client)
    monkeypatch.setenv(engine.SCHEDULER, cluster.scheduler)
    again = study.run(RUNS, store=store(cluster, "slurm"))
    pd.testing.assert_frame_equal(again, story.table, check_exact=True)
    assert records(cluster) == story.stored
    assert finished(client) == before


def store(cluster: Cluster, name: str) -> Store:
    """Where a sweep puts its records."""
    return Store(Path(cluster.folder, name))


def pickled(cluster: Cluster, name: str) -> Path:
    """Where a sweep puts its table."""
    return Path(cluster.folder, f"{name}.pkl")


def records(cluster: Cluster, name: str = "slurm") -> dict[str, int]:
    """The records that a sweep has stored, and when each was written."""
    return {path.name: path.stat().st_mtime_ns for path in (store(cluster, name).folder / "records").glob("*.json")}


def joined(client: Client) -> dict[str, str] | None:
    """The node of each worker's address once all have joined."""
    known = client.scheduler_info(n_workers=-1)["workers"]
    nodes = {address: worker["name"] for address, worker in known.items()}
    return nodes if sorted(nodes.values()) == sorted(NODES) else None


def workers(client: Client, nodes: dict[str, str]) -> dict[str, psutil.Process]:
    """The process of each node's worker."""
    return {nodes[address]: psutil.Process(number) for address, number in client.run(os.getpid).items()}


def lineage(cluster: Cluster, node: str, process: psutil.Process) -> list[str]:
    """The names of a process and of those above it up to the node's daemon, that one first."""
    names = [one.name() for one in process.parents() if one in cluster.processes(node)]
    return [*reversed(names), process.name()]


def finished(client: Client) -> list[tuple[str, str]]:
    """Tasks that ended, each with the address of the worker that did it."""
    return [(task["key"], task["worker"]) for task in client.get_task_stream()]


def done(client: Client, nodes: dict[str, str]) -> dict[str, set[str]]:
    """The tasks that each node did."""
    tasks = finished(client)
    return {node: {key for key, worker in tasks if worker == address} for address, node in nodes.items()}


def assigned(client: Client, nodes: dict[str, str]) -> dict[str, set[str]]:
    """The tasks that each node has been given."""
    return {nodes[address]: set(keys) for address, keys in client.processing().items()}


def listening_addresses() -> set[str]:
    """Where the processes that the tests started wait for connections."""
    return {
        connection.laddr.ip
        for process in psutil.Process().children(recursive=True)
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }


def kill(processes: list[psutil.Process]) -> None:
    """All at once and the daemon first, so that nobody is left to tell the controller."""
    for process in processes:
        process.kill()
