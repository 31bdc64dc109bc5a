"""The page of claims, as Markdown, from tables of a small experiment."""

import json
from pathlib import Path

import pytest
import yaml
from extensions import extension_of
from recordings import CLAIMS

from falloff.study import claims
from falloff.study.claims import Judgement
from falloff.study.statistics import Interval

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def extension():
    """The extension, as the book loads it."""
    return extension_of("claims")


def rows(extension, found):
    """The cells of the table by claim, and what follows it."""
    text = "\n".join(extension.page(found, "tiny"))
    table, rest = text.split("```\n", 1)
    cells = [[cell.strip() for cell in row.split("\n  - ")] for row in table.split("\n* - ")[2:]]
    return {name: others for name, *others in cells}, rest


def without_formula():
    """The claims of the small project that runs decide."""
    return {name: claim for name, claim in claims.load().items() if claim.experiment}


def test_a_claim_is_judged_on_what_was_recorded_and_waits_for_what_was_not(extension, copied):
    found, _ = rows(extension, without_formula())
    asked, verdict, basis, again = found["C2"]
    assert (asked, verdict, again) == ("Hardly any points are found.", "**supported**", "–")
    assert basis.startswith("AP, which must lie below 9: ")
    assert basis.endswith("Experiment `pair`, 3 seeds, profile tiny.")
    assert found["C4"][1:] == ["not recorded yet", "AP, which must lie above 0. Experiment `later`.", "–"]


def test_a_claim_leads_to_the_chapters_that_rest_on_it(extension, copied):
    notebooks = copied.parents[3] / "notebooks"
    notebooks.mkdir()
    for name, words in {"01_one": "So.{guard}`C2 is supported`", "02_two": "{rec}`C2.1`", "03_three": "C2"}.items():
        cell = {"cell_type": "markdown", "metadata": {}, "source": [words]}
        (notebooks / f"{name}.ipynb").write_text(json.dumps({"cells": [cell], "metadata": {}}))
    found, _ = rows(extension, without_formula())
    assert found["C2"][2].endswith(" See [chapter 1](../notebooks/01_one), [chapter 2](../notebooks/02_two).")


def test_each_of_several_criteria_has_a_line_with_its_number(extension, copied):
    entries = json.loads(json.dumps(CLAIMS))
    entries["C2"]["decided_by"] *= 2
    (copied.parents[2] / "claims.yml").write_text(yaml.safe_dump(entries))
    found, _ = rows(extension, without_formula())
    first, *lines, last = filter(None, (line.strip() for line in found["C2"][2].splitlines()))
    assert first == "All of these:" and last.startswith("Experiment `pair`, 3 seeds")
    assert len(lines) == 2 and all(line.startswith("- AP, which must lie below 9: **") for line in lines)


def test_a_recording_that_is_not_at_its_end_judges_nothing(extension, copied):
    copied.write_text(json.dumps(json.loads(copied.read_text()) | {"complete": False}))
    found, _ = rows(extension, without_formula())
    assert found["C2"][1] == "not recorded yet"


def test_a_claim_of_a_formula_is_judged_by_it(extension, copied, monkeypatch):
    monkeypatch.setenv("FALLOFF_ROOT", str(ROOT))
    found, _ = rows(extension, {"C1": claims.load()["C1"]})
    assert found["C1"][1] == "**supported**" and "By the formula." in found["C1"][2]


def test_what_was_fixed_before_is_said_of_every_claim_that_has_it(extension, copied):
    entries = json.loads(json.dumps(CLAIMS))
    entries["C2"] |= {"scope": "Small nets.", "known_before": "Nothing.",
                      "predicted": {"value": 0.1, "reason": "so few"}}
    entries["C2"]["decided_by"][0]["why"] = "More than there is."
    (copied.parents[2] / "claims.yml").write_text(yaml.safe_dump(entries))
    _, rest = rows(extension, without_formula())
    assert rest.endswith("**C2.** *Scope:* Small nets. *Known before:* Nothing. *Predicted:* 0.1 (so few). "
                         "*Margins:* AP: More than there is.\n")
    assert "**C1.**" not in rest


def test_an_undecided_claim_says_how_many_seeds_would_decide_it(extension, copied):
    claim = claims.load()["C1"]

    def said(seeds, high=0.3):
        return extension.needed(Judgement(claim, (Interval(0.1, -0.1, high, 3),), seeds=(seeds,)))

    assert said(12.0).endswith("about 12 seeds would decide it")
    assert said(float("inf")).endswith("no number of seeds would decide it on so many pictures")
    assert said(float("nan")) == "" and extension.needed(
        Judgement(claim, (Interval(0.1, 0.05, 0.15, 3),), seeds=(2.0,))) == ""
