"""The chapters: which must run, running them headless in processes of their own, and the stamp of each run."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nbformat
from filelock import FileLock

from falloff import digests, profiles
from falloff.project import clear, commit, project_root, written
from falloff.study import claims, parameters

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Chapter:
    """A clean notebook under ``notebooks/`` and where its executed copy goes."""

    name: str

    @property
    def source(self) -> Path:
        return project_root() / "notebooks" / f"{self.name}.ipynb"

    @property
    def executed(self) -> Path:
        return folder() / f"{self.name}.ipynb"

    def read(self) -> nbformat.NotebookNode:
        """The clean notebook."""
        return nbformat.read(self.source, as_version=4)

    def schema(self) -> dict[str, parameters.Parameter]:
        """What its parameters cell declares; empty when it has none."""
        cells = [cell for cell in self.read().cells if "parameters" in cell.metadata.get("tags", [])]
        return parameters.schema(cells[0].source) if cells else {}

    def parameters(self, profile: str, given: Mapping[str, object]) -> dict[str, Any]:
        """Its parameters in a profile with some given, checked before anything runs.

        Raises:
            ValueError: an unknown profile, an unknown name, a value that does not fit.
            FileNotFoundError: a data set that is not there.
        """
        declared = self.schema()
        preset = {name: value for name, value in profiles.profile(profile).items() if name in declared}
        values = parameters.read(declared, {**preset, **given})
        _data_digest(values)
        if values.get("evaluations", 0) > values.get("steps", math.inf):
            raise ValueError(f"evaluations must be at most steps ({values['steps']}), got {values['evaluations']}")
        for name in ("seeds", "rates"):
            if len(set(values.get(name, []))) < len(values.get(name, [])):
                raise ValueError(f"{name} must hold each value once, got {values[name]}")
        if values.get("device", "cpu") != "cpu" and not os.environ.get("FALLOFF_SCHEDULER"):  # a cluster may have it
            from falloff.training import check_device

            check_device(values["device"])
        return values


def settle(name: str, namespace: dict[str, Any]) -> None:
    """Check a chapter's parameters in its own kernel, before its first import, as its second cell does.

    ``falloff run`` checks before a kernel starts; this is for whoever calls papermill or edits the cell by hand. Values
    that a string says, such as "0,1,2" for a list, are set to what they say.

    Args:
        name: of the chapter.
        namespace: ``globals()`` there, with nothing in it yet but the parameters.

    Raises:
        ValueError, FileNotFoundError: as for :meth:`Chapter.parameters`, in the same words.
    """
    kinds = (bool, int, float, str, list, tuple, dict, type(None))
    given = {word: value for word, value in namespace.items()
             if isinstance(value, kinds) and not word.startswith("_") and word not in ("In", "Out")}
    namespace.update(find(name).parameters("quick", given))


def folder() -> Path:
    """Where executed chapters are: ``FALLOFF_CHAPTERS``, or ``runs/chapters`` of the project."""
    return Path(os.environ.get("FALLOFF_CHAPTERS") or project_root() / "runs" / "chapters")


def every() -> list[Chapter]:
    """All chapters in the order of their names."""
    return [Chapter(path.stem) for path in sorted((project_root() / "notebooks").glob("[0-9]*.ipynb"))]


def find(name: str) -> Chapter:
    """The chapter of that name.

    Raises:
        ValueError: there is none.
    """
    known = [chapter.name for chapter in every()]
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(f"no chapter is named {name!r}{hint}; known: {', '.join(known)}")
    return Chapter(name)


def identity(chapter: Chapter, values: Mapping[str, Any]) -> dict[str, str]:
    """What determines a chapter's outputs, part by part: cells, parameters, code, data, torch, claims."""
    cells = [cell.source for cell in chapter.read().cells if cell.cell_type == "code"]
    mine = [claim for claim in claims.load().values() if claim.chapter == chapter.name]
    return {
        "cells": digests.of_text(*map(_cell_digest, cells)),
        "parameters": digests.of_text(json.dumps(dict(values), sort_keys=True)),
        "code": digests.of_modules(_imports(chapter)),
        "data": _data_digest(values),
        "torch": version("torch"),
        "claims": digests.of_text(*(claim.digest() for claim in mine)),
    }


