"""A Slurm of its own on this machine's loopback, with a Dask scheduler and a Dask worker as a job on each node.

As a program (``python slurm_cluster.py``) it starts all that, says where in one line of JSON, and keeps it until it is
told to end or its parent dies; then it ends every process and removes every file that came of it. It is a program of
its own so that this happens even when the tests are killed. No root is needed, and nothing outside its folder is
touched: daemons, commands and jobs find their configuration through ``SLURM_CONF``.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import pwd
import secrets
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import psutil

T = TypeVar("T")

NODES = ("node1", "node2")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "sinfo", "scontrol")
INSTALL = "apt-get update && apt-get install -y --no-install-recommends slurm-wlm munge"
CONFIGURATIONS = [Path("/etc/slurm/slurm.conf"), Path("/etc/slurm-llnl/slurm.conf"), Path("/usr/local/etc/slurm.conf")]
PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])  # the daemons' place
LOOPBACK = "127.0.0.1"
MARK = "FALLOFF_TEST_CLUSTER"  # in the environment of all that is started: its value is the folder
PREFIX = "falloff-slurm-"
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_libc = ctypes.CDLL(None)


@dataclass(frozen=True)
class Cluster:
    """What the program started, and where."""

    folder: str
    scheduler: str  # Dask's, as tcp://host:port
    daemons: dict[str, int]  # process of each node's slurmd
    jobs: dict[str, str]  # Slurm's number of each node's worker

    @cached_property
    def environment(self) -> dict[str, str]:
        """Of every process that belongs to the cluster."""
        return environment(Path(self.folder))

    def log(self, name: str) -> Path:
        """Where a process writes: munged, slurmctld, a node's slurmd, scheduler, worker-NODE, or a sweep."""
        return log_of(Path(self.folder), name)

    def ask(self, *command: str) -> str:
        """What one of Slurm's commands answers."""
        return ask(self.environment, *command)

    def processes(self, node: str) -> list[psutil.Process]:
        """A node's daemon and all processes of its jobs: the daemon adopts those that lose their parent."""
        daemon = psutil.Process(self.daemons[node])
        return [daemon, *daemon.children(recursive=True)]


@contextlib.contextmanager
def running(start_within: float = 60, end_within: float = 30) -> Iterator[Cluster]:
    """A cluster that lives as long as the block.

    Raises:
        RuntimeError: it cannot be started here, or could not be removed; the message says why.
    """
    keeper = subprocess.Popen(
        [sys.executable, __file__], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, preexec_fn=ends_with_parent(signal.SIGTERM),  # Ctrl-C must not reach it twice
    )
    try:
        is_ready, _, _ = select.select([keeper.stdout], [], [], start_within)
        line = keeper.stdout.readline() if is_ready else ""
        if line:
            yield Cluster(**json.loads(line))
    finally:
        keeper.terminate()
        _, errors = keeper.communicate(timeout=end_within)
    if keeper.returncode != 0:
        raise RuntimeError(errors.strip())
    if not line:
        raise RuntimeError(f"the cluster did not start within {start_within:g} s")


def traces() -> set[str]:
    """What a cluster leaves where it was not removed: processes, Slurm's and Munge's above all, files, folders."""
    files = [*Path("/etc/slurm").rglob("*"), *Path(tempfile.gettempdir()).glob(f"{PREFIX}*")]
    return {str(path) for path in files} | {
        f"process {process.pid}: {shlex.join(process.info['cmdline'] or [process.info['name']])}"
        for process in psutil.process_iter(["name", "cmdline", "environ"])
        if process.info["name"].startswith(("slurm", "munged")) or MARK in (process.info["environ"] or {})
    }


def wait_for(
    condition: Callable[[], T], what: str, seconds: float, *logs: Path, progress: Callable[[], object] = lambda: None
) -> T:
    """The first true answer of a condition, as long as there is some progress within the seconds.

    Raises:
        TimeoutError: there was none in time; the message ends with the last lines of the logs.
    """
    seen, until = progress(), time.monotonic() + seconds
    while not (answer := condition()):
        if (now := progress()) != seen:
            seen, until = now, time.monotonic() + seconds
        if time.monotonic() > until:
            raise TimeoutError(f"{what}: not within {seconds:g} s\n{tails(*logs)}")
        time.sleep(0.2)
    return answer


