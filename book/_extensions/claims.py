"""The directive ``claims``: each claim of ``data/claims.yml`` with the verdict that its chapter's numbers give."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from falloff import chapters
from falloff.study import claims, recording
from falloff.study.claims import Claim, Judgement
from falloff.study.replay import counted
from falloff.study.statistics import Interval


class Claims(SphinxDirective):
    """One row a claim: the verdict, computed here, and what it rests on."""

    def run(self) -> list[nodes.Node]:
        path = Path(self.env.srcdir, "data", "claims.yml")
        verified = recording.folder("study") / "verified.json"
        for file in (path, verified):
            self.env.note_dependency(str(file))
        replay = _replay(verified)
        lines = ["```{list-table} Each claim, the verdict so far, and the numbers that decide it.", ":name: tab-claims",
                 ":header-rows: 1", ":class: claims", "",
                 "* - ", "  - Claim", "  - Verdict", "  - Decided by", "  - Replayed"]
        for claim in claims.load(path).values():
            lines += self._row(claim, replay)
        return self.parse_text_to_nodes("\n".join([*lines, "```", "", _last(replay)]))

    def _row(self, claim: Claim, replay: Mapping[str, Any] | None) -> list[str]:
        again = (replay or {"claims": {}})["claims"].get(claim.name)
        verdict, basis = "not yet run", f"Planned: {claim.planned}"
        if claim.chapter:
            verdict, basis = self._evidence(claim)
        if verdict == claims.UNJUDGED:
            again = None
        cells = (claim.name, claim.claim, verdict, basis, _replayed(again) if again else "–")
        return [("* - " if place == 0 else "  - ") + cell for place, cell in enumerate(cells)]

    def _evidence(self, claim: Claim) -> tuple[str, str]:
        """Verdict and what it rests on, or that the evidence is stale."""
        chapter = chapters.Chapter(claim.chapter)
        self.env.note_dependency(str(chapter.executed))
        link = f"[Chapter {int(claim.chapter[:2])}](../notebooks/{claim.chapter})"
        asked = "; ".join(criterion.in_words() for criterion in claim.criteria)
        judged, stamp = evidence(chapter, claim)
        if (dataset := _dataset(stamp)) != claims.DATASET:
            return claims.UNJUDGED, f"{asked}. {link} ran on `{dataset}`; the claim is about `{claims.DATASET}`"
        if claim.experiment is None:
            judged = claim.judge()
        if judged is None:
            return "**stale**", f"{asked}. {link} must run again: `make book`"
        numbers = ", ".join(shown(effect) for effect in judged.effects)
        seeds = max(effect.count for effect in judged.effects)
        basis = f"{seeds} seeds, profile {stamp['profile']}" if seeds else "by the formula"
        return f"**{judged.verdict}**", f"{asked}: {numbers} ({basis}). {link}"


def evidence(chapter: chapters.Chapter, claim: Claim) -> tuple[Judgement | None, Mapping[str, Any]]:
    """What a chapter's executed copy holds for a claim, None when it would be other if it ran now; and its stamp."""
    try:
        run = json.loads(chapter.executed.read_text(encoding="utf-8"))
        stamp = run["metadata"]["falloff"]
    except (OSError, KeyError, ValueError):
        return None, {}
    if _dataset(stamp) != claims.DATASET or chapter.why_stale(stamp["parameters"]):
        return None, stamp
    for output in (output for cell in run["cells"] for output in cell.get("outputs", [])):
        if output.get("metadata", {}).get("scrapbook", {}).get("name") == f"{claim.name.lower()}-evidence":
            text = output["data"]["application/papermill.record/text/plain"]
            return claims.from_json(ast.literal_eval("".join(text)), claim), stamp
    return None, stamp


def _dataset(stamp: Mapping[str, Any]) -> str:
    """What a chapter ran on; the claims' own set where nothing is said of it."""
    return stamp.get("parameters", {}).get("dataset", claims.DATASET)


def shown(effect: Interval) -> str:
    """A number, with its interval if it has one."""
    if effect.count == 0:
        return f"{effect.mean:.4g}"
    return str(effect)


def _replay(path: Path) -> dict[str, Any] | None:
    """The last verification; None before the first, and while the file is that of an earlier version of the project."""
    if not path.exists():
        return None
    replay = json.loads(path.read_text(encoding="utf-8"))
    known = all({"recorded", "verdict", "compared"} <= set(again) for again in replay["claims"].values())
    return replay if known else None


def _replayed(again: Mapping[str, Any]) -> str:
    """How the replay came out, and its verdict where that is not the recorded one."""
    if again["verdict"] == again["recorded"]:
        return again["compared"]
    return f"{again['compared']}; {again['recorded']} as recorded, {again['verdict']} as replayed"


def _last(replay: Mapping[str, Any] | None) -> str:
    if replay is None:
        return "No replay of the recorded numbers has been written down yet; `make verify` does it."
    words = [run["verdict"] for run in replay["runs"]]
    machine = f" on {replay['machine']['model']}" if replay["machine"] else ""  # none where no run's set was there
    return (f"Last replay: {replay['date'][:10]}, {len(words)} of {replay['total']} recorded runs trained again"
            f"{machine}: {counted(words)}.")


def setup(app: Sphinx) -> dict:
    """Add the directive."""
    app.add_directive("claims", Claims)
    return {"parallel_read_safe": True, "parallel_write_safe": True, "version": "1"}
