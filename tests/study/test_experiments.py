"""What is recorded, as it is planned: every run of every profile, with no run of it done."""

import dataclasses

import pandas as pd
import pytest
from scenes import write_set

from falloff import data, losses, measures, profiles, sets
from falloff.recipe import Recipe
from falloff.run import Run
from falloff.study import experiments, real, recording, store, tuning
from falloff.study.experiments import EXPERIMENTS, SIZES, settings
from falloff.study.floors import Floor

NAMES = [(profile, name) for profile in SIZES for name in EXPERIMENTS]
LATE = ("test", "fresh")  # the pictures that are read when all choices are made


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """The runs of an experiment in stages, where nothing is recorded."""
    monkeypatch.setenv("FALLOFF_ROOT", str(tmp_path))
    return lambda profile, name: recording.planned(name, profile, settings(profile, "cpu"))


def kind(one):
    """What a run is for: to choose by, as a trial or once again; to try recipes; or else read from late pictures."""
    return {"block": "trial", "tuning": "trial", "again,": "again", "pilot": "pilot"}.get(one.role.split()[0], "late")


def budget(runs):
    """What some runs cost, and by which seeds, whatever else they are."""
    return sorted((one.run.steps, one.run.batch, one.run.evaluations, one.run.seed) for one in runs)


@pytest.mark.parametrize(("profile", "name"), NAMES)
def test_every_experiment_of_every_profile_can_be_planned(planned, profile, name):
    stages = planned(profile, name)
    assert stages and all(stages)
    for one in (one for stage in stages for one in stage):
        assert one.arm and one.role and one.asked
        assert {name for asked in one.asked for name in asked.metrics} <= measures.METRICS.keys()
        if name == "floors":
            assert isinstance(one.run, Floor)
        else:
            assert one.run.precision != "auto" and one.run.form != "auto"  # which a machine would decide
            assert {"ap", "pixel_ap"} & set(one.run.watched)


@pytest.mark.parametrize(("profile", "name"), NAMES)
def test_no_run_is_planned_twice_under_the_same_arm_and_role(planned, profile, name):
    runs = [one for stage in planned(profile, name) for one in stage]
    assert len({(one.arm, one.role, one.run) for one in runs}) == len(runs)


@pytest.mark.parametrize("profile", SIZES)
def test_every_loss_is_tuned_by_the_same_budget(planned, profile):
    for stage in planned(profile, "tuning"):
        budgets = [budget(one for one in stage if one.arm == loss) for loss in tuning.SPACES]
        assert budgets[0] and all(one == budgets[0] for one in budgets)
    blocks = [one for stage in planned(profile, "tuning")[:2] for one in stage]
    for loss in tuning.SPACES:
        trials = [one.trial for one in blocks if one.arm == loss]
        assert trials == list(range(settings(profile, "cpu").trials))
    assert set(tuning.SPACES) <= set(losses.names())


@pytest.mark.parametrize("profile", SIZES)
def test_every_loss_is_reported_by_the_same_budget(planned, profile):
    for name, end in (("head-to-head", ""), ("longer", ""), ("choices", ", defaults"),
                      ("choices", ", winner of half 1"), ("choices", ", winner of half 2")):
        [stage] = planned(profile, name)
        budgets = [budget(one for one in stage if one.arm == loss + end) for loss in tuning.SPACES]
        assert budgets[0] and all(one == budgets[0] for one in budgets)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_what_is_chosen_by_reads_no_late_picture(planned, name):
    for one in (one for stage in planned("study", name) for one in stage if kind(one) != "late"):
        assert not {asked.split for asked in one.asked} & set(LATE)
        assert all(asked.threshold == "own" for asked in one.asked)


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if name not in ("pilot", "tuning", "precision")])
def test_what_is_reported_is_read_from_late_pictures_at_a_threshold_that_others_chose(planned, name):
    late = [one for stage in planned("study", name) for one in stage if kind(one) == "late"]
    assert late
    for one in late:
        [asked] = [asked for asked in one.asked if asked.split in LATE]
        splits = ("test", "val") if name == "real" else ("fresh", "choosing")  # all that a stored set has
        assert (asked.split, asked.reference) == splits and asked.threshold == "validation"


