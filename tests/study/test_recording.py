"""Carrying out experiments and writing them down: whole, in parts, killed, gone on elsewhere, failed."""

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from recordings import (
    BASE,
    CHOOSING,
    CLAIMS,
    COUNT,
    LATE,
    PAIR,
    RATES,
    SMALL,
    bytes_of,
    edit,
    table,
    use,
)
from scenes import write_set

from falloff import cli, sets, study
from falloff.study import Store, engine, experiments, recording, replay
from falloff.study.experiments import Experiment, Planned
from falloff.study.store import Measuring
from falloff.study.tables import rounded

NO_TIME = "no time can be told before something is recorded"
MEMORY = "some 0.4 GB for the largest run"  # what a process needs to begin with: the pictures are small


@pytest.fixture
def elsewhere(root, tmp_path, monkeypatch):
    """The root of another checkout, where nothing is recorded or stored."""
    shutil.copytree(root / "data", tmp_path / "data", ignore=shutil.ignore_patterns("recorded"))
    monkeypatch.setenv("FALLOFF_ROOT", str(tmp_path))
    return tmp_path


@pytest.fixture
def copied(recorded, elsewhere):
    """The committed manifest in another checkout, whose store is empty."""
    shutil.copytree(recorded.parents[1], elsewhere / "data" / "recorded")
    return elsewhere / recorded.relative_to(recorded.parents[3])


@pytest.fixture
def asked(monkeypatch):
    """The runs that the engine is asked for, which are those that no table has."""
    found = []

    def results(runs, *args, **options):
        found.extend(runs)
        return real(runs, *args, **options)

    real = engine.results
    monkeypatch.setattr(engine, "results", results)
    return found


@pytest.fixture
def stopped_after(monkeypatch):
    """Let recording write so many runs at once, and end, as if killed, after so many parts."""

    def stop(parts, size=3):
        written = []

        def write(path, tables, *args, complete):
            real(path, tables, *args, complete=complete)
            written.append(len(tables.runs))
            if len(written) == parts:
                raise KeyboardInterrupt

        real = recording._write
        monkeypatch.setattr(recording, "PART", size * BASE.steps)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(recording, "_write", write)
            recording.write("tiny")
        return written

    return stop


@pytest.fixture
def falloff(capsys):
    """The command, here and now: its exit status and what it said."""
    def run(*words):
        capsys.readouterr()
        status = cli.main(list(words))
        return status, capsys.readouterr()

    return run


# What is written.


def test_a_record_is_tables_and_what_one_must_know_of_them(recorded, root):
    assert recorded == root / "data" / "recorded" / "tiny" / "pair.json"
    assert sorted(path.name for path in recorded.parent.iterdir()) == [
        "pair.arms.csv", "pair.curves.csv", "pair.json", "pair.numbers.csv", "pair.runs.csv"]
    manifest, tables = recording.read(recorded)
    assert tables.frame()["role"].value_counts().to_dict() == {"reported": 9, "block 1": 4}
    assert (manifest["experiment"], manifest["question"], manifest["profile"]) == ("pair", "Which?", "tiny")
    assert (manifest["runs"], manifest["complete"], manifest["sizes"]["seeds"]) == (COUNT, True, [0, 1, 2])
    assert manifest["base"] == json.loads(json.dumps(BASE.describe()))
    assert {"data", "commit", "clean", "versions", "machine", "date", "seconds"} <= manifest.keys()
    assert {"code", "seconds", "device_model", "commit", "finished"} <= tables.runs[tables.arms[0]["key"]].keys()
    assert manifest["adopted"] == [] and recording.is_of_this_code(manifest, tables)
    assert manifest["claims"].keys() == {"C1", "C2"}  # those of this experiment
    assert manifest["claims"]["C2"]["verdict"] == "supported"


def test_what_is_read_back_is_what_was_measured_to_six_digits(recorded, root):
    rows = recording.recorded("pair", "tiny").to_dict("records")
    _, tables = recording.read(recorded)
    assert len(rows) == COUNT
    for row, arm in zip(rows, tables.arms, strict=True):
        entry = Store(root / "runs").entry(tables.run(arm["key"]))
        stored = entry.read()
        for one, prefix in ((CHOOSING, "val_"), (LATE, "")):
            for metric, value in (entry.numbers(stored, one) or {}).items():
                assert repr(row[prefix + metric]) == repr(rounded(value))
        assert stored["run"]["learning_rate"] == row["learning_rate"] and stored["run"]["loss"] == row["loss"]