def tails(*logs: Path, lines: int = 25) -> str:
    """The last lines of some logs, each under its name."""
    parts = []
    for log in logs:
        text = log.read_text(errors="replace") if log.exists() else "(no such file)"
        parts.append("\n".join([f"--- the end of {log.name}:", *text.splitlines()[-lines:]]))
    return "\n".join(parts)


def ends_with_parent(number: signal.Signals) -> Callable[[], None]:
    """Has the kernel send a child this signal when its parent dies, however it dies."""
    return lambda: _prctl(1, number)  # PR_SET_PDEATHSIG


def adopts_orphans() -> None:
    """Descendants that lose their parent become children of this process, not of init, and so stay in reach."""
    _prctl(36, 1)  # PR_SET_CHILD_SUBREAPER; it outlives exec


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, *map(ctypes.c_ulong, (value, 0, 0, 0))) != 0:
        raise OSError("prctl failed")


def log_of(folder: Path, name: str) -> Path:
    return folder / "logs" / f"{name}.log"


def environment(folder: Path) -> dict[str, str]:
    """Temporary files go into the folder too, and so with it."""
    return os.environ | {
        "PATH": PATH, "SLURM_CONF": str(folder / "slurm.conf"), MARK: str(folder), "TMPDIR": str(folder / "tmp"),
        "OMP_NUM_THREADS": "1",
        # A training whose memory goes back to the system at every step takes half as long again.
        "MALLOC_TRIM_THRESHOLD_": str(2**30), "MALLOC_MMAP_MAX_": "0", "MALLOC_ARENA_MAX": "1",
    }


def ask(environment: dict[str, str], *command: str) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20)
    if done.returncode != 0:
        raise RuntimeError(f"{shlex.join(command)} failed: {done.stderr.strip()}")
    return done.stdout.strip()


def obstacle() -> str | None:
    """Why no cluster can be had here: something is missing, or there is one already."""
    if missing := [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]:
        return f"{', '.join(missing)} not found; on Debian, as root: {INSTALL}"
    present = [str(path) for path in CONFIGURATIONS if path.exists()]
    if "SLURM_CONF" in os.environ:
        present.append(f"SLURM_CONF={os.environ['SLURM_CONF']}")
    present += [f"process {process.pid} ({process.info['name']})" for process in psutil.process_iter(["name"])
                if process.info["name"] in ("slurmctld", "slurmd")]
    if present:
        return f"this machine has a Slurm already, which is left alone: {', '.join(present)}"
    return None


def _take_loopback_name() -> None:
    """Slurm listens where its machine's name leads: have that be loopback, for this process and its children alone."""
    if _own_address().startswith("127."):
        return
    if _libc.unshare(0x04000000) != 0:  # CLONE_NEWUTS
        host = socket.gethostname()
        raise RuntimeError(
            f"Slurm would listen to the network, as this machine's name, {host}, does not lead to a loopback address: "
            f"put '{LOOPBACK} {host}' first into /etc/hosts, or be root and in no container, so that the tests can use "
            "another name"
        )
    socket.sethostname("localhost")


