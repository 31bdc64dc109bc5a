"""What prose quotes of the record, and the guards that a sentence stands by."""

import json
import math
import re

import numpy as np
import pandas as pd
import pytest
from recordings import CLAIMS

from falloff import cli, study
from falloff.study import claims, formulas, prose, recording
from falloff.study.evidence import Evidence, contrast
from falloff.study.prose import Record
from falloff.study.statistics import interval


@pytest.fixture
def record(recorded):
    """The small experiment, as prose asks for it."""
    return Record("tiny")


@pytest.fixture
def runs(recorded):
    """Its reported runs."""
    table = recording.recorded("pair", "tiny")
    return table[table["role"] == "reported"]


def test_a_quantity_is_the_mean_of_an_arm_or_a_part_of_its_interval(record, runs):
    found = interval(runs.loc[runs["arm"] == "focal", "ap"])
    assert record.number("pair[focal].ap") == record.number(" pair[focal].ap.mean ") == pytest.approx(found.mean)
    assert record.number("pair[focal].ap.low") == pytest.approx(found.low)
    assert record.number("pair[focal].ap.high") == pytest.approx(found.high)
    assert record.number("pair[focal].ap.half") == pytest.approx((found.high - found.low) / 2)
    assert record.number("pair[focal].ap.runs") == found.count
    assert record.number("-0.25") == -0.25


def test_a_difference_has_the_interval_of_two_independent_arms(record, recorded):
    found = contrast(recording.evidence("pair", "tiny"), "ap", {"focal": 1.0, "bce": -1.0}, pictures=False)
    for part in ("mean", "low", "high"):
        assert record.number(f"pair[focal - bce].ap.{part}") == getattr(found, part)


def test_pictures_count_where_the_tables_know_them():
    table = pd.DataFrame({"arm": ["a", "a", "b", "b"], "seed": [0, 1, 0, 1], "ap": [0.5, 0.6, 0.7, 0.9]})
    away = np.array([-0.4, 0.0, 0.4])
    given = Evidence(table, {"ap": table["ap"].to_numpy()[:, None] + np.stack([away, away, 2 * away, away])})
    assert Record(given={"x": given}).number("x[a].ap.half") == pytest.approx(
        (found := contrast(given, "ap", {"a": 1.0})).high - found.mean)
    alone = Record(given={"x": Evidence(table)}).number("x[a].ap.half")
    assert alone != pytest.approx(found.high - found.mean)
    given.pictures["ap"][table["arm"] == "b"] = np.nan  # those of one arm were not kept
    assert Record(given={"x": given}).number("x[a - b].ap.half") == pytest.approx(
        Record(given={"x": Evidence(table)}).number("x[a - b].ap.half"))


def test_what_decides_a_claim_is_quoted_by_its_place(record, recorded, monkeypatch):
    judged = claims.load()["C2"].judge(recording.evidence("pair", "tiny"))
    assert record.number("C2.1") == judged.effects[0].mean and record.number("C2.1.low") == judged.effects[0].low
    assert record.holds(f"C2 is {judged.verdict}") and not record.holds("C2 is undecided")
    monkeypatch.setitem(formulas.NUMBERS, "ratio", lambda: 0.5)
    assert record.number("C3.1") == 0.5


def test_roles_are_replaced_by_numbers_and_by_nothing(record):
    value = record.number("pair[focal].ap")
    text = "AP is {rec}`pair[focal].ap:.2f` {guard}`pair[focal].ap > -1`, or {rec}`pair[focal].ap`.{guard}`2 < 3` So."
    assert record.resolved(text) == f"AP is {value:.2f}, or {value:.3g}. So."
    assert record.resolved("{rec}`pair[focal].ap:.0%`") == f"{value:.0%}"
    false = "AP is high {guard}`pair[focal].ap > 2`."
    with pytest.raises(ValueError, match=re.escape("does not hold: pair[focal].ap > 2")):
        record.resolved(false)
    assert record.resolved(false, lambda words: f" ({words})") == "AP is high (does not hold: pair[focal].ap > 2)."