def test_what_is_chosen_by_is_measured_on_no_test_picture(recorded):
    found = recording.recorded("pair", "tiny")
    tuned = found["role"] == "block 1"
    assert found.loc[tuned, "ap"].isna().all() and found.loc[~tuned, "ap"].notna().all()
    assert found["val_ap"].notna().all()


def test_the_way_of_each_reported_run_is_told(recorded):
    found, runs = study.recorded_curves("pair", "tiny"), recording.recorded("pair", "tiny")
    reported = runs[runs["role"] == "reported"].set_index("key")
    assert set(found["key"]) == set(reported.index) and set(found["role"]) == {"reported"}
    for key, along in found.groupby("key"):
        assert list(along["step"]) == sorted(set(along["step"])) and along["step"].max() == reported.loc[key, "steps"]
        assert set(along["loss"]) == {reported.loc[key, "loss"]} and set(along["seed"]) == {reported.loc[key, "seed"]}


def test_a_later_stage_rests_on_what_an_earlier_one_gave(recorded):
    found = recording.recorded("pair", "tiny")
    for loss in ("focal", "bce"):
        tuned = found[(found["role"] == "block 1") & (found["arm"] == loss)]
        best = tuned.loc[tuned["val_ap"].idxmax(), "learning_rate"]
        assert set(found.loc[(found["role"] == "reported") & (found["loss"] == loss), "learning_rate"]) == {best}


def test_a_run_of_two_arms_is_trained_once_and_has_all_that_either_asks(elsewhere, monkeypatch, asked):
    def plan(sizes):
        run = sizes.base
        yield [Planned("a", "reported", run, (LATE,)), Planned("b", "other", run, (CHOOSING,)),
               Planned("c", "reported", run, (LATE,))]
        yield [Planned("d", "later", run, (Measuring(metrics=("ap",), decoder={"refine": "parabola"}),))]

    use(monkeypatch, twice=Experiment(question="Twice?", plan=plan))
    [path] = recording.write("tiny")
    _, tables = recording.read(path)
    assert len(tables.runs) == 1 and [arm["arm"] for arm in tables.arms] == ["a", "b", "c", "d"]
    assert list(tables.numbers[tables.arms[0]["key"]]) == ["test", "val", "test refine=parabola"]
    assert len(list((elsewhere / "runs" / "records").iterdir())) == 1 and len(asked) == 2  # the second measures alone


# Going on.


def test_a_recording_that_was_killed_goes_on_and_nothing_is_computed_twice(elsewhere, stopped_after, asked):
    assert stopped_after(3) == [3, 4, 7]  # 3 and 1 of the first stage, 3 of the second
    path = elsewhere / "runs" / "recorded" / "tiny" / "pair.json"
    manifest, tables = recording.read(path)
    assert manifest["complete"] is False and manifest["runs"] == len(tables.arms) == 7
    assert "claims" not in manifest
    with pytest.raises(ValueError, match="'pair' is not recorded to its end for profile 'tiny': make record"):
        recording.recorded("pair", "tiny", "runs")
    assert recording.write("tiny") == [path]
    assert len(asked) == len(set(asked)) == COUNT
    assert recording.read(path)[0]["complete"] is True and len(recording.recorded("pair", "tiny", "runs")) == COUNT


def test_a_recording_goes_on_on_another_machine_from_its_tables(
    elsewhere, stopped_after, asked, recorded, tmp_path_factory, monkeypatch
):
    stopped_after(3)
    other = tmp_path_factory.mktemp("other")
    for folder in ("data", "runs/recorded"):
        shutil.copytree(elsewhere / folder, other / folder)
    monkeypatch.setenv("FALLOFF_ROOT", str(other))
    asked.clear()
    [path] = recording.write("tiny")
    assert len(asked) == COUNT - 7 and len(list((other / "runs" / "records").iterdir())) == COUNT - 7
    old, new = (recording.read(one)[1].frame().drop(columns="seconds") for one in (recorded, path))
    assert repr(old.to_dict("records")) == repr(new.to_dict("records"))


def test_where_the_tables_are_whole_nothing_is_trained(copied, asked):
    before = bytes_of(copied.parent)
    [path] = recording.write("tiny")
    assert not asked and not (path.parents[2] / "records").exists()
    assert path == copied.parents[3] / "runs" / "recorded" / "tiny" / "pair.json"
    assert bytes_of(copied.parent) == before  # the committed record is as it was
    for name in ("arms.csv", "runs.csv", "numbers.csv", "curves.csv"):
        assert table(path, name).read_bytes() == table(copied, name).read_bytes()
    committed, own = (recording.read(one)[0] for one in (copied, path))
    assert {part: own[part] for part in recording.WHERE} == {part: committed[part] for part in recording.WHERE}
    assert own["claims"] == committed["claims"]


