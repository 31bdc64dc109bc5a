"""The page of what was recorded, as Markdown, from tables of a small experiment."""

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from extensions import extension_of
from recordings import BASE, CHOOSING, COUNT, LATE, PAIR, edit, use

from falloff.study import recording, tuning
from falloff.study.experiments import Experiment, Planned
from falloff.study.floors import Floor


@pytest.fixture
def page(recorded):
    """The extension, as the book loads it, which knows the experiments that there are then."""
    return lambda: extension_of("recorded")


def rows(text):
    """The cells of the tables, row by row."""
    return [[cell.strip() for cell in row.split("\n  - ")]
            for row in re.findall(r"(?ms)^\* - (.*?)(?=^\* -|^```)", text)]


def test_an_experiment_is_its_question_a_table_of_arms_and_where_it_came_from(page, copied):
    text = "\n".join(page().shown("tiny"))
    assert text.startswith("```{list-table} Which? Profile tiny: fresh pictures, mean and 95 % interval over seeds;")
    head, *arms = rows(text)
    assert head == ["arm", "runs", "AP at 2 px", "localisation error, px"]
    assert {(arm[0], arm[1]) for arm in arms} == {("focal", "3"), ("BCE", "3"), ("focal, gamma 0", "3")}
    assert all("±" in arm[2] or "[" in arm[2] for arm in arms)
    assert f"{COUNT} runs, 0 minutes of training" in text and "PyTorch 2" in text and "commit `" in text
    files = [copied.parent / Path(name).name for name in re.findall(r"<\.\./data/recorded/tiny/(\S+)>", text)]
    assert len(files) == 5 and all(file.exists() for file in files)
    assert "changed since" not in text and "in part" not in text and "Not recorded" not in text


def test_losses_are_sorted_by_the_first_number_and_those_that_may_be_the_best_are_bold(page, copied):
    values = {"bce": [0.5, 0.51, 0.52], "focal": [0.8, 0.81, 0.82], "focal, gamma 0": [0.9, 0.91, 0.92]}

    def better(numbers):
        arms = pd.read_csv(copied.with_suffix(".arms.csv"))
        arms = arms[arms["role"] == "reported"]
        at = {key: values[arm][place] for arm, of in arms.groupby("arm") for place, key in enumerate(of["key"])}
        return numbers.assign(ap=[at.get(key, ap) for key, ap in zip(numbers["key"], numbers["ap"], strict=True)])

    edit(copied, "numbers.csv", better)
    text = "\n".join(page().shown("tiny"))
    _, *arms = rows(text)
    assert [arm[0] for arm in arms] == ["focal, gamma 0", "focal", "BCE"] and "in bold every loss" in text
    # An arm that is more than a loss is not compared with them.
    assert [arm[2].startswith("**") for arm in arms] == [False, True, False]


def test_what_is_not_recorded_is_said(page, copied, monkeypatch):
    use(monkeypatch, pair=PAIR, next=Experiment(question="And then?", plan=PAIR.plan))
    assert "Not recorded yet for profile tiny: *And then?*" in list(page().shown("tiny"))
    shutil.rmtree(copied.parent)
    assert "\n".join(page().shown("tiny")) == "Profile tiny (2 steps, cpu) has not been recorded yet.\n"


def test_what_other_code_made_is_said(page, copied):
    edit(copied, "runs.csv", lambda runs: runs.assign(code="of before"))
    assert "The code that made these numbers has changed since" in "\n".join(page().shown("tiny"))


def test_without_reported_runs_the_spread_of_each_arm_is_told_and_what_diverged(page, copied, monkeypatch):
    def plan(sizes):
        bad = sizes.base.replace(loss="mse", learning_rate=1e30, steps=20)
        yield [Planned(arm, "pilot", run.replace(seed=seed), (CHOOSING,)) for arm, run in
               (("bce", sizes.base.replace(loss="bce")), ("mse", bad)) for seed in (0, 1)]

    use(monkeypatch, far=Experiment(question="How far?", plan=plan, metrics=("ap",)))
    recording.write("tiny", publish=True)
    text = "\n".join(page().shown("tiny"))
    [_, bce, mse] = rows(text)
    values = recording.recorded("far", "tiny").set_index("arm")["val_ap"]["bce"]
    assert "pictures for choosing, mean and SD over runs" in text and "2 runs diverged." in text
    assert bce == ["BCE", "2", f"{values.mean():.3f} (SD {values.std():.3f})"] and mse == ["MSE", "2", "undefined"]


def test_floors_were_not_trained(page, copied, monkeypatch):
    def plan(sizes):
        yield [Planned("chance", "reported", Floor(dataset="spots", floor="chance", seed=seed), (CHOOSING, LATE))
               for seed in (0, 1)]

    use(monkeypatch, floors=Experiment(question="How much?", plan=plan, metrics=("ap",)))
    recording.write("tiny", publish=True)
    text = "\n".join(page().shown("tiny"))
    assert rows(text)[1][:2] == ["chance", "2"] and "2 runs, 0 minutes, " in text


def test_of_a_tuning_the_choices_are_told_with_the_edges_at_which_they_lie(page):
    def row(trial, score, role, rate, seed=1000):
        run = tuning.of(BASE, "focal", {"learning_rate": rate, "head_std": 0.01, "gamma": 0.25}, seed)
        scores = {f"val_{criterion}": score for criterion in tuning.CRITERIA}
        return run.describe() | {"arm": "focal", "role": role, "trial": trial} | scores

    table = pd.DataFrame([row(0, 0.5, "block 1", 0.02), row(1, 0.6, "block 2", 0.095),
                          *(row(trial, score, f"again, {steps} steps", rate, seed)
                            for steps, scores in ((2, (0.25, 0.5)), (8, (0.75, 0.25)))
                            for trial, rate, score in zip((0, 1), (0.02, 0.095), scores, strict=True)
                            for seed in (2000, 2001))])
    manifest = {"base": {"steps": 2}, "sizes": {"long": 8, "finalists": 2}}
    assert list(page()._choices(manifest, table)) == [
        ("focal", 2, "rate 0.095, first weights 0.01, gamma 0.25", "rate, gamma", "0.500"),
        ("focal", 8, "rate 0.02, first weights 0.01, gamma 0.25", "gamma", "0.750")]