@pytest.mark.parametrize("role", ["rec", "guard"])
def test_a_role_that_has_no_number_is_marked_as_one_that_is_false(record, role):
    text = f"AP is high {{{role}}}`pair[focl].ap`."
    assert "(no)" in record.resolved(text, lambda words: "(no)")
    with pytest.raises(ValueError, match=r"focl|must be"):
        record.resolved(text)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("pair[focal].ap <= 1", "a guard must be A < B, A > B, A = B or C10 is refuted, got 'pair[focal].ap <= 1'"),
        ("0 < pair[focal].ap < 1", "a guard must be A < B"),
        ("pair[focal].ap", "a guard must be A < B"),
        ("pair[focl].ap > 0", "'pair[focl].ap': pair has no arm 'focl'; it has focal, bce, focal, gamma 0"),
        ("pair[focal - mse].ap > 0", "pair has no arm 'mse'"),
        ("pair[focal].app > 0", "no metric is named 'app'"),
        ("pair[focal].nme > 0", "'pair[focal].nme': pair was not measured in 'nme'"),
        ("pair[focal].ap.most > 0", "'pair[focal].ap.most' must end with a part of mean, low, high, half, runs"),
        ("nothing[focal].ap > 0", "no experiment is named 'nothing'"),
        ("C4 is refuted", "no experiment is named 'later'"),
        ("pair.ap > 0", "'pair.ap' is no number and no quantity"),
        ("C2.0 > 0", "'C2.0': C2 is decided by 1, counted from 1"),
        ("C2.2 > 0", "'C2.2': C2 is decided by 1, counted from 1"),
        ("C99.1 > 0", "no claim is named 'C99'; known: "),
        ("C2 is shown", "'C2 is shown' must end with supported, refuted, undecided"),
    ],
)
def test_what_a_guard_cannot_mean_is_named(record, words, named):
    with pytest.raises(ValueError, match=re.escape(named)):
        record.holds(words)


def test_a_setting_that_was_chosen_is_a_number():
    record, chosen = prose.Record(), study.choice("soft-bce")
    assert record.number("choice[soft-bce].sigma") == chosen.loss_options["sigma"]
    assert record.quoted("choice[soft-bce].learning_rate:.4f") == f"{chosen.learning_rate:.4f}"
    assert record.holds("choice[soft-bce].head_std > 0.001")
    with pytest.raises(ValueError, match="no loss is named 'gone'"):
        record.number("choice[gone].sigma")
    with pytest.raises(ValueError, match="bce has no number of that name; it has learning_rate, head_std"):
        record.number("choice[bce].sigma")


def test_what_is_not_recorded_is_named(recorded):
    with pytest.raises(ValueError, match="pair is not recorded to its end for profile 'full'"):
        Record("full").number("pair[focal].ap")


def test_what_is_not_a_number_bears_nothing_out():
    table = pd.DataFrame({"arm": ["a"], "seed": [0], "ap": [math.nan]})
    record = Record(given={"x": Evidence(table)})
    assert not record.holds("x[a].ap > 0") and not record.holds("x[a].ap < 0")


# All pages.


@pytest.fixture
def book(copied):
    """The root of a small project with two pages: one of Markdown, one of a notebook; writes their Markdown."""
    root = copied.parents[3]

    def write(page="", *cells):
        for folder in ("book", "notebooks"):
            (root / folder).mkdir(exist_ok=True)
        (root / "book" / "page.md").write_text(page)
        cells = [{"cell_type": "markdown", "metadata": {}, "source": [cell]} for cell in cells]
        (root / "notebooks" / "01_one.ipynb").write_text(json.dumps({"cells": cells, "metadata": {}}))
        return root

    return write


def test_all_pages_are_checked_and_each_sentence_that_fails_is_named(book):
    root = book("It is so. Focal loss finds\nall.{guard}`pair[focal].ap > 2` So it is {guard}`1 < 2`.",
                "A title\n\nBCE {rec}`pair[bce].ap:.2q`, they say.", "It is {rec}`pair[bce].ap`.")
    assert prose.broken(Record("tiny"), root) == [
        "page.md: 'Focal loss finds all.': does not hold: pair[focal].ap > 2",
        "01_one.ipynb: 'BCE , they say.': Unknown format code 'q' for object of type 'float'"]
    assert prose.broken(Record("tiny"), book("Nothing is said.")) == []


def test_what_a_text_rests_on_is_known(recorded):
    assert CLAIMS["C2"]["experiment"] == "pair"
    assert prose.experiments_of("pair[a].ap {rec}`a[b].ap` {guard}`c-d[e - f].ap > g[h].ap.low`") == {"a", "c-d", "g"}
    assert prose.experiments_of("{guard}`choice[bce].head_std > a[b].ap`") == {"a", "tuning"}
    assert prose.experiments_of("{guard}`C2 is refuted` {rec}`C3.1` {guard}`C77 is refuted`") == {"pair"}


def test_pages_are_not_built_upon_a_sentence_that_does_not_hold(book, monkeypatch, capsys):
    root = book("It is dark.{guard}`2 < 1`")
    monkeypatch.setenv("FALLOFF_ROOT", str(root))
    monkeypatch.delenv("GUARDS", raising=False)
    assert cli.main(["pages"]) == 1 and not (root / "_build").exists()
    said = capsys.readouterr().err
    assert "page.md: 'It is dark.': does not hold: 2 < 1" in said and "GUARDS=warn builds and marks them" in said
