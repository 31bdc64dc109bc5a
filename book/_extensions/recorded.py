"""The directive ``recorded``: the experiments under ``data/recorded``, what they gave, and where it came from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from falloff import measures, plots
from falloff.measures import Metric
from falloff.run import Run
from falloff.study import evidence, recording, simultaneous, tuning
from falloff.study.evidence import Evidence
from falloff.study.experiments import EXPERIMENTS, SIZES
from falloff.study.statistics import interval
from falloff.study.tables import FILES, Tables

PROFILES = ("study", "full")
CHANGED = "**The code that made these numbers has changed since**; `make verify` replays a sample of them. "
AXES = {"learning_rate": "rate", "head_std": "first weights"}  # what is tuned, in the book's words


class Recorded(SphinxDirective):
    """A table for each experiment of each profile that was recorded, and what was not."""

    def run(self) -> list[nodes.Node]:
        lines = []
        for profile in PROFILES:
            for name in EXPERIMENTS:
                self.env.note_dependency(str(recording.folder(profile) / f"{name}.json"))
            lines += shown(profile)
        return self.parse_text_to_nodes("\n".join(lines))


def shown(profile: str) -> Iterator[str]:
    """What a profile's record comes to, as Markdown."""
    paths = {name: recording.folder(profile) / f"{name}.json" for name in EXPERIMENTS}
    for name, path in paths.items():
        if path.exists():
            manifest, tables = recording.read(path)
            yield from _table(name, profile, manifest, tables)
            yield from ("", _source(path, manifest, tables), "")
    missing = [name for name, path in paths.items() if not path.exists()]
    if len(missing) == len(paths):
        base = SIZES[profile].base
        yield f"Profile {profile} ({base.steps} steps, {base.device}) has not been recorded yet."
    else:
        yield from (f"Not recorded yet for profile {profile}: *{EXPERIMENTS[name].question}*" for name in missing)
    yield ""


def _table(name: str, profile: str, manifest: dict[str, Any], tables: Tables) -> Iterator[str]:
    metrics = [measures.get(metric) for metric in EXPERIMENTS[name].metrics]
    table, reported = tables.frame(), tables.frame(tables.reported)
    head = ["arm", "runs", *(metric.heading for metric in metrics)]
    if name == "tuning" and manifest["complete"]:
        words, head = "the choices", ["loss", "steps", "choice", "at the edge", metrics[0].heading]
        rows = list(_choices(manifest, table))
    elif len(reported):
        words = "fresh pictures, mean and 95 % interval over seeds"
        known = tables.evidence()
        best = [_best(known, metric) for metric in metrics]
        if any(best):
            words += "; sorted by the first number, and in bold every loss that may be the best, all compared at once"
        rows = list(_reported(reported, metrics, best))
    else:
        words = "pictures for choosing, mean and SD over runs"
        rows = [[plots.arm(arm), len(group), *(_spread(group[f"val_{metric.name}"]) for metric in metrics)]
                for arm, group in table.groupby("arm", sort=False)]
    yield f"```{{list-table}} {manifest['question']} Profile {profile}: {words}."
    yield from (f":name: tab-recorded-{profile}-{name}", ":header-rows: 1", "")
    for cells in (head, *rows):
        yield from (f"{'  ' if place else '* '}- {cell}" for place, cell in enumerate(cells))
    yield "```"


def _reported(table: pd.DataFrame, metrics: Sequence[Metric], best: Sequence[set[str]]) -> Iterator[Sequence[object]]:
    """Each arm with its runs and its interval in each metric; where some may be the best, sorted, and these in bold."""
    arms = table.groupby("arm", sort=False)
    order = arms[metrics[0].name].mean()
    if any(best):
        order = order.sort_values(ascending=metrics[0].better == "low", kind="stable")
    for arm in order.index:
        of = arms.get_group(arm)
        cells = [str(interval(of[metric.name])) for metric in metrics]
        yield plots.arm(arm), len(of), *(f"**{cell}**" if arm in bold else cell
                                         for cell, bold in zip(cells, best, strict=True))


def _best(found: Evidence, metric: Metric) -> set[str]:
    """Of arms that are a loss and nothing else, those that may be the best in a metric; of a single one nothing."""
    values = found.table.groupby("arm", sort=False)[metric.name]
    arms = [arm for arm, of in values if arm in plots.TITLE and len(of) > 1]
    if len(arms) < 2 or metric.better == "neither" or values.apply(lambda of: of.isna().any())[arms].any():
        return set()
    means = evidence.means(found, metric.name, arms, pictures=metric.name in found.pictures)
    return {arm for arm, one in simultaneous.best_set(means, better=metric.better).items() if one.high > 0}


def _choices(manifest: dict[str, Any], table: pd.DataFrame) -> Iterator[Sequence[object]]:
    """What each loss's tuning chose at each length, with its score over the seeds by which it was chosen."""
    for loss in table["arm"].unique():
        for steps in (manifest["base"]["steps"], manifest["sizes"]["long"]):
            one = tuning.chosen(table, loss, steps, count=manifest["sizes"]["finalists"])
            again = table[(table["arm"] == loss) & (table["role"] == f"again, {steps} steps")]
            on = ", ".join(f"{_axis(axis)} {value:g}" for axis, value in one.on.items())
            edge = ", ".join(map(_axis, one.at_edge)) or "–"
            yield plots.arm(loss), steps, on, edge, f"{tuning.score(again)[one.trial]:.3f}"


def _source(path: Path, manifest: dict[str, Any], tables: Tables) -> str:
    """Where an experiment's numbers came from."""
    runs = tables.runs.values()
    devices, commits = ({run[what]: None for run in runs if what in run} for what in ("device_model", "commit"))
    diverged = sum("failure" in run for run in runs)
    took = " of training" if any(isinstance(tables.run(key), Run) for key in tables.runs) else ""
    source = f"../data/recorded/{manifest['profile']}/{path.stem}"
    files = {"manifest": "json", **{name.split(".")[0]: name for name in FILES if name in manifest["files"]}}
    return (f"{'' if manifest['complete'] else '**Recorded in part.** '}{manifest['runs']} runs, "
            f"{manifest['seconds'] / 60:.0f} minutes{took}, {manifest['date'][:10]}, {', '.join(devices)}, "
            f"PyTorch {manifest['versions']['torch']}, commit {', '.join(f'`{commit}`' for commit in commits)}"
            f"{'' if manifest['clean'] else ' with uncommitted changes'}. "
            + (f"{diverged} runs diverged. " if diverged else "")
            + ("" if recording.is_of_this_code(manifest, tables) else CHANGED)
            + ", ".join(f"{{download}}`{what} <{source}.{ending}>`" for what, ending in files.items()) + ".")


def _spread(values: pd.Series) -> str:
    """Mean and standard deviation of what runs gave; those that diverged gave nothing."""
    mean, deviation = values.mean(), values.std()
    if math.isnan(mean):
        return "undefined"
    return f"{mean:.3f}" if math.isnan(deviation) else f"{mean:.3f} (SD {deviation:.3f})"


def _axis(name: str) -> str:
    return AXES.get(name, name.replace("_", " "))


def setup(app: Sphinx) -> dict:
    """Add the directive."""
    app.add_directive("recorded", Recorded)
    return {"parallel_read_safe": True, "parallel_write_safe": True, "version": "1"}
