"""The directive ``benchmark``: the tables of a recorded ``make bench``, each time as a ratio to ours."""

from __future__ import annotations

import json
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class Benchmark(SphinxDirective):
    """Its argument is the record's path in the project."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        path = Path(self.env.srcdir, self.arguments[0])
        self.env.note_dependency(str(path))
        record = json.loads(path.read_text(encoding="utf-8"))
        lines = []
        for place, table in enumerate(record["tables"]):
            lines += [*self._table(table, f"tab-{path.stem}-{place}"), ""]
        where = record["where"]
        names = {"PyTorch": "torch", "kornia": "kornia", "MONAI": "monai"}
        versions = [f"{name} {where[key]}" for name, key in names.items() if key in where]
        lines.append(
            f"Measured on {where['model']} ({where['device']}, {where['threads']} threads, {where['system']}) with "
            f"{', '.join(versions)}"
            + (f": medians of {where['rounds']} rounds in which all took turns." if where["rounds"] > 1 else ".")
        )
        return self.parse_text_to_nodes("\n".join(lines))

    def _table(self, table: dict, name: str) -> list[str]:
        times: dict[str, dict[tuple, float]] = {}
        for row in table["rows"]:
            times.setdefault(row["what"], {})[tuple(row["size"])] = row["milliseconds"]
        ours = times[table["ours"]]
        axes = table.get("axes", "batch, classes, height, width, points a map")
        lines = [f"```{{list-table}} {table['title']}: our time in milliseconds, then every other as a multiple of it.",
                 f":name: {name}", ":header-rows: 1", "", f"* - {axes}"]
        lines += [f"  - {', '.join(map(str, size))}" for size in ours]
        lines += [f"* - **{table['ours']}**", *(f"  - **{time:.1f} ms**" for time in ours.values())]
        for what, of in times.items():
            if what != table["ours"]:
                lines += [f"* - {what}", *(f"  - {_ratio(of[size] / ours[size])}×" for size in ours)]
        return [*lines, "```"]


def _ratio(value: float) -> str:
    return f"{value:.2f}" if value >= 0.1 else f"{value:.1g}"


def setup(app: Sphinx) -> dict:
    """Add the directive."""
    app.add_directive("benchmark", Benchmark)
    return {"parallel_read_safe": True, "parallel_write_safe": True, "version": "1"}