def test_a_committed_record_is_written_only_where_that_is_asked_for(copied):
    committed = copied.read_bytes()
    [own] = recording.write("tiny")
    assert copied.read_bytes() == committed
    assert recording.write("tiny", publish=True) == [copied] and own.exists()
    assert recording.read(copied)[0]["runs"] == COUNT


def test_a_kill_between_two_files_of_a_record_is_no_end_of_it(elsewhere, stopped_after, caplog):
    stopped_after(3)
    path = elsewhere / "runs" / "recorded" / "tiny" / "pair.json"
    table(path, "numbers.csv").write_text("of the next part\n")
    assert recording.write("tiny") == [path] and recording.read(path)[0]["complete"] is True
    assert "pair.numbers.csv is not the table" in caplog.text and len(recording.read(path)[1].runs) == COUNT


def test_what_other_code_measured_is_measured_again(copied, asked):
    edit(copied, "numbers.csv", lambda found: found.assign(by=found["by"].where(found["measured"] == "val", "before")))
    recording.write("tiny")
    assert len(asked) == 9  # those that were measured on test pictures


# What did not go well.


def test_a_run_that_diverged_is_a_result_and_not_tried_again(elsewhere, monkeypatch, asked):
    bad = BASE.replace(loss="mse", learning_rate=1e30, steps=20)

    def plan(sizes):
        yield [Planned("good", "reported", sizes.base, (LATE,)), Planned("bad", "reported", bad, (LATE,))]

    use(monkeypatch, far=Experiment(question="How far?", plan=plan))
    [path] = recording.write("tiny")
    rows = recording.recorded("far", "tiny", "runs").set_index("arm")
    assert rows["failure"]["bad"].startswith("FloatingPointError: training diverged at step")
    assert rows["failure"].isna()["good"] and rows["ap"].isna().to_dict() == {"good": False, "bad": True}
    assert len(asked) == 2 and recording.write("tiny") == [path] and len(asked) == 2


def test_a_run_that_failed_otherwise_is_an_error_and_what_had_finished_is_recorded(elsewhere, monkeypatch, asked):
    wrong = Measuring(metrics=("ap",), decoder={"refined": "none"})

    def plan(sizes):
        yield [Planned("good", "reported", sizes.base, (LATE,)), Planned("bad", "reported", sizes.base.replace(seed=9),
                                                                         (LATE, wrong))]

    use(monkeypatch, bad=Experiment(question="Bad?", plan=plan))
    for times in (2, 3):
        with pytest.raises(RuntimeError, match=r"1 of 1 runs failed; the first: .*refined"):
            recording.write("tiny")
        assert len(asked) == times  # the bad one again, the good one not
    manifest, tables = recording.read(elsewhere / "runs" / "recorded" / "tiny" / "bad.json")
    assert manifest["complete"] is False and len(tables.runs) == 1


def test_an_experiment_that_is_not_recorded_is_named(recorded):
    with pytest.raises(ValueError, match="no experiment is named 'pairs'; known: pair"):
        recording.recorded("pairs", "tiny")
    with pytest.raises(ValueError, match="profile must be one of quick, study, full, tiny, got 'huge'"):
        recording.recorded("pair", "huge")
    with pytest.raises(ValueError, match="'pair' is not recorded for profile 'quick': make record"):
        recording.recorded("pair", "quick")


def test_an_experiment_that_rests_on_another_asks_for_it(elsewhere, monkeypatch, asked):
    def plan(sizes, table):
        yield [Planned(f"best of {len(table)}", "reported", sizes.base, (LATE,))]

    use(monkeypatch, pair=PAIR, next=Experiment(question="And then?", plan=plan, needs="pair"))
    with pytest.raises(ValueError, match="'pair' is not recorded for profile 'tiny': make record EXPERIMENT=pair"):
        recording.write("tiny", names=["next"])
    assert not asked
    recording.write("tiny", names=["pair", "next"])
    assert recording.recorded("next", "tiny", "runs")["arm"].tolist() == [f"best of {COUNT}"]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ({"profile": "huge"}, "profile must be one of"),
        ({"names": ["pairs"]}, "no experiment is named 'pairs'; known: pair"),
        ({"device": "tpu"}, "device must be"),
    ],
)
def test_what_cannot_be_recorded_is_named(copied, asked, words, named):
    before = bytes_of(copied.parent)
    with pytest.raises(ValueError, match=named):
        recording.write(**{"profile": "tiny", **words})
    assert bytes_of(copied.parent) == before and not asked


