"""The directive ``claims``: each claim of ``data/claims.yml`` with the verdict that the record gives."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from falloff.project import project_root
from falloff.study import claims, prose, recording
from falloff.study.claims import Claim, Judgement
from falloff.study.replay import counted
from falloff.study.statistics import Interval

NOT_YET = "not recorded yet"


class Claims(SphinxDirective):
    """One row a claim: the verdict, computed here, and what it rests on; then what was fixed before."""

    def run(self) -> list[nodes.Node]:
        path = Path(self.env.srcdir, "data", "claims.yml")
        folder = recording.folder("study")
        claims_ = claims.load(path)
        manifests = [folder / f"{name}.json" for name in {claim.experiment for claim in claims_.values()} if name]
        for file in (path, folder / "verified.json", *manifests, *Path(self.env.srcdir, "notebooks").glob("*.ipynb")):
            self.env.note_dependency(str(file))
        return self.parse_text_to_nodes("\n".join(page(claims_)))


def page(claims_: Mapping[str, Claim], profile: str = "study") -> list[str]:
    """The lines of the page, in Markdown, by the recorded tables of a profile."""
    replay = _replay(recording.folder(profile) / "verified.json")
    lines = ["```{list-table} Each claim, the verdict so far, and the numbers that decide it.", ":name: tab-claims",
             ":header-rows: 1", ":class: claims", ":widths: 5 21 13 48 13", "",
             "* - ", "  - Claim", "  - Verdict", "  - Decided by", "  - Replayed"]
    chapters = prose.discussed(project_root())
    recorded = {name: recording.evidence(name, profile)
                for name in {claim.experiment for claim in claims_.values()} if name}
    for claim in claims_.values():
        judged = claim.judge() if claim.experiment is None else None
        if claim.experiment and (known := recorded[claim.experiment]) is not None:
            judged = claim.judge(known)
        again = (replay or {"claims": {}})["claims"].get(claim.name)
        cells = (claim.name, claim.claim, *_verdict(claim, judged, profile, chapters.get(claim.name, [])),
                 _replayed(again) if again and judged else "–")
        lines.append("* - " + "\n  - ".join(cell.replace("\n", "\n    ") for cell in cells))
    return [*lines, "```", "", _last(replay), "", "```{rubric} What was fixed before", "```", "",
            *_before(claims_)]


def _verdict(claim: Claim, judged: Judgement | None, profile: str, chapters: Sequence[str]) -> tuple[str, str]:
    """A claim's verdict, what it rests on or waits for, and the chapters that rest on it."""
    links = ", ".join(f"[chapter {int(name[:2])}](../notebooks/{name})" for name in chapters)
    link = f" See {links}." if chapters else ""
    asked = [criterion.in_words() for criterion in claim.criteria]
    if judged is None:
        return NOT_YET, _listed(asked, f"Experiment `{claim.experiment}`.{link}")
    basis = "By the formula"
    if claim.experiment:
        seeds = max(effect.count for effect in judged.effects)
        basis = f"Experiment `{claim.experiment}`, {seeds} seeds, profile {profile}{needed(judged)}"
    found = [f"{words}: **{shown(effect)}**" for words, effect in zip(asked, judged.effects, strict=True)]
    return f"**{judged.verdict}**", _listed(found, f"{basis}.{link}")


def _listed(asked: Sequence[str], basis: str) -> str:
    """What must hold, a line for each of several, and what it rests on."""
    if len(asked) == 1:
        return f"{asked[0]}. {basis}"
    return "\n".join(["All of these:", "", *(f"- {one}" for one in asked), "", basis])


def needed(judged: Judgement) -> str:
    """How many seeds would decide what is undecided."""
    if judged.verdict != "undecided" or math.isnan(judged.would_decide):
        return ""
    if math.isinf(judged.would_decide):
        return "; if means and spreads stayed, no number of seeds would decide it on so many pictures"
    return f"; if means and spreads stayed, about {judged.would_decide:.0f} seeds would decide it"


def _before(claims_: Mapping[str, Claim]) -> Iterator[str]:
    """A paragraph for each claim on runs."""
    for claim in claims_.values():
        margins = {one.why: one.what for one in reversed(claim.criteria) if one.why}  # each reason once, for its first
        predicted = f"{claim.predicted['value']} ({claim.predicted['reason']})" if claim.predicted else ""
        said = {"Scope": claim.scope, "Known before": claim.known_before, "Predicted": predicted,
                "Margins": " ".join(f"{what}: {why}" for why, what in reversed(margins.items()))}
        words = " ".join(f"*{what}:* {text.rstrip('.')}." for what, text in said.items() if text)
        if words:
            yield from (f"**{claim.name}.** {words}", "")


def shown(effect: Interval) -> str:
    """A number, with its interval if it has one."""
    if effect.count == 0:
        return f"{effect.mean:.3g}"
    return effect.rounded(1) if abs(effect.mean) >= 10 else str(effect)


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
