"""Running chapters headless: each in a process and a kernel of its own, all over one set of workers."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import nbformat
from filelock import FileLock

from falloff import digests, sets
from falloff.chapters.chapter import Chapter, executed_folder, find, find_all
from falloff.chapters.stamp import banner, export_figures, fill, provenance, provenance_cell
from falloff.project import clear, commit, project_root, written

log = logging.getLogger(__name__)

STARTS = 3  # of a kernel, before its chapter fails
# What people set for the Python that they type into; a chapter is run without it, and in UTF-8.
_PERSONAL = {"PYTHONSTARTUP", "PYTHONINSPECT", "PYTHONWARNINGS", "PYTHONIOENCODING", "MPLBACKEND", "JUPYTER_PATH"}


def build(profile: str = "quick", names: Sequence[str] | None = None) -> list[str]:
    """Run every chapter that is stale, all at once, over one set of workers.

    Returns:
        The names of those that failed; the others are done all the same.
    """
    chosen = find_all() if names is None else [find(name) for name in names]
    todo = {}
    for chapter in chosen:
        values = chapter.parameters(profile, {})
        reason = chapter.why_stale(values)
        if reason is None:
            export_figures(nbformat.read(chapter.executed, as_version=4))
        log.info("%s: %s", chapter.name, reason or "up to date")
        if reason:
            todo[chapter] = values, chapter.executed
    return _execute_all(todo, profile)


def rerun(name: str, given: Mapping[str, object], profile: str = "quick") -> Path | None:
    """Run one chapter with some parameters, unless a copy that ran with them is there.

    With the profile's own parameters it is the book's copy; with others it is kept beside it, under
    ``variants``, so that the book never shows numbers that ``make book`` would not give.

    Raises:
        ValueError, FileNotFoundError: as for :meth:`Chapter.parameters`, before a kernel starts.

    Returns:
        The executed copy, None where a cell failed.
    """
    chapter = find(name)
    values = chapter.parameters(profile, given)
    executed = chapter.executed
    if values != chapter.parameters(profile, {}):
        parts = [chapter.name, *([sets.short(values["dataset"])] if "dataset" in values else []),
                 digests.of_text(json.dumps(values, sort_keys=True))[:8]]
        executed = executed_folder().parent / "variants" / f"{'-'.join(parts)}.ipynb"
    reason = chapter.why_stale(values, executed)
    log.info("%s: %s", chapter.name, reason or "up to date")
    if reason and _execute_all({chapter: (values, executed)}, profile):
        return None
    return executed


def execute(name: str, values: Mapping[str, Any], executed: Path, profile: str) -> None:
    """Run one chapter here and now, in a kernel of its own, and rename the stamped result into place.

    Raises:
        papermill.PapermillExecutionError: a cell failed; what had run is kept as ``NAME.failed.ipynb``.
    """
    chapter = find(name)
    executed.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(executed.with_suffix(".lock")):
        if chapter.why_stale(values, executed) is None:  # another build has just done it
            return
        clear(executed)
        before = {"fingerprint": chapter.fingerprint(values), **commit()}  # the files may change while it runs
        started = time.perf_counter()
        with written(executed) as temporary:
            working = temporary.with_name(temporary.name + ".ipynb")
            try:
                _in_a_kernel(chapter.source, working, dict(values))
                notebook = nbformat.read(working, as_version=4)
                seconds = time.perf_counter() - started
                fill(notebook)
                notebook.metadata["falloff"] = provenance(chapter, values, profile, seconds) | before
                notebook.cells.append(provenance_cell(notebook.metadata["falloff"]))
                if notebook.metadata["falloff"]["changed"]:
                    notebook.cells.insert(0, banner(notebook.metadata["falloff"]))
                nbformat.write(notebook, temporary)
                if executed == chapter.executed:
                    export_figures(notebook)
            except Exception:  # of a cell, or of a kernel that died or never lived
                if working.exists():
                    working.replace(executed.with_suffix(".failed.ipynb"))
                raise
            finally:
                working.unlink(missing_ok=True)
        executed.with_suffix(".failed.ipynb").unlink(missing_ok=True)


def _in_a_kernel(source: Path, executed: Path, values: dict[str, Any]) -> None:
    """Run a notebook by papermill; a kernel that does not even start is started again.

    A kernel is told the ports that it shall listen at, which were free when they were chosen: now and then another
    process has taken one by the time that the kernel asks for it.
    """
    import papermill

    for left in reversed(range(STARTS)):
        try:
            papermill.execute_notebook(
                _for_papermill(source), _for_papermill(executed), values, kernel_name="python3", progress_bar=False,
                cwd=str(project_root()), stderr_file=sys.stderr,
            )
            return
        except RuntimeError as error:
            if not left or "before replying" not in str(error):
                raise


def _for_papermill(path: Path) -> str:
    """A path for papermill, which would fill in parameters where it holds braces."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _execute_all(todo: Mapping[Chapter, tuple[Mapping[str, Any], Path]], profile: str) -> list[str]:
    """Run chapters in processes side by side; returns the names of those that failed."""
    if not todo:
        return []
    from falloff.study import engine, progress

    failed = []
    devices = {values.get("device", "cpu") for values, _ in todo.values()}
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(len(todo)))  # left last: it waits for what the others stop
        address, children = stack.enter_context(engine.cluster(devices)), stack.enter_context(_children())
        fresh = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        for chapter, (values, executed) in todo.items():
            job = json.dumps({"name": chapter.name, "values": dict(values), "executed": str(executed),
                              "profile": profile, "parent": os.getpid()})
            # One thread: the workers are to have the cores, and sums must not depend on how many there are.
            environment = {name: value for name, value in os.environ.items() if name not in _PERSONAL} | {
                engine.SCHEDULER: address, "OMP_NUM_THREADS": "1", progress.STYLE: "lines", "PYTHONUTF8": "1",
                "IPYTHONDIR": f"{fresh}/{chapter.name}",  # whose start-up files would run in the kernel
                # A kernel stands in another folder than what was typed.
                "FALLOFF_ROOT": str(project_root().absolute()), "FALLOFF_DATA": str(sets.root()),
            }
            children[chapter.name] = subprocess.Popen(
                [sys.executable, "-m", "falloff.cli", "execute", job], env=environment, encoding="utf-8",
                errors="replace", stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches this process, which stops them in order
            )
        log.info("running %d chapter%s; what is trained is kept in %s", len(children), "s" * (len(children) > 1),
                 project_root() / "runs")
        started = time.perf_counter()
        waiting = {pool.submit(_follow, name, child): name for name, child in children.items()}
        for done in as_completed(waiting):
            name, last = waiting[done], done.result()
            if children[name].returncode == 0:
                log.info("%s: done after %.0f s", name, time.perf_counter() - started)
            else:
                failed.append(name)
                log.error("%s: failed (exit status %s)\n%s", name, children[name].returncode, last)
    return failed


def _follow(name: str, child: subprocess.Popen) -> str:
    """Wait for a chapter's process, passing on what it says of its runs; the end of all else that it said."""
    from falloff.study.progress import PREFIX

    last: deque[str] = deque(maxlen=60)
    for line in child.stdout or ():
        if line.startswith(PREFIX):
            log.info("%s: %s", name, line.rstrip().removeprefix(PREFIX))
        else:
            last.append(line)
    child.wait()
    return "".join(last).strip()


@contextmanager
def _children() -> Iterator[dict[str, subprocess.Popen]]:
    """Processes that end with the block, however it ends; their kernels end with them."""
    children: dict[str, subprocess.Popen] = {}
    try:
        yield children
    finally:
        for child in children.values():
            if child.poll() is None:
                child.terminate()
        for child in children.values():
            try:
                child.wait(timeout=10)
            except subprocess.TimeoutExpired:
                child.kill()