def _own_address() -> str:
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        return "none"


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.create_server((LOOPBACK, 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]


def configuration(folder: Path) -> str:
    """Slurm's, for one-core nodes that are all this host; a node that is silent for 5 s is taken for dead."""
    host, address, user = socket.gethostname().split(".")[0], _own_address(), pwd.getpwuid(os.getuid()).pw_name
    port, *ports = free_ports(1 + len(NODES))
    lines = [
        "ClusterName=study",
        f"SlurmctldHost={host}({address})",
        f"SlurmctldPort={port}",
        "CommunicationParameters=NoCtldInAddrAny,NoInAddrAny",  # else daemons listen everywhere
        f"AuthInfo=socket={folder}/munge.sock",
        f"SlurmUser={user}",
        f"SlurmdUser={user}",
        f"StateSaveLocation={folder}/state",
        f"SlurmdSpoolDir={folder}/spool/%n",
        f"SlurmctldPidFile={folder}/slurmctld.pid",
        f"SlurmdPidFile={folder}/spool/%n.pid",
        "ProctrackType=proctrack/linuxproc",  # needs neither systemd nor cgroups
        "TaskPlugin=task/none",
        "SlurmdParameters=config_overrides",  # the host has another number of cores
        "SlurmdTimeout=5",
        "MessageTimeout=5",
    ]
    lines += [f"NodeName={node} NodeHostname={host} NodeAddr={address} Port={port} CPUs=1"
              for node, port in zip(NODES, ports, strict=True)]
    return "\n".join([*lines, "PartitionName=main Nodes=ALL Default=YES", ""])


def start(folder: Path) -> Cluster:
    """Munge, Slurm, Dask's scheduler, and a job with a Dask worker on each node."""
    for name in ("logs", "tmp", "state", *(f"spool/{node}" for node in NODES)):
        (folder / name).mkdir(parents=True)
    (folder / "slurm.conf").write_text(configuration(folder), encoding="utf-8")
    _start_munge(folder)
    daemons = _start_slurm(folder)
    [port] = free_ports(1)
    _launch(folder, "scheduler", sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", LOOPBACK,
            "--port", str(port), *_HTTP)
    scheduler = f"tcp://{LOOPBACK}:{port}"
    return Cluster(str(folder), scheduler, daemons, {node: _submit_worker(folder, node, scheduler) for node in NODES})


# Without a dashboard Dask serves HTTP all the same, on all interfaces if it is not told where.
_HTTP = ("--no-dashboard", "--dashboard-address", f"{LOOPBACK}:0")


def _launch(folder: Path, name: str, *command: str) -> int:
    """Start a program that stays in the foreground; its process."""
    with log_of(folder, name).open("wb") as log:
        return subprocess.Popen(
            command, cwd=folder, env=environment(folder), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            preexec_fn=adopts_orphans,
        ).pid


def _start_munge(folder: Path) -> None:
    key, socket_ = folder / "munge.key", folder / "munge.sock"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    _launch(folder, "munged", "munged", "--foreground", f"--key-file={key}", f"--socket={socket_}",
            f"--pid-file={folder}/munged.pid", f"--seed-file={folder}/munged.seed")
    wait_for(socket_.exists, "Munge's socket", 20, log_of(folder, "munged"))


def _start_slurm(folder: Path) -> dict[str, int]:
    """The controller and the nodes' daemons; the processes of the latter."""
    _launch(folder, "slurmctld", "slurmctld", "-D")
    daemons = {node: _launch(folder, node, "slurmd", "-D", "-N", node) for node in NODES}

    def are_idle() -> bool:
        with contextlib.suppress(RuntimeError):  # the controller does not answer yet
            return ask(environment(folder), "sinfo", "-h", "-t", "idle", "-o", "%D") == str(len(NODES))
        return False

    wait_for(are_idle, "Slurm's nodes in state idle", 30, *(log_of(folder, name) for name in ("slurmctld", *NODES)))
    return daemons


def _submit_worker(folder: Path, node: str, scheduler: str) -> str:
    """Slurm's number of the job. No nanny: where a node dies nobody is left to start a worker anew."""
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", scheduler, "--name", node, "--host", LOOPBACK,
              "--nthreads", "1", "--memory-limit", "0", "--no-nanny", "--death-timeout", "60", *_HTTP]
    return ask(environment(folder), "sbatch", "--parsable", f"--job-name={node}", f"--nodelist={node}", "--no-requeue",
               f"--chdir={folder}", f"--output={log_of(folder, f'worker-{node}')}", f"--wrap=exec {shlex.join(worker)}")


def clear(folder: Path) -> list[psutil.Process]:
    """End all that was started, all of which is beneath this process, and remove the folder; what would not end."""
    until = time.monotonic() + 15
    while (left := psutil.Process().children(recursive=True)) and time.monotonic() < until:
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=1)
    shutil.rmtree(folder)
    return left


def _end(*_: object) -> None:
    for number in ENDING:  # once is enough
        signal.signal(number, signal.SIG_IGN)
    raise SystemExit(0)


def main() -> None:
    for number in ENDING:
        signal.signal(number, _end)
    adopts_orphans()
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    try:
        folder.chmod(0o755)  # Munge wants every folder above its socket open to all
        if reason := obstacle():
            raise RuntimeError(reason)
        _take_loopback_name()
        print(json.dumps(asdict(start(folder))), flush=True)
        while True:
            psutil.wait_procs(psutil.Process().children(), timeout=1)  # what ended on the way leaves no zombie
    except (RuntimeError, TimeoutError, subprocess.TimeoutExpired) as error:
        sys.exit(str(error))
    finally:
        if left := clear(folder):
            sys.exit(f"these processes would not end: {left}")


if __name__ == "__main__":
    main()
