"""The directive ``recorded``: the tables under ``data/recorded``, with where each came from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from falloff import measures
from falloff.plots import TITLE
from falloff.profiles import PROFILES
from falloff.study import recording
from falloff.study.experiments import EXPERIMENTS
from falloff.study.statistics import interval

CHANGED = "**The code that made these numbers has changed since**; `make verify` replays a sample of them. "


class Recorded(SphinxDirective):
    """One table for each profile and experiment that was recorded, and what was not."""

    def run(self) -> list[nodes.Node]:
        lines = []
        for profile in ("full", "quick"):
            for name in EXPERIMENTS:
                path = recording.folder(profile) / f"{name}.json"
                self.env.note_dependency(str(path))
                if path.exists():
                    lines += [*self._table(path, *recording.read(path)), ""]
            if not any((recording.folder(profile) / f"{name}.json").exists() for name in EXPERIMENTS):
                given = ", ".join(f"{what} {_short(value)}" for what, value in PROFILES[profile].items())
                lines += [f"The {profile} profile ({given or 'the defaults'}) has not been recorded yet.", ""]
        return self.parse_text_to_nodes("\n".join(lines))

    def _table(self, path: Path, manifest: dict[str, Any], table: pd.DataFrame) -> Iterator[str]:
        profile, name = manifest["profile"], manifest["experiment"]
        metrics = [measures.get(metric) for metric in EXPERIMENTS[name].metrics]
        yield f"```{{list-table}} {manifest['question']} Profile {profile}, test split, mean and 95 % interval."
        yield from (f":name: tab-recorded-{profile}-{name}", ":header-rows: 1", "", "* - arm", "  - rate", "  - seeds")
        yield from (f"  - {metric.heading}" for metric in metrics)
        for arm, group in table[table["role"] == "reported"].groupby("arm", sort=False):
            yield f"* - {_title(arm)}"
            yield f"  - {group['learning_rate'].iloc[0]:g}"
            yield f"  - {len(group)}"
            yield from (f"  - {interval(group[metric.name])}" for metric in metrics)
        yield "```"
        at_edge = table.loc[table["at_edge"].astype("boolean").fillna(False), "arm"]
        edge = ", ".join(_title(arm) for arm in sorted(set(at_edge)))
        source = f"../data/recorded/{profile}/{name}"
        yield ""
        yield (f"{manifest['runs']} runs, {manifest['seconds'] / 60:.0f} minutes of training, {manifest['date'][:10]}, "
               f"{manifest['machine']['model']}, PyTorch {manifest['versions']['torch']}, commit "
               f"`{manifest['commit'][:12]}`{'' if manifest['clean'] else ' with uncommitted changes'}. "
               + (f"At the edge of the grid of rates lies the best of {edge}. " if edge else "")
               + ("" if recording.is_of_this_code(manifest, table) else CHANGED)
               + f"{{download}}`Every run <{source}.csv>`, {{download}}`manifest <{source}.json>`.")


def _title(arm: str) -> str:
    """An arm in the book's words: "distance-aware, beta 1" begins with a loss."""
    loss, *rest = arm.split(", ")
    return ", ".join([TITLE.get(loss, loss), *rest])


def _short(value: object) -> str:
    return f"{len(value)} values" if isinstance(value, list) else str(value)


def setup(app: Sphinx) -> dict:
    """Add the directive."""
    app.add_directive("recorded", Recorded)
    return {"parallel_read_safe": True, "parallel_write_safe": True, "version": "1"}
