"""The directive ``published``: each row of ``data/published.yml`` beside what the record has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from falloff import measures, plots
from falloff.study import published, recording
from falloff.study.evidence import Evidence
from falloff.study.published import Published

NOT_YET = "not recorded yet"


class Theirs(SphinxDirective):
    """One row a comparison: what was asked, theirs, the difference there, and ours, computed here."""

    def run(self) -> list[nodes.Node]:
        root = Path(self.env.srcdir)
        rows = published.load(root / "data" / "published.yml")
        manifests = [recording.folder("study") / f"{row.ours.experiment}.json" for row in rows if row.ours]
        for file in (root / "data" / "published.yml", root / "data" / "claims.yml", root / "book" / "references.bib",
                     *manifests):
            self.env.note_dependency(str(file))
        return self.parse_text_to_nodes("\n".join(page(rows)))


def page(rows: Iterable[Published], profile: str = "study") -> list[str]:
    """The lines of the table, in Markdown, by the recorded tables of a profile."""
    rows = list(rows)
    recorded = {name: recording.evidence(name, profile) for name in {row.ours.experiment for row in rows if row.ours}}
    lines = ["```{list-table} What others found, on their tasks, and the same difference here.",
             ":name: tab-published", ":header-rows: 1", ":class: published", "",
             "* - Question, and what they compared", "  - Theirs", "  - Their difference", "  - Ours"]
    question = ""
    for row in rows:
        asked = f"**{row.question}** {row.compared}." if row.question != question else f"{row.compared}."
        question = row.question
        cells = (asked, _theirs(row), _difference(row), _ours(row, recorded))
        lines.append("* - " + "\n  - ".join(cells))
    return [*lines, "```"]


def _theirs(row: Published) -> str:
    task = f"{row.task[0].upper()}{row.task[1:]}"
    better = ", less is better" if row.lower_is_better else ""
    numbers = ", ".join(f"{value} ({name})" for name, value in row.numbers.items())
    note = f" *{row.note}*" if row.note else ""
    return f"{{cite:t}}`{','.join(row.source)}`, {row.where}. {task}, {row.metric}{better}: {numbers}.{note}"


def _difference(row: Published) -> str:
    first, second = row.difference
    return f"{first} minus {second}: " + (f"**{_minus(row.gain)}**" if row.gain else "no number")


def _ours(row: Published, recorded: Mapping[str, Evidence | None]) -> str:
    """Our difference, or why there is none."""
    if row.ours is None:
        return f"*No counterpart.* {row.no_counterpart}"
    first, second = map(plots.arm, row.ours.difference)
    metric = measures.get(row.ours.metric)
    better = ", less is better" if metric.better == "low" else ""
    asked = f"{metric.heading}{better}, *{first}* minus *{second}*"
    given = recorded[row.ours.experiment]
    if given is None:
        return f"{asked}: {NOT_YET} (experiment `{row.ours.experiment}`)"
    effect = row.measure(given)
    sign = row.sign(effect)
    return (f"{asked}: **{_minus(str(effect))}** (experiment `{row.ours.experiment}`, {effect.count} seeds)"
            + (f"; {sign}" if sign else ""))


def _minus(number: str) -> str:
    """With the sign of mathematics where a hyphen stands for it."""
    return number.replace("-", "−")


def setup(app: Sphinx) -> dict:
    """Add the directive."""
    app.add_directive("published", Theirs)
    return {"parallel_read_safe": True, "parallel_write_safe": True, "version": "1"}
