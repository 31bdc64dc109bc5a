"""The directive ``claims``: the table of ``data/claims.yml``, evidence and verdicts read from the chapters."""

from __future__ import annotations

from pathlib import Path

import yaml
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class Claims(SphinxDirective):
    """One row a claim. A claim without a chapter has not run."""

    def run(self) -> list[nodes.Node]:
        path = Path(self.env.srcdir, "data", "claims.yml")
        self.env.note_dependency(str(path))
        lines = ["```{list-table} Each claim, what decides it, and the verdict so far.", ":name: tab-claims",
                 ":header-rows: 1", ":widths: 6 34 12 14 34", "",
                 "* - ", "  - Claim", "  - Verdict", "  - Evidence", "  - Decided by"]
        for name, claim in yaml.safe_load(path.read_text(encoding="utf-8")).items():
            lines += self._row(name, claim)
        return self.parse_text_to_nodes("\n".join([*lines, "```"]))

    def _row(self, name: str, claim: dict) -> list[str]:
        evidence, verdict, chapter = "no experiment yet", "not yet run", ""
        if "chapter" in claim:
            source = f"../notebooks/{claim['chapter']}.ipynb"
            first, *bounds = (f"{{glue:text}}`{source}::{number}`" for number in claim["evidence"])
            evidence = first + (f" [{', '.join(bounds)}]" if bounds else "")
            verdict = f"**{{glue:text}}`{source}::{claim['verdict']}:s`**"
            chapter = f" [Chapter {int(claim['chapter'][:2])}](../notebooks/{claim['chapter']})"
        cells = (name, claim["claim"], verdict, evidence, claim["decided_by"] + chapter)
        return [("* - " if place == 0 else "  - ") + cell for place, cell in enumerate(cells)]


def setup(app: Sphinx) -> dict:
    """Add the directive."""
    app.add_directive("claims", Claims)
    return {"parallel_read_safe": True, "parallel_write_safe": True, "version": "1"}
