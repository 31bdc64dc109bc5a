"""A project of its own to break, and the processes that work in it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import psutil
from scenes import write_set

from falloff import chapters
from falloff.study.store import FINAL, VALIDATION

ROOT = Path(__file__).resolve().parents[2]
MARK = "FALLOFF_TEST_FAULTS"  # in the environment of all that works in a project: its value is the project's folder
PATIENCE = 15.0  # seconds within which all that belongs to a killed process must be gone
LIMIT = 240.0  # seconds after which anything is taken for hung; a busy machine is slow

# What a build or a sweep takes from the machine's or the tester's own environment would decide what is tested.
_NOT_PASSED_ON = ("FALLOFF_", "MAKE", "MFLAGS", "DASK_", "JUPYTER_", "IPYTHON")

REAL = ("01_cross_entropy", "02_focal_loss")  # chapters that share runs
BUILD = ("falloff", "book", "--profile", "tiny")
SOME_RUNS = Path(__file__).with_name("some_runs.py")

PARAMETERS = """\
dataset: str = "spots"  # labelled set
steps: int = 40  # optimiser steps of each run; [1, 1000]
seeds: list[int] = [0, 1, 2]  # seeds that are reported; [0, 999]"""

SWEEP = """\
from falloff import study
from falloff.training import Run

runs = [Run(dataset=dataset, width=2, batch=8, evaluations=2, steps=steps, seed=seed) for seed in seeds]
print(study.run(runs)[["seed", "ap", "failure"]].to_string())"""

# Says that it is here, and waits until it is told to go on: at that moment something is done to it.
GATE = """\
import time
from pathlib import Path

Path("{name}.here").touch()
give_up = time.monotonic() + 240
while not Path("go").exists():
    assert time.monotonic() < give_up, "nobody said go"
    time.sleep(0.05)"""