def _imports(chapter: Chapter) -> set[str]:
    """The modules of the package that its cells import."""
    found = set()
    for cell in chapter.read().cells:
        # The cell that no page shows only checks the parameters: what it imports changes no output.
        if cell.cell_type == "code" and "remove-cell" not in cell.metadata.get("tags", []):
            with suppress(SyntaxError):  # its kernel will say so
                found |= digests.imports(cell.source)
    return found


def _modules(chapter: Chapter) -> dict[str, str]:
    """The digest of each module that the code of a chapter's identity is made of."""
    return digests.modules(_imports(chapter))


def _cell_digest(source: str) -> str:
    try:
        return digests.of_source(source)
    except SyntaxError:  # a slip, or what only a notebook understands
        return digests.of_text(source)


def _data_digest(values: Mapping[str, Any]) -> str:
    from falloff import data

    return data.digest(values["dataset"]) if "dataset" in values else "none"


def why_stale(chapter: Chapter, values: Mapping[str, Any], executed: Path | None = None) -> str | None:
    """Why a chapter must run, or None when its executed copy is what a run would give."""
    executed = executed or chapter.executed
    try:
        whole = json.loads(executed.read_text(encoding="utf-8"))["metadata"]["falloff"]
        stamp, modules = whole["identity"], whole.get("modules", {})
    except FileNotFoundError:
        return "it has not run"
    except (ValueError, KeyError, TypeError):
        return "its executed copy is damaged"
    now = identity(chapter, values)
    changed = [part for part in now if stamp.get(part) != now[part]]
    if "code" in changed and modules:
        here = _modules(chapter)
        names = sorted(name for name in {*here, *modules} if here.get(name) != modules.get(name))
        few = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        changed[changed.index("code")] = f"code ({few})"
    return f"changed: {', '.join(changed)}" if changed else None


def build(profile: str = "quick", names: Sequence[str] | None = None) -> list[str]:
    """Run every chapter that is stale, all at once, over one set of workers.

    Returns:
        The names of those that failed; the others are done all the same.
    """
    chosen = every() if names is None else [find(name) for name in names]
    todo = {}
    for chapter in chosen:
        values = chapter.parameters(profile, {})
        reason = why_stale(chapter, values)
        if reason is None:
            _export_figures(nbformat.read(chapter.executed, as_version=4))
        log.info("%s: %s", chapter.name, reason or "up to date")
        if reason:
            todo[chapter] = values
    return _run_all({chapter: (values, chapter.executed) for chapter, values in todo.items()}, profile)


def run(name: str, given: Mapping[str, object], profile: str = "quick") -> Path | None:
    """Run one chapter with some parameters.

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
        label = digests.of_text(json.dumps(values, sort_keys=True))[:8]
        executed = folder().parent / "variants" / f"{name}-{label}.ipynb"
    reason = why_stale(chapter, values, executed)
    log.info("%s: %s", name, reason or "up to date")
    if reason and _run_all({chapter: (values, executed)}, profile):
        return None
    return executed


def execute(name: str, values: Mapping[str, Any], executed: Path, profile: str) -> None:
    """Run one chapter here and now, in a kernel of its own, and rename the stamped result into place.

    Raises:
        papermill.PapermillExecutionError: a cell failed; what had run is kept as ``NAME.failed.ipynb``.
    """
    import papermill

    chapter = find(name)
    executed.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(executed.with_suffix(".lock")):
        if why_stale(chapter, values, executed) is None:  # another build has just done it
            return
        clear(executed)
        now, source = identity(chapter, values), commit() | {"modules": _modules(chapter)}
        started = time.perf_counter()
        with written(executed) as temporary:
            working = temporary.with_name(temporary.name + ".ipynb")
            try:
                papermill.execute_notebook(
                    _literal(chapter.source), _literal(working), dict(values), kernel_name="python3",
                    progress_bar=False, cwd=str(project_root()), stderr_file=sys.stderr,
                )
                notebook = nbformat.read(working, as_version=4)
                seconds = time.perf_counter() - started
                notebook.metadata["falloff"] = _stamp(chapter, values, now, profile, seconds) | source
                notebook.cells.append(_provenance_cell(notebook.metadata["falloff"]))
                nbformat.write(notebook, temporary)
                if executed == chapter.executed:
                    _export_figures(notebook)
            except Exception:  # of a cell, or of a kernel that died or never lived
                if working.exists():
                    working.replace(executed.with_suffix(".failed.ipynb"))
                raise
            finally:
                working.unlink(missing_ok=True)
        executed.with_suffix(".failed.ipynb").unlink(missing_ok=True)


def _literal(path: Path) -> str:
    """A path for papermill, which would fill in parameters where it holds braces."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _run_all(todo: Mapping[Chapter, tuple[Mapping[str, Any], Path]], profile: str) -> list[str]:
    """Run chapters in processes side by side; returns the names of those that failed."""
    if not todo:
        return []
    from falloff.study import engine, progress

    failed = []
    devices = {values.get("device", "cpu") for values, _ in todo.values()}
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(len(todo)))  # left last: it waits for what the others stop
        address, children = stack.enter_context(engine.cluster(devices)), stack.enter_context(_children())
        for chapter, (values, executed) in todo.items():
            job = json.dumps({"name": chapter.name, "values": dict(values), "executed": str(executed),
                              "profile": profile, "parent": os.getpid()})
            # One thread: the workers are to have the cores, and sums must not depend on how many there are.
            environment = os.environ | {engine.SCHEDULER: address, "OMP_NUM_THREADS": "1", progress.STYLE: "lines"}
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
    from falloff.study.progress import SAYS

    last: deque[str] = deque(maxlen=60)
    for line in child.stdout:
        if line.startswith(SAYS):
            log.info("%s: %s", name, line.rstrip().removeprefix(SAYS))
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