@pytest.mark.parametrize("profile", SIZES)
def test_seeds_of_tuning_choosing_pilot_and_report_are_not_each_others(planned, profile):
    seeds = {}
    for one in (one for name in EXPERIMENTS for stage in planned(profile, name) for one in stage):
        seeds.setdefault(kind(one), set()).add(one.run.seed)
    assert seeds.keys() == {"pilot", "trial", "again", "late"}
    assert sum(map(len, seeds.values())) == len(set.union(*seeds.values()))


@pytest.mark.parametrize("profile", SIZES)
def test_long_runs_are_measured_on_the_steps_on_which_short_ones_are(planned, profile):
    base = settings(profile, "cpu").base
    for one in (one for name in ("tuning", "longer") for stage in planned(profile, name) for one in stage):
        assert one.run.steps / one.run.evaluations == base.steps / base.evaluations


def test_the_longer_run_of_a_base_has_as_many_more_evaluations():
    assert experiments.lengthened(Run(steps=100, evaluations=5), 400) == Run(steps=400, evaluations=20)


def test_tables_show_metrics_that_there_are_and_questions_are_questions():
    experiments.check(list(EXPERIMENTS))
    for one in EXPERIMENTS.values():
        assert one.question.endswith("?") and one.metrics
        assert one.needs is None or list(EXPERIMENTS).index(one.needs) < list(EXPERIMENTS.values()).index(one)
    with pytest.raises(ValueError, match="no experiment is named 'pilots'; known: pilot, tuning"):
        experiments.check(["pilot", "pilots"])


# Profiles.


def test_a_profile_is_recorded_on_its_own_device_or_another():
    assert settings("study") == SIZES["study"] and settings("study").base.device == "cpu"
    assert settings("full").base.device == "cuda"
    assert settings("full", "cpu") == dataclasses.replace(
        SIZES["full"], base=SIZES["full"].base.replace(device="cpu"))


def test_a_profile_that_is_not_there_or_records_nothing_is_named():
    with pytest.raises(ValueError, match=f"profile must be one of {', '.join(profiles.PROFILES)}, got 'huge'"):
        settings("huge")
    with pytest.raises(ValueError, match="nothing is recorded for profile 'quick', but for study, full, tiny"):
        settings("quick")
    with pytest.raises(ValueError, match="device must be"):
        settings("study", "tpu")


# What follows from a choice.