@dataclass(frozen=True)
class Project:
    """A folder with chapters, a data set and what a build makes of them."""

    root: Path

    @property
    def runs(self) -> Path:
        """Where records and executed chapters go."""
        return self.root / "runs"

    @property
    def log(self) -> Path:
        """What all that was started here said."""
        return self.root / "log"

    @property
    def environment(self) -> dict[str, str]:
        """Of every process that works here; what they leave behind stays in the folder."""
        home = {"FALLOFF_ROOT": ".", "FALLOFF_DATA": "sets", MARK: ".", "TMPDIR": "tmp",
                "JUPYTER_RUNTIME_DIR": "jupyter", "IPYTHONDIR": "ipython"}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_PASSED_ON)}
        return inherited | {name: str(self.root / folder) for name, folder in home.items()}

    def start(self, *words: object, **environment: str) -> subprocess.Popen:
        """A program in a session of its own, as from a terminal; ``falloff`` is that of this Python."""
        known = {"falloff": Path(sys.executable).with_name("falloff"), "python": sys.executable}
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [str(known.get(word, word)) for word in words], cwd=self.root, env=self.environment | environment,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )

    def do(self, *words: object, **environment: str) -> int:
        """The exit status of a program that must end by itself."""
        return self.start(*words, **environment).wait(timeout=LIMIT)

    def said(self) -> str:
        """The log so far."""
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""

    def chapter(self, name: str, *cells: str, parameters: str = PARAMETERS) -> None:
        """Write a chapter with these cells of code after its parameters."""
        validate = f'from falloff import chapters\n\nchapters.validate("{name}", globals())'
        code = [nbformat.v4.new_code_cell(cell) for cell in (parameters, validate, *cells)]
        code[0].metadata["tags"] = ["parameters"]
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(f"# {name}"), *code])
        book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(book, self.root / "notebooks" / f"{name}.ipynb")

    def execute(self, name: str) -> None:
        """Run one chapter from this process, which must work inside the project."""
        chapter = chapters.find(name)
        chapters.execute(name, chapter.parameters("quick", {}), chapter.executed, "quick")

    def sweep(self, what: str = "some", **environment: str) -> subprocess.Popen:
        """Starts ``some_runs.py`` with the project's store, over workers."""
        return self.start("python", SOME_RUNS, what, self.runs, self.root / "table.json", **environment)

    def train(self, what: str = "some", **environment: str) -> subprocess.Popen:
        """The same in one process."""
        return self.start("python", SOME_RUNS, what, self.runs, **environment)

    def table(self) -> pd.DataFrame:
        """What the last sweep returned."""
        return pd.read_json(self.root / "table.json")

    def processes(self, *words: str) -> list[psutil.Process]:
        """What is alive of all that was started here, with these words in its command line."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                line = " ".join(process.cmdline())
                if process.environ().get(MARK) == self.environment[MARK] and all(word in line for word in words):
                    found.append(process)
        return found

    def left(self) -> list[str]:
        """What is still alive after some patience."""
        with contextlib.suppress(AssertionError):
            wait_for(lambda: not self.processes(), "an end", PATIENCE)
        lines = []
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                lines.append(" ".join(process.cmdline())[:300])
        return lines

    def kill_all(self) -> None:
        """End what the test left running."""
        give_up = time.monotonic() + PATIENCE
        while (processes := self.processes()) and time.monotonic() < give_up:
            for process in processes:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            time.sleep(0.05)

    def finished(self) -> dict[str, tuple[int, int]]:
        """Records and executed chapters: which file each is and when it was written."""
        found = {}
        for path in (*self.runs.glob("records/*.json"), *self.runs.glob("chapters/*.ipynb")):
            if not path.name.startswith(".") and not path.name.endswith(".failed.ipynb"):
                with contextlib.suppress(FileNotFoundError):
                    state = path.stat()
                    found[path.name] = state.st_ino, state.st_mtime_ns
        return found

    def results(self) -> dict[str, Any]:
        """What was measured: of each record the numbers, of each executed chapter what its cells printed and show."""
        found = records(self.runs)
        for path in self.runs.glob("chapters/[0-9]*.ipynb"):
            cells = nbformat.read(path, as_version=4).cells
            found[path.name] = [printed_and_shown(cell.get("outputs", [])) for cell in cells]
        return found

    def litter(self) -> list[str]:
        """Files that were being written, under their temporary names."""
        return sorted(str(path.relative_to(self.runs)) for path in self.runs.rglob(".*") if path.is_file())


def new_project(root: Path, real: Sequence[str] = ()) -> Project:
    """A project with some of the real chapters, on a small data set."""
    for name in ("notebooks", "tmp"):
        (root / name).mkdir(parents=True)
    shutil.copytree(ROOT / "data", root / "data", ignore=shutil.ignore_patterns("external"))
    write_set(root / "sets", "spots")
    for name in real:
        text = (ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8")
        small = text.replace(r'dataset: str = \"digits\"', r'dataset: str = \"spots\"')
        assert small != text, f"{name} has another default data set"
        (root / "notebooks" / f"{name}.ipynb").write_text(small, encoding="utf-8")
    return Project(root)


def printed_and_shown(outputs: Sequence[Any]) -> tuple[str, list[Any]]:
    """What one cell gave, less progress with its times; into how many pieces a text comes is chance."""
    printed = "".join(output["text"] for output in outputs if output.get("name") == "stdout")
    return printed, [output["data"] for output in outputs if "data" in output]


def records(folder: Path) -> dict[str, dict[str, Any]]:
    """What was measured, by record: all of it that does not depend on when and where; less where some is missing."""
    found = {}
    for path in folder.glob("records/*.json"):
        stored = json.loads(path.read_text(encoding="utf-8"))
        measured = numbers(folder, path.stem)
        # As text: NaN is equal to NaN.
        found[path.name] = {part: json.dumps(stored[part]) for part in ("run", "curve")} | {
            part: json.dumps(measured[asked.name]["numbers"])
            for part, asked in (("validation", VALIDATION), ("final", FINAL)) if asked.name in measured
        }
    return found


def numbers(folder: Path, name: str) -> dict[str, Any]:
    """All that was measured of a record's weights, which must still be those that it names; nothing if nothing was."""
    path = folder / "measured" / f"{name}.json"
    if not path.exists():
        return {}
    measured = json.loads(path.read_text(encoding="utf-8"))
    content = (folder / "weights" / f"{name}.pt").read_bytes()
    assert measured["weights"] == hashlib.sha256(content).hexdigest(), f"{path.name} is of other weights"
    return measured["measured"]


def wait_for(
    condition: Callable[[], Any], what: str, seconds: float = LIMIT, of: subprocess.Popen | None = None
) -> Any:
    """The condition's value once it is true; of a process that must still run then."""
    give_up = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < give_up, f"no {what} within {seconds:g} s"
        assert of is None or of.poll() is None, f"no {what} before it ended with status {of.returncode}"
        time.sleep(0.03)
    return value


def changed(before: dict[str, tuple[int, int]], project: Project) -> set[str]:
    """Which of the files that were finished before are not now what they were."""
    now = project.finished()
    return {name for name in before if now.get(name) != before[name]}


def kill(process: subprocess.Popen | psutil.Process) -> None:
    """As the system kills what takes too much memory."""
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=PATIENCE)
