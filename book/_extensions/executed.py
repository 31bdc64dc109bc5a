"""Show a clean notebook with the outputs of its executed copy, its figures in light and dark, wide and narrow.

The contents name ``notebooks/NN_name``, so every link and download points at the clean notebook. At ``source-read``
the prose and code come from it, and outputs, cell by cell, from the copy that ``falloff book`` made. A copy whose code
is not the notebook's is a warning, which fails a strict build: ``make book`` runs the chapter first. The parameters
cell becomes one line that opens on a table, with the values of the run where they are not the defaults.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util import logging

from falloff import chapters, digests
from falloff.chapters import parameters, stamp
from falloff.plots import style
from falloff.plots.show import NARROW
from falloff.study import recording

log = logging.getLogger(__name__)

_FIGURE = re.compile(r'<img\b[^>]*?src="([^"]*_images/[\w-]+\.svg)"[^>]*?/?>')


def executed_copy(app: Sphinx, docname: str) -> Path | None:
    """Where the executed copy of a page is; None for a page that is not a chapter."""
    source = Path(app.env.doc2path(docname))
    return chapters.Chapter(source.stem).executed if source.suffix == ".ipynb" else None


def merge(clean: dict, run: dict) -> dict:
    """The clean notebook with the run's outputs, its parameters and provenance."""
    done = [cell for cell in run["cells"] if cell["cell_type"] == "code" and not _has_tag(cell, "injected-parameters")]
    cells = []
    for cell in clean["cells"]:
        if cell["cell_type"] == "code":
            ran = done.pop(0)
            outputs = [_without_narrow(output) for output in ran["outputs"]]
            cell = {**cell, "outputs": outputs, "execution_count": ran["execution_count"]}
        cells += parameters_shown(cell, run) if _has_tag(cell, "parameters") else [cell]
    cells += [cell for cell in run["cells"] if _has_tag(cell, "provenance")]
    return {**clean, "cells": cells}


def parameters_shown(cell: dict, run: dict) -> list[dict]:
    """What the page has in place of the parameters cell: one line, which opens on a table."""
    declared = parameters.schema("".join(cell["source"]))
    ran = run["metadata"]["falloff"]
    table = stamp.parameters_table(declared, ran["parameters"])
    text = (f"````{{dropdown}} Parameters, profile {ran['profile']}: {', '.join(declared)}\n"
            ":class-container: parameters-line\n\n"
            f"{{doc}}`/book/rerun` says how to take other parameters.{full_numbers()}\n\n{table}````")
    return [{"cell_type": "markdown", "id": "parameters-table", "metadata": {}, "source": text}]


def full_numbers() -> str:
    """A sentence that leads to the full profile's recorded numbers, where they exist."""
    if not any(recording.folder("full").glob("*.csv")):
        return ""
    return " {doc}`/book/made` has what the full profile gave."