def _stamp(chapter: Chapter, values: Mapping[str, Any], now: Mapping[str, str], profile: str,
           seconds: float) -> dict[str, Any]:
    import torch

    from falloff import training

    device = values.get("device", "cpu")
    standard = chapter.parameters(profile, {})
    return {
        "chapter": chapter.name,
        "profile": profile,
        "seeds": values.get("seeds", []),
        "parameters": dict(values),
        "changed": sorted(name for name, value in values.items() if value != standard[name]),
        "identity": dict(now),
        "device": device,
        "precision": training.resolve_precision("auto", device),
        "machine": training.machine(torch.device(device)),
        "versions": training.versions(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
    }


def _export_figures(notebook: nbformat.NotebookNode) -> None:
    """Each figure as a file of its own name under ``figures``, for pages that show it beside its chapter."""
    for output in (output for cell in notebook.cells for output in cell.get("outputs", [])):
        if name := output.get("metadata", {}).get("falloff", {}).get("name"):
            path, drawing = folder().parent / "figures" / f"{name}.svg", output["data"]["image/svg+xml"]
            if path.exists() and path.read_text(encoding="utf-8") == drawing:
                continue  # a page that shows it need not be built again
            with written(path) as temporary:
                temporary.write_text(drawing, encoding="utf-8")


def _provenance_cell(stamp: Mapping[str, Any]) -> nbformat.NotebookNode:
    """The last cell of a chapter's page: a table to read, and the same for programs."""
    changed = stamp["changed"]
    own = f"with {', '.join(f'`{name}`' for name in changed)} changed" if changed else "nothing changed"
    values = [parameters.literal(f"{name} = {value!r}") for name, value in stamp["parameters"].items()]
    shown = {
        "Profile": f"{stamp['profile']}, {own}",
        "Parameters": ", ".join(values) or "none",
        "Seeds": ", ".join(map(str, stamp["seeds"])) or "none",
        "Device": f"{stamp['device']}, {stamp['machine']['model']}, {stamp['machine']['system']}",
        "Precision": f"{stamp['precision']} convolutions, float32 losses, {stamp['machine']['losses']}",
        "Versions": ", ".join(f"{name} {version}" for name, version in stamp["versions"].items()),
        "Commit": f"`{stamp['commit'][:12]}`" + ("" if stamp["clean"] else ", with uncommitted changes"),
        "Code digest": f"`{stamp['identity']['code'][:12]}`",
        "Data digest": f"`{stamp['identity']['data'][:12]}`",
        "Finished": f"{stamp['finished']}, after {stamp['seconds']:g} s (stored runs are reused)",
    }
    rows = "\n".join(f"* - {name}\n  - {re.sub(chr(10), ' ', value)}" for name, value in shown.items())
    plain = json.dumps(stamp).replace("<", "\\u003c")  # nothing in it may end the element
    text = (f"## Where these numbers came from\n\n```{{list-table}}\n:class: provenance\n{rows}\n```\n\n"
            f"```{{raw}} html\n<script type=\"application/json\" id=\"provenance\">{plain}</script>\n```\n")
    return nbformat.v4.new_markdown_cell(text, metadata={"tags": ["provenance"]}, id="provenance")
