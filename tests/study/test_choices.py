"""What the package carries of the record: each loss's choice."""

import json
import re

import pytest

from falloff.study import choice, choices, recording, tuning


def test_what_is_carried_is_what_the_committed_table_chose():
    assert json.loads(choices.PATH.read_text()) == choices.recorded()


def test_a_choice_is_a_run_that_the_record_reports_but_for_its_seed_and_what_is_watched():
    _, tables = recording.read(recording.folder("study") / "head-to-head.json")
    reported = {arm["arm"]: tables.run(arm["key"]) for arm in tables.reported}
    assert reported.keys() == tuning.SPACES.keys()
    for loss, run in reported.items():
        mine = choice(loss, seed=run.seed, precision=run.precision, form=run.form, watched=run.watched)
        assert mine.describe() == run.describe()


def test_other_fields_may_be_changed_and_are_checked():
    run = choice("soft-bce", steps=20, evaluations=2, dataset="digits(points=3)")
    assert (run.loss, run.steps, run.dataset) == ("soft-bce", 20, "digits(points=3)")
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        choice("bce", steps=0)
    with pytest.raises(ValueError, match=re.escape("no loss is named 'dice'; known: bce, weighted-bce, focal, ")):
        choice("dice")


def test_they_are_written_anew_from_the_table(tmp_path, monkeypatch):
    before = choices.PATH.read_text()
    monkeypatch.setattr(choices, "PATH", tmp_path / "choices.json")
    choices.write()
    assert (tmp_path / "choices.json").read_text() == before