def test_a_rate_is_tried_at_the_same_multiples_of_each_losss_own(planned):
    rates = settings("study").rates
    for name, multiples in (("start", rates), ("density", rates[1:4]), ("labels", rates[1:4])):
        tried, reported = planned("study", name)
        for arm in {one.arm for one in tried}:
            mine = [one.run.learning_rate for one in tried if one.arm == arm]
            middle = mine[len(mine) // 2]
            assert mine == pytest.approx([middle * multiple for multiple in multiples], rel=1e-3)
        assert {one.arm for one in tried} <= {one.arm for one in reported}


def test_with_fewer_points_a_picture_a_net_is_trained_for_as_many_points(planned):
    _, reported = planned("study", "density")
    for loss in experiments.DENSE:
        runs = {one.arm: one.run for one in reported if one.run.loss == loss and "points" in one.arm}
        shown = {arm: run.steps * int(arm.split("points ")[1].split(",")[0]) for arm, run in runs.items()}
        alike = [shown[arm] for arm in shown if "as many seen" in arm or arm.endswith("points 4")]
        assert len(alike) == 3 and max(alike) <= 1.01 * min(alike)
        assert {runs[arm].learning_rate for arm in runs if "points 16" in arm} == {
            runs[f"{loss}, points 16"].learning_rate}


def test_each_leader_and_mse_are_tuned_anew_on_each_real_set_by_one_design(planned):
    tried, reported = planned("study", "real")
    leaders = [*tuning.SPACES][:4]  # of losses that came out alike
    arms = [f"{loss}, {sets.parts(name)[0]}" for name in real.SETS for loss in (*leaders, "mse")]
    assert list(dict.fromkeys(one.arm for one in tried)) == list(dict.fromkeys(one.arm for one in reported)) == arms
    for arm in arms:
        mine, loss = [one for one in tried if one.arm == arm], arm.split(",")[0]
        values = [{axis.name: tuning.value(one.run.describe(), axis) for axis in tuning.SPACES[loss]} for one in mine]
        assert values == tuning.trials(tuning.SPACES[loss], 8) and {one.run.loss for one in mine} == {loss}
        assert {asked.split for one in mine for asked in one.asked} == {"val"}
        assert {one.run.seed for one in reported if one.arm == arm} == set(settings("study").few)
        assert len({one.run.replace(seed=0) for one in reported if one.arm == arm}) == 1


def test_what_is_reported_on_a_real_set_is_the_trial_that_was_best_there(planned):
    sizes = settings("study")
    plan = EXPERIMENTS["real"].stages(sizes, pd.DataFrame([
        {"arm": loss, "role": f"again, {sizes.base.steps} steps", "trial": 0, "val_ap_tuned": 0.1 * place}
        for place, loss in enumerate(tuning.SPACES)]))
    tried = next(plan)
    assert {one.run.loss for one in tried} == {*list(tuning.SPACES)[-4:], "mse"}
    here = [one for one in tried if "pose14" in one.run.dataset]  # the others' sets were not there
    scores = {loss: place for place, loss in enumerate(dict.fromkeys(one.run.loss for one in here))}
    best = [one for one in here if one.trial == scores[one.run.loss]]
    reported = plan.send(pd.DataFrame([
        {"arm": one.arm, "trial": one.trial, "val_ap_tuned": float(one in best)} for one in here]))
    assert {(one.arm, one.run.replace(seed=0)) for one in reported} == {
        (one.arm, one.run.replace(seed=0)) for one in best}


def test_sets_are_known_by_what_was_recorded_where_they_are_not(planned, tmp_path, monkeypatch):
    monkeypatch.setenv("FALLOFF_DATA", str(tmp_path / "nowhere"))
    stored = {sets.parts(name)[0] for name in real.SETS}
    assert stored == sets.RECORDED.keys() and not any(map(sets.is_here, real.SETS))
    keys = {store.key(one.run) for stage in planned("study", "real") for one in stage}
    assert len(keys) == 4 * 5 * (8 + len(settings("study").few))
    write_set(tmp_path / "nowhere", "face5_mtfl")
    assert sets.is_here("face5_mtfl") and sets.expected("face5_mtfl") == sets.digest("face5_mtfl")
    assert sets.digest("face5_mtfl") != sets.RECORDED["face5_mtfl"]


def test_the_leaders_are_those_that_choosing_puts_first():
    rows = [{"arm": loss, "role": "again, 8 steps", "trial": trial, "val_ap_tuned": 0.1 * place + 0.01 * trial}
            for place, loss in enumerate(tuning.SPACES) for trial in (1, 2)]
    wrong = [{"arm": "bce", "role": "again, 4 steps", "trial": 1, "val_ap_tuned": 1.0}]
    assert tuning.leaders(pd.DataFrame(rows + wrong), 8, 3) == list(tuning.SPACES)[:-4:-1]


def test_a_decoder_of_the_record_reads_the_nets_of_the_head_to_head(planned):
    [nets], [read] = planned("study", "head-to-head"), planned("study", "decoders")
    assert {one.run for one in read} <= {one.run for one in nets}
    for loss in experiments.FIVE:
        seeds = {name: {one.run.seed for one in read if one.arm == f"{loss}, {name}"} for name in experiments.DECODERS}
        assert all(found == set(settings("study").seeds) for found in seeds.values())
    assert {one.decoder for one in read} == {one.asked[0].reading for one in read}


@pytest.mark.parametrize("profile", SIZES)
def test_floors_give_as_many_points_as_the_nets_decoder_and_are_chosen_by_no_more_trials(planned, profile):
    tried, reported = planned(profile, "floors")
    sizes = settings(profile, "cpu")
    train = data.load(sizes.base.dataset, "train", sizes.base.size)
    system = Recipe(sizes.base.replace(bias=0.0)).system(train)
    for one in (*tried, *reported):
        assert one.run.count == system.count * (10 if one.arm == "chance, ten times as many" else 1)
        assert (one.run.dataset, one.run.size) == (sizes.base.dataset, sizes.base.size)
    for arm in {one.arm for one in tried}:
        mine = [one for one in tried if one.arm == arm]
        assert [one.trial for one in mine] == list(range(len(mine))) and len(mine) <= sizes.trials
    for arm in {one.arm for one in reported}:
        seeds = [one.run.seed for one in reported if one.arm == arm]
        assert seeds == list(sizes.seeds if "chance" in arm or "at random" in arm else sizes.seeds[:1])
