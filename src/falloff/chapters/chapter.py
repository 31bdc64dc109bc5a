"""What a chapter is: its notebook, its parameters, what determines its outputs, and why it must run again."""

from __future__ import annotations

import ast
import json
import math
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nbformat

from falloff import digests, profiles, sets
from falloff.chapters import parameters
from falloff.checks import nearest
from falloff.project import carried, project_root

_RECORDED = re.compile(r"""\b(?:recorded|recorded_curves|recorded_lists|evidence)\(\s*["']([\w-]+)""")


@dataclass(frozen=True)
class Chapter:
    """A clean notebook under ``notebooks/`` and where its executed copy goes."""

    name: str

    @property
    def source(self) -> Path:
        """The file of the clean notebook."""
        return carried("notebooks", f"{self.name}.ipynb")

    @property
    def executed(self) -> Path:
        """The file of the executed copy that the book shows, whether it is there or not."""
        return executed_folder() / f"{self.name}.ipynb"

    def notebook(self) -> nbformat.NotebookNode:
        """The clean notebook."""
        return nbformat.read(self.source, as_version=4)

    def schema(self) -> dict[str, parameters.Parameter]:
        """What its parameters cell declares; empty when it has none."""
        cells = [cell for cell in self.notebook().cells if "parameters" in cell.metadata.get("tags", [])]
        return parameters.schema(cells[0].source) if cells else {}

    def parameters(self, profile: str, given: Mapping[str, object]) -> dict[str, Any]:
        """Its parameters in a profile with some given, checked before anything runs.

        Raises:
            ValueError: an unknown profile, an unknown name, a value that does not fit, a device that is not there, a
                data set that is faulty.
            FileNotFoundError: a data set that is not there.
        """
        declared = self.schema()
        preset = {name: value for name, value in profiles.profile(profile).items() if name in declared}
        values = parameters.parse(declared, {**preset, **given})
        if "dataset" in values:
            values["dataset"] = sets.anywhere(values["dataset"])
            if not sets.is_made(values["dataset"]):
                from falloff import data  # with PyTorch, which no chapter on made scenes needs up to here

                data.check(values["dataset"])
        if values.get("evaluations", 0) > values.get("steps", math.inf):
            raise ValueError(f"evaluations must be at most steps ({values['steps']}), got {values['evaluations']}")
        for name in ("seeds", "rates"):
            if len(set(values.get(name, []))) < len(values.get(name, [])):
                raise ValueError(f"{name} must hold each value once, got {values[name]}")
        if values.get("device", "cpu") != "cpu" and not os.environ.get("FALLOFF_SCHEDULER"):  # a cluster may have it
            from falloff.machine import check_device  # with PyTorch, which no chapter on the CPU needs up to here

            check_device(values["device"])
        return values

    def fingerprint(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What determines its outputs with some parameters.

        Returns:
            The digest of each part: ``cells``, ``parameters``, ``data`` and ``record``, the recorded tables that the
            cells read; the version of ``torch``; and under ``code`` the digest of each module, by name, that the cells
            import or that reads the data set.
        """
        cells = [cell for cell in self.notebook().cells if cell.cell_type == "code"]
        reader = {sets.module(values["dataset"])} if "dataset" in values else set()  # found by name, imported nowhere
        return {
            "cells": digests.of_text(*(_cell_digest(cell.source) for cell in cells)),
            "parameters": digests.of_text(json.dumps(dict(values), sort_keys=True)),
            "code": digests.modules(_imported(cells) | reader),
            "data": _data_digest(values),
            "torch": version("torch"),
            "record": digests.of_text(*map(_manifest, sorted({
                name for cell in cells for name in _RECORDED.findall(cell.source)}))),
        }

    def why_stale(self, values: Mapping[str, Any], executed: Path | None = None) -> str | None:
        """Why it must run with some parameters, or None when the executed copy is what a run would give.

        Args:
            values: all its parameters.
            executed: another executed copy than the book's.
        """
        try:
            text = (executed or self.executed).read_text(encoding="utf-8")
            then = json.loads(text)["metadata"]["falloff"]["fingerprint"]
            code = dict(then["code"])
        except FileNotFoundError:
            return "it has not run"
        except (ValueError, KeyError, TypeError):
            return "its executed copy is damaged"
        now = self.fingerprint(values)
        changed = [part for part in now if then.get(part) != now[part]]
        if "code" in changed:
            here = now["code"]
            names = sorted(name for name in {*here, *code} if here.get(name) != code.get(name))
            few = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            changed[changed.index("code")] = f"code ({few})"
        return f"changed: {', '.join(changed)}" if changed else None


def executed_folder() -> Path:
    """Where executed chapters are: ``FALLOFF_CHAPTERS``, or ``runs/chapters`` of the project."""
    return Path(os.environ.get("FALLOFF_CHAPTERS") or project_root() / "runs" / "chapters")


def find_all() -> list[Chapter]:
    """All chapters in the order of their names."""
    return [Chapter(path.stem) for path in sorted(carried("notebooks").glob("[0-9]*.ipynb"))]


def find(name: str) -> Chapter:
    """The chapter of that name, of which the beginning will do where no other begins so.

    Raises:
        ValueError: there is none, or several begin so.
    """
    known = [chapter.name for chapter in find_all()]
    meant = [name] if name in known else [one for one in known if name and one.startswith(name)]
    if len(meant) != 1:
        which = f"{len(meant)} chapters begin with" if meant else "no chapter is named"
        raise ValueError(f"{which} {name!r}{'' if meant else nearest(name, known)}; known: {', '.join(meant or known)}")
    return Chapter(meant[0])


def validate(name: str, namespace: dict[str, Any]) -> None:
    """Check a chapter's parameters in its own kernel, before its first import, as its second cell does.

    ``falloff run`` checks before a kernel starts; this is for whoever calls papermill or edits the cell by hand. Values
    that a string says, such as "0,1,2" for a list, are set to what they say.

    Args:
        name: of the chapter.
        namespace: ``globals()`` there, with nothing in it yet but the parameters. In IPython it may hold more: what a
            start-up file of the user sets is no parameter, and is left as it is.

    Raises:
        ValueError, FileNotFoundError: as for :meth:`Chapter.parameters`, in the same words.
    """
    kinds = (bool, int, float, str, list, tuple, dict, type(None))
    chapter, cells = find(name), _cells_run(namespace)
    names = namespace if cells is None else {*chapter.schema(), *_set_by(cells)} & namespace.keys()
    given = {word: namespace[word] for word in names
             if isinstance(namespace[word], kinds) and not word.startswith("_") and word not in ("In", "Out")}
    namespace.update(chapter.parameters("quick", given))


def _cells_run(namespace: Mapping[str, Any]) -> list[str] | None:
    """The cells that the IPython of this namespace has run, without the user's start-up files; None for no IPython."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return shell.history_manager.input_hist_parsed if shell is not None and shell.user_ns is namespace else None


def _set_by(cells: Iterable[str]) -> Iterator[str]:
    """The names that are set by cells which only set plain values, as the parameters cell and papermill's own."""
    for cell in cells:
        with suppress(SyntaxError):  # what only IPython understands
            lines = ast.parse(cell).body
            nodes = [node for line in lines for node in ast.walk(line)]
            if (all(isinstance(line, (ast.Assign, ast.AnnAssign)) for line in lines)
                    and not any(isinstance(node, ast.Attribute) for node in nodes)):
                yield from (node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))


def _imported(cells: list[nbformat.NotebookNode]) -> set[str]:
    """The modules of the package that some cells of code import."""
    found = set()
    for cell in cells:
        # The cell that no page shows only checks the parameters: what it imports changes no output.
        if "remove-cell" not in cell.metadata.get("tags", []):
            with suppress(SyntaxError):  # its kernel will say so
                found |= digests.imports(cell.source)
    return found


def _cell_digest(source: str) -> str:
    try:
        return digests.of_source(source)
    except SyntaxError:  # a slip, or what only a notebook understands
        return digests.of_text(source)


def _data_digest(values: Mapping[str, Any]) -> str:
    return sets.digest(values["dataset"]) if "dataset" in values else "none"


def _manifest(experiment: str) -> str:
    """What the manifest of a recorded experiment holds, the digests of its tables among it; nothing where it is not."""
    path = carried("data", "recorded", "study", f"{experiment}.json")
    return path.read_text(encoding="utf-8") if path.exists() else ""