@pytest.mark.parametrize("how", ["no files", "no base", "half", "no table"])
def test_a_manifest_that_is_damaged_is_named(copied, how):
    content = json.loads(copied.read_text())
    if how == "no table":
        content["files"].pop("numbers.csv")
    else:
        content.pop(how.removeprefix("no "), None)
    text = json.dumps(content)
    copied.write_text(text[: len(text) // 2] if how == "half" else text)
    with pytest.raises(ValueError, match=re.escape(str(copied))):
        recording.read(copied)


# Sets that are not here.


@pytest.fixture
def two_sets(elsewhere, spots, tmp_path, monkeypatch):
    """An experiment on a set that is here and on one that is not, but that the record knows; its sets by name, and how
    the second comes and goes.
    """
    def plan(sizes):
        tried = yield [Planned(f"{name}, {loss}", "tuning", sizes.base.replace(dataset=name, loss=loss), (CHOOSING,), 0)
                       for name in names for loss in ("focal", "bce")]
        yield [Planned(arm, "reported", sizes.base.replace(dataset=arm.split(", ")[0], loss=arm.split(", ")[1], seed=5),
                       (CHOOSING, LATE)) for arm in dict.fromkeys(tried["arm"])]

    names = ["spots(scale=0.5)", "gone(crop=8)"]
    path = write_set(tmp_path / "other", "gone", names=np.array(["light", "dark"]))
    monkeypatch.setitem(sets.RECORDED, "gone", sets.digest(str(path)))
    use(monkeypatch, pair=PAIR, both=Experiment(question="Both?", plan=plan))

    @contextmanager
    def here():
        shutil.copytree(path.parent, spots / "gone")
        yield
        shutil.rmtree(spots / "gone")

    return names, here


def test_what_needs_a_set_that_is_not_here_is_left_out_and_named(two_sets, elsewhere, falloff, asked):
    words = "record", "--profile", "tiny"
    status, said = falloff(*words, "--dry", "both")
    left_out = f"left out: what needs gone, not found under {sets.root()}, which FALLOFF_DATA names"
    assert status == 0 and said.out == (
        f"both: 4 runs, 0 of them recorded; {NO_TIME}; {MEMORY}; {left_out}\n")
    status, said = falloff(*words, "both")
    assert status == 0 and left_out in said.err and "Traceback" not in said.err
    manifest, tables = recording.read(elsewhere / "runs" / "recorded" / "tiny" / "both.json")
    assert {arm["arm"] for arm in tables.arms} == {"spots(scale=0.5), focal", "spots(scale=0.5), bce"}
    assert len(tables.runs) == len(asked) == 4 and manifest["complete"] is False
    with pytest.raises(ValueError, match="'both' is not recorded to its end"):
        recording.recorded("both", "tiny", "runs")


def test_where_no_set_is_here_the_other_experiments_go_on(two_sets, elsewhere, falloff, asked):
    names, _ = two_sets
    names.remove("spots(scale=0.5)")
    status, said = falloff("record", "--profile", "tiny", "both", "pair")
    assert status == 0 and len(asked) == COUNT
    assert f"nothing can be recorded here; left out: what needs gone, not found under {sets.root()}" in said.err
    assert said.out == f"recorded: {elsewhere / 'runs' / 'recorded' / 'tiny' / 'pair.json'}\n"
    assert not (elsewhere / "runs" / "recorded" / "tiny" / "both.json").exists()


def test_what_was_recorded_where_all_sets_were_is_kept_where_they_are_not(two_sets, asked):
    _, here = two_sets
    with here():
        [path] = recording.write("tiny", names=["both"], publish=True)
    manifest, tables = recording.read(path)
    assert manifest["complete"] and len(tables.runs) == len(asked) == 8
    assert recording.forecast("both", "tiny", SMALL) == "8 runs, 8 of them recorded"
    assert recording.is_of_this_code(manifest, tables)
    [own] = recording.write("tiny", names=["both"])
    assert own != path and len(asked) == 8 and recording.read(own)[1].arms == tables.arms
    for row in replay.verify("tiny", everything=True)["runs"]:
        there = row["arm"].startswith("spots")
        assert row["verdict"] == ("identical" if there else "not replayable without the set")


def test_what_other_code_recorded_of_a_set_that_is_not_here_is_not_lost(two_sets, falloff, elsewhere, monkeypatch):
    _, here = two_sets
    with here():
        [path] = recording.write("tiny", names=["both"], publish=True)
    assert recording.read(path)[0]["data"].keys() == {"gone", "spots"}
    assert recording.read(path)[0]["data"]["gone"] == sets.RECORDED["gone"]
    monkeypatch.setitem(experiments.SIZES, "tiny", replace(SMALL, base=SMALL.base.replace(steps=1, evaluations=1)))
    before = bytes_of(path.parent)
    status, said = falloff("record", "--profile", "tiny", "--publish", "both")
    assert status == 2 and f"what {path} holds of gone would be lost" in said.err and bytes_of(path.parent) == before
    status, said = falloff("record", "--profile", "tiny", "both")
    assert status == 0 and bytes_of(path.parent) == before  # beside it, what can be recorded here


# What is to come.


def test_a_forecast_writes_nothing_and_says_how_many_runs_are_left(elsewhere, falloff, asked, stopped_after):
    dry = "record", "--profile", "tiny", "--dry"
    status, said = falloff(*dry)
    assert status == 0 and not (elsewhere / "runs").exists() and not asked
    assert said.out == f"pair: {COUNT} runs, 0 of them recorded; {NO_TIME}; {MEMORY}\n"
    stopped_after(3)
    time = r"about 0 minutes for the rest, \d+ at once"
    assert re.fullmatch(f"pair: {COUNT} runs, 7 of them recorded; {time}; {MEMORY}\n", falloff(*dry)[1].out)
    status, said = falloff("record", "--profile", "tiny")
    assert status == 0 and said.out == f"recorded: {elsewhere / 'runs' / 'recorded' / 'tiny' / 'pair.json'}\n"
    assert falloff(*dry)[1].out == f"pair: {COUNT} runs, {COUNT} of them recorded\n"  # at the rates that were chosen


def test_a_forecast_counts_what_must_be_measured_again(copied):
    edit(copied, "numbers.csv", lambda found: found.assign(by=found["by"].where(found["measured"] == "val", "before")))
    assert f"{COUNT} runs, 4 of them recorded" in recording.forecast("pair", "tiny", SMALL)


def test_a_plan_is_as_recorded_as_far_as_it_is(copied):
    found = [one.run.learning_rate for one in recording.planned("pair", "tiny", SMALL)[1]]
    assert found == recording.recorded("pair", "tiny")["learning_rate"].tolist()[4:]
    shutil.rmtree(copied.parent)
    assert {one.run.learning_rate for one in recording.planned("pair", "tiny", SMALL)[1]} == {RATES[0]}


# Without what only the book and the charts need.

HOOK = """
import sys
from importlib.machinery import PathFinder

class Rest(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        top = name.partition(".")[0]
        return None if top.startswith("jupyter") or top in %r else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Rest
"""
REFUSED = ("papermill", "nbformat", "nbclient", "matplotlib", "sphinx", "myst_nb", "tqdm", "IPython", "tabulate",
           "ipykernel", "seaborn", "pytest", "hypothesis")
SCRIPT = """
import sys
from falloff.cli import main

if __name__ == "__main__":
    from falloff.run import Run
    from falloff.study.experiments import EXPERIMENTS, SIZES, Experiment, Planned, Sizes
    from falloff.study.store import Measuring

    def plan(sizes):
        asked = Measuring(split="val", metrics=("ap",), threshold="own"), Measuring(metrics=("ap", "error"))
        yield [Planned(loss, "reported", sizes.base.replace(loss=loss), asked) for loss in ("focal", "bce")]

    SIZES["tiny"] = Sizes(base=Run(dataset="spots", width=2, steps=2, batch=4, evaluations=1, watched=("ap",)))
    EXPERIMENTS.clear()
    EXPERIMENTS["pair"] = Experiment(question="Which?", plan=plan, metrics=("ap",))
    sys.exit(main(["record", "--profile", "tiny", "--publish"]) or main(["verify", "--profile", "tiny", "--all"]))
"""


def test_recording_and_replaying_need_nothing_that_only_the_book_needs(root, tmp_path):
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(HOOK % (REFUSED,))
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "root" / "data").mkdir(parents=True)
    claims = {name: claim for name, claim in CLAIMS.items() if name != "C1"}  # which one seed cannot decide
    (tmp_path / "root" / "data" / "claims.yml").write_text(json.dumps(claims))
    path = [str(tmp_path / "hook"), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py"], capture_output=True, text=True, timeout=120,
        env=os.environ | {"FALLOFF_ROOT": str(tmp_path / "root"), "PYTHONPATH": os.pathsep.join(path)},
    )
    assert done.returncode == 0, done.stderr
    assert Path(tmp_path, "root", "data", "recorded", "tiny", "pair.runs.csv").exists()
    assert "runs: 2 identical\n" in done.stdout