def swap(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the merged notebook in place of the clean one."""
    path = executed_copy(app, docname)
    if path is None:
        return
    app.env.note_dependency(str(path))  # read the page again when the run changes
    if not path.exists():
        log.warning("%s has no executed copy: run `make book`", docname, type="executed", subtype="missing")
        return
    clean, run = json.loads(source[0]), json.loads(path.read_text(encoding="utf-8"))
    if _code(clean) != _code(run):
        log.warning("%s: its code changed since it ran: run `make book`", docname, type="executed", subtype="stale")
        return
    source[0] = json.dumps(merge(clean, run))


def glue_dependencies(app: Sphinx, doctree: object) -> None:
    """Read a page again when a run that it takes numbers from changes; MyST-NB does not track this."""
    from myst_nb.ext.glue.utils import PendingGlueReference

    for node in doctree.findall(PendingGlueReference):
        path = executed_copy(app, node.refdoc)
        if path is not None:
            app.env.note_dependency(str(path))


def faces(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: object) -> None:
    """Show each drawn figure in the one of its faces that suits: light or dark, wide or, on a phone, narrow.

    A face that is not shown is not fetched.
    """
    def all_faces(found: re.Match) -> str:
        drawings = _drawings().get(Path(found[1]).stem)
        if drawings is not None:
            path = Path(app.outdir, "_images", f"{Path(found[1]).stem}.narrow.svg")
            path.parent.mkdir(exist_ok=True)
            path.write_text(drawings[1], encoding="utf-8")
        return "".join(face(found, kind, drawings) for kind in ("light", "dark"))

    if "body" in context:
        context["body"] = _FIGURE.sub(all_faces, context["body"])


def face(found: re.Match, kind: str, drawings: tuple[str, str] | None) -> str:
    """One figure in light or dark; the room that it takes is known before it is there."""
    ending = ".svg" if kind == "light" else ".dark.svg"
    wide, narrow = ("", "") if drawings is None else map(_room, drawings)
    image = found[0].replace("<img", f'<img class="drawn {kind}-face" loading="lazy"{wide}', 1).replace(".svg", ending)
    if drawings is None:
        return image
    source = found[1].replace(".svg", f".narrow{ending}")
    return f'<picture><source media="(max-width: 30rem)" srcset="{source}"{narrow}>{image}</picture>'


@functools.cache
def _drawings() -> dict[str, tuple[str, str]]:
    """Wide and narrow form of the figures, by their own name and by that which MyST-NB gives to an output's file."""
    found = {}
    for path in stamp.figures_folder().glob("*.narrow.svg"):
        name = path.name.removesuffix(".narrow.svg")
        wide = path.with_name(f"{name}.svg").read_text(encoding="utf-8")
        of_output = hashlib.sha256("\n".join(wide.splitlines()).encode()).hexdigest()
        found[name] = found[of_output] = wide, path.read_text(encoding="utf-8")
    return found


def _room(drawing: str) -> str:
    """Width and height of an SVG, which is in points, in pixels, as attributes."""
    points = re.findall(r'(?:width|height)="([\d.]+)pt"', drawing)[:2]
    return "".join(f' {side}="{float(of) * 96 / 72:.0f}"' for side, of in zip(("width", "height"), points, strict=True))


def dark_figures(app: Sphinx, error: Exception | None) -> None:
    """Write the dark face of each drawn figure: the same drawing in other colours."""
    if error is not None or app.builder.format != "html":
        return
    for path in Path(app.outdir, "_images").glob("*.svg"):
        if path.name.endswith(".dark.svg"):
            continue
        path.with_suffix(".dark.svg").write_text(style.dark(path.read_text(encoding="utf-8")), encoding="utf-8")


def download(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: object) -> None:
    """Offer the executed copy beside the clean notebook."""
    path = executed_copy(app, pagename) if doctree is not None else None
    if path is None or not path.exists():
        return
    out = Path(app.outdir, "_executed", f"{path.stem}.ipynb")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(path.read_bytes())
    for button in context.get("header_buttons", []):
        if button.get("label") == "download-buttons":
            button["buttons"].insert(1, {
                "type": "link", "text": ".ipynb (with outputs)", "icon": "fas fa-file-code",
                "tooltip": "Download the executed notebook", "label": "download-executed-button",
                "url": context["pathto"](f"_executed/{path.stem}.ipynb", 1),
            })


def _without_narrow(output: dict) -> dict:
    """An output as MyST-NB knows it: the narrow face of a figure is put beside the wide one later."""
    data = output.get("data")
    return output if not data else {**output, "data": {kind: of for kind, of in data.items() if kind != NARROW}}


def _code(notebook: dict) -> list[str]:
    """Digests of the code cells, blind to comments and layout; the injected parameters are not the notebook's."""
    return [
        digests.of_source("".join(cell["source"])) for cell in notebook["cells"]
        if cell["cell_type"] == "code" and not _has_tag(cell, "injected-parameters")
    ]


def _has_tag(cell: dict, tag: str) -> bool:
    return tag in cell["metadata"].get("tags", [])


def setup(app: Sphinx) -> dict:
    """Connect the extension."""
    app.connect("source-read", swap)
    app.connect("doctree-read", glue_dependencies)
    app.connect("html-page-context", faces)
    app.connect("html-page-context", download, priority=900)
    app.connect("build-finished", dark_figures)
    return {"parallel_read_safe": True, "parallel_write_safe": True, "version": "1"}
