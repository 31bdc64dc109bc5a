"""What an executed chapter says of itself: its parameters in a table, where its numbers came from, its figures."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nbformat

from falloff import digests, sets
from falloff.chapters.chapter import Chapter, executed_folder
from falloff.chapters.parameters import Parameter
from falloff.project import written

_GLUED = re.compile(r"\{glue:text\}`(?P<name>[^`:]+)(?::(?P<form>[^`]*))?`")


def provenance(chapter: Chapter, values: Mapping[str, Any], profile: str, seconds: float) -> dict[str, Any]:
    """Where the numbers of a run that has just ended came from; it is stored in the executed copy's metadata.

    Args:
        chapter: what ran.
        values: all its parameters.
        profile: "changed" are the parameters that differ from this profile's own.
        seconds: wall time of the run.
    """
    import torch

    from falloff import machine

    device = values.get("device", "cpu")
    standard = chapter.parameters(profile, {})
    return {
        "chapter": chapter.name,
        "profile": profile,
        "seeds": values.get("seeds", [values["seed"]] if "seed" in values else []),
        "parameters": {name: sets.short(value) if name == "dataset" else value for name, value in values.items()},
        "changed": sorted(name for name, value in values.items() if value != standard[name]),
        "device": device,
        "precision": machine.resolve_precision("auto", device),
        "form": machine.resolve_form("auto", device),
        "machine": machine.machine(torch.device(device)),
        "versions": machine.versions(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
    }


def provenance_cell(stamp: Mapping[str, Any]) -> nbformat.NotebookNode:
    """The last cell of a chapter's page: a table to read, and the same for programs.

    Args:
        stamp: what :func:`provenance` gave, the chapter's ``fingerprint``, ``commit`` and whether that was ``clean``.
    """
    changed = stamp["changed"]
    own = f"with {', '.join(f'`{name}`' for name in changed)} changed" if changed else "nothing changed"
    values = [literal(f"{name} = {value!r}") for name, value in stamp["parameters"].items()]
    code = digests.of_text(json.dumps(stamp["fingerprint"]["code"], sort_keys=True))
    shown = {
        "Profile": f"{stamp['profile']}, {own}",
        "Parameters": ", ".join(values) or "none",
        "Seeds": ", ".join(map(str, stamp["seeds"])) or "none",
        "Device": f"{stamp['device']}, {stamp['machine']['model']}, {stamp['machine']['system']}",
        "Precision": f"{stamp['precision']} convolutions, float32 losses, {stamp['form']}",
        "Versions": ", ".join(f"{name} {version}" for name, version in stamp["versions"].items()),
        "Commit": f"`{stamp['commit'][:12]}`" + ("" if stamp["clean"] else ", with uncommitted changes"),
        "Code digest": f"`{code[:12]}`",
        "Data digest": f"`{stamp['fingerprint']['data'][:12]}`",
        "Finished": f"{stamp['finished']}, after {stamp['seconds']:g} s (stored runs are reused)",
    }
    table = _list_table([":class: provenance"], [(name, value.replace("\n", " ")) for name, value in shown.items()])
    plain = json.dumps(stamp, sort_keys=True).replace("<", "\\u003c")  # nothing in it may end the element
    text = (f"## Where these numbers came from\n\n{table}\n"
            f"```{{raw}} html\n<script type=\"application/json\" id=\"provenance\">{plain}</script>\n```\n")
    return nbformat.v4.new_markdown_cell(text, metadata={"tags": ["provenance"]}, id="provenance")


def banner(stamp: Mapping[str, Any]) -> nbformat.NotebookNode:
    """The first cell of a copy that ran with other parameters: what in it speaks of them, and what does not.

    Args:
        stamp: what :func:`provenance` gave.
    """
    values = ", ".join(literal(f"{name}={_plain(stamp['parameters'][name])}") for name in stamp["changed"])
    text = (f"> **A run with parameters of its own:** {values}. What the cells print and draw is of this run. The text "
            "speaks of the recorded study, which ran without them, and of its claims this copy judges none.\n")
    return nbformat.v4.new_markdown_cell(text, metadata={"tags": ["banner"]}, id="banner")


def fill(notebook: nbformat.NotebookNode) -> None:
    """Put numbers in place of the roles in a notebook's text, for who reads it outside of the book.

    They are those of the record, and those that its own cells kept by :func:`falloff.plots.number`.
    """
    from falloff.study import prose

    record = prose.Record()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    kept = {output["metadata"]["scrapbook"]["name"]: output["data"] for output in outputs
            if "scrapbook" in output.get("metadata", {})}

    def own(role: re.Match[str]) -> str:
        data = kept.get(role["name"], {})
        plain = next((text for kind, text in data.items() if kind.endswith("text/plain")), None)
        return role[0] if plain is None else format(ast.literal_eval(plain), role["form"] or "")

    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = _GLUED.sub(own, record.resolved(cell.source, lambda wrong: ""))


def parameters_table(declared: Mapping[str, Parameter], values: Mapping[str, Any]) -> str:
    """The parameters as a MyST table: name, kind, default, what is allowed, meaning; "" where there are none.

    Args:
        declared: the parameters, in the order of the rows.
        values: of one run; where they are not all the defaults, a column shows them, in bold those that differ.
    """
    if not declared:
        return ""
    here = {name: values.get(name, parameter.default) for name, parameter in declared.items()}
    differ = {name for name, parameter in declared.items() if here[name] != parameter.default}
    rows = [["Name", "Kind", "Default", *(["This run"] if differ else []), "Allowed", "Meaning"]]
    for name, parameter in declared.items():
        shown = literal(_plain(here[name]))
        column = [f"**{shown}**" if name in differ else shown] if differ else []
        rows.append([literal(name), literal(parameter.kind), literal(_plain(parameter.default)), *column,
                     _allowed(parameter), _escaped(parameter.meaning)])
    return _list_table([":header-rows: 1", ":class: parameters"], rows)


def export_figures(notebook: nbformat.NotebookNode) -> None:
    """Each figure as a file of its own name under ``figures``, wide and narrow, for pages to show."""
    from falloff.plots.show import NARROW

    outputs = [(cell.metadata, output) for cell in notebook.cells for output in cell.get("outputs", [])]
    for metadata, output in outputs:
        words = metadata.get("mystnb", {}).get("figure")
        for kind, ending in (("image/svg+xml", ".svg"), (NARROW, ".narrow.svg")):
            drawing = output.get("data", {}).get(kind)
            if not drawing or not words:
                continue
            path = figures_folder() / f"{words['name']}{ending}"
            if path.exists() and path.read_text(encoding="utf-8") == drawing:
                continue  # a page that shows it need not be built again
            with written(path) as temporary:
                temporary.write_text(drawing, encoding="utf-8")


def figures_folder() -> Path:
    """Where the figures of executed chapters are, each as a file."""
    return executed_folder().parent / "figures"


def literal(text: str) -> str:
    """Text as code in Markdown, whatever backticks it holds."""
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence} {text} {fence}" if "`" in text else f"{fence}{text}{fence}"


def _list_table(options: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = ["* - " + "\n  - ".join(row) for row in rows]
    return "\n".join(["```{list-table}", *options, "", *cells, "```", ""])


def _plain(value: object) -> str:
    """A value as one writes it after ``name=``; text that would not be seen as it is, in quotes."""
    if isinstance(value, list):
        return ", ".join(repr(item) if isinstance(item, str) and "," in item else _plain(item) for item in value)
    if isinstance(value, str):
        visible = value.isprintable() and value == value.strip() and value[:1] not in ("", "'", '"')
        return value if visible else repr(value)
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _allowed(parameter: Parameter) -> str:
    """The range of a number or of each item, or the choices, in Markdown."""
    words = [literal(word) for word in (("true", "false") if parameter.kind == "bool" else parameter.allowed)]
    if words and parameter.item in ("int", "float"):
        each = "" if parameter.kind == parameter.item else "each "
        return each + "\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}".join(words)
    return ", ".join(words) or "–"


def _escaped(text: str) -> str:
    """Text as itself in Markdown."""
    text = re.sub(r"([\\`*_{}\[\]<>&$])", r"\\\1", text)
    return re.sub(r"^(\d*)([!-/:-@^|~])", r"\1\\\2", text)  # no list, heading, fence or comment
