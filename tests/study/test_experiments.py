import dataclasses
import math

import pandas as pd
import pytest

from falloff import losses, profiles
from falloff.run import Run
from falloff.study import Arm, Experiment, Store, compare, engine, experiments
from falloff.study.experiments import EXPERIMENTS
from falloff.study.store import FINAL
from falloff.training import Record

BASE = Run(steps=77)
RATES = [1e-3, 3e-3, 3e-2]
BEST = {"focal": 3e-3, "mse": 3e-2}  # by validation; on the test split the highest rate is best


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """A store with runs whose AP is made up; what it lacks would start workers, which here fails the test."""
    monkeypatch.setenv("FALLOFF_ROOT", str(tmp_path))
    monkeypatch.setattr(engine, "cluster", lambda *_: pytest.fail("a run was asked for that was not expected"))
    kept = Store()

    def put(run):
        unknown = dict.fromkeys(FINAL.metrics, math.nan)
        validation = unknown | {"ap": -abs(math.log(run.learning_rate / BEST[run.loss]))}
        final = unknown | {"ap": run.learning_rate if run.seed == 0 else run.seed / 10}
        curve = [{"step": run.steps, "ap": final["ap"]}]
        kept.put(Record(run, curve, 1.0, {}, {"model": "any"}, {}, validation, final))

    for loss in BEST:
        for rate in RATES:
            put(BASE.replace(loss=loss, learning_rate=rate, seed=experiments.TUNING_SEED, evaluations=1))
            for seed in (0, 1):
                put(BASE.replace(loss=loss, learning_rate=rate, seed=seed))
    return put


@pytest.fixture
def comparison(stored):
    return compare(BASE, ["focal", "mse"], rates=RATES, seeds=[0, 1])


def test_each_loss_gets_its_best_rate_by_validation_and_then_every_seed(comparison):
    chosen = comparison.tuning[comparison.tuning["chosen"]].set_index("loss")
    assert chosen["learning_rate"].to_dict() == BEST
    assert chosen["at_edge"].to_dict() == {"focal": False, "mse": True}
    rows = comparison.table[["loss", "seed", "learning_rate", "ap"]]
    assert rows.to_numpy().tolist() == [
        ["focal", 0, 3e-3, 3e-3], ["focal", 1, 3e-3, 0.1], ["mse", 0, 3e-2, 3e-2], ["mse", 1, 3e-2, 0.1]
    ]
    assert comparison.run("mse") == BASE.replace(loss="mse", learning_rate=3e-2)
    assert comparison.table["arm"].tolist() == comparison.table["loss"].tolist()
    assert comparison.curves[["arm", "seed"]].to_numpy().tolist() == rows[["loss", "seed"]].to_numpy().tolist()


def test_every_loss_gets_the_same_budget_and_tuning_uses_no_reported_seed(comparison):
    budgets = [
        rows[["learning_rate", "seed", "steps", "batch"]].to_numpy().tolist()
        for _, rows in comparison.tuning.groupby("loss")
    ]
    assert budgets[0] == budgets[1] and len(budgets[0]) == len(RATES)
    assert set(comparison.tuning["seed"]) == {experiments.TUNING_SEED}
    assert set(comparison.table["seed"]) == {0, 1} and set(comparison.table["steps"]) == {77}
    assert experiments.TUNING_SEED not in experiments.SEEDS
    assert set(experiments.LOSSES) <= set(losses.names())


def test_one_rate_is_at_both_edges(stored):
    found = compare(BASE, ["focal"], rates=[3e-3], seeds=[0])
    assert found.tuning[["chosen", "at_edge"]].to_numpy().tolist() == [[True, True]]


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"names": []}, "names must hold at least one value, each once"),
        ({"names": ["focal", "focal"]}, "names"),
        ({"rates": []}, "rates"),
        ({"seeds": [1, 1]}, "seeds must hold .* got \\[1, 1\\]"),
        ({"names": ["focall"]}, "did you mean 'focal'"),
    ],
)
def test_bad_comparisons_are_named(stored, changed, named):
    with pytest.raises(ValueError, match=named):
        compare(BASE, **{"names": ["focal"], "rates": [1e-3], "seeds": [0], **changed})


def test_a_comparison_with_a_failed_run_stops(monkeypatch):
    failed = pd.DataFrame([{"loss": "focal", "failure": None}, {"loss": "mse", "failure": "it burnt"}])
    monkeypatch.setattr(engine, "run", lambda runs, stage: failed)
    with pytest.raises(RuntimeError, match="1 of 2 runs failed; the first: it burnt"):
        experiments.done([BASE, BASE.replace(loss="mse")])


# Experiments.


def test_an_arm_is_tuned_by_itself_or_as_another_is(stored):
    for seed in (0, 1):
        stored(BASE.replace(loss="focal", learning_rate=3e-3, loss_options={"gamma": 1}, seed=seed))
    arms = {name: Arm(changes={"loss": name}) for name in ("focal", "mse")}
    arms["gamma 1"] = Arm(changes={"loss": "focal", "loss_options": {"gamma": 1}}, as_tuned="focal")
    table = Experiment(question="Which?", arms=arms).carry_out(BASE, rates=RATES, seeds=[0, 1]).whole
    assert table.groupby(["role", "arm"]).size().to_dict() == {
        ("tuning", "focal"): 3, ("tuning", "mse"): 3, ("reported", "focal"): 2, ("reported", "mse"): 2,
        ("reported", "gamma 1"): 2}
    changed = table[table["arm"] == "gamma 1"]
    assert set(changed["learning_rate"]) == {3e-3} and sorted(changed["seed"]) == [0, 1]
    assert [options["gamma"] for options in changed["loss_options"]] == [1, 1]


def test_an_arm_may_search_another_field_of_its_own(stored):
    steps = {"learning_rate": [3e-2], "steps": [77, 78]}
    for seed in (experiments.TUNING_SEED, 0):
        stored(BASE.replace(loss="mse", learning_rate=3e-2, steps=78, seed=seed, evaluations=1 if seed else 10))
    arms = {"mse": Arm(changes={"loss": "mse"}, search=steps), "focal": Arm(changes={"loss": "focal"})}
    found = Experiment(question="Which?", arms=arms).carry_out(BASE, rates=RATES, seeds=[0])
    assert found.tuning["arm"].tolist() == ["mse"] * 2 + ["focal"] * 3
    assert found.run("mse") == BASE.replace(loss="mse", learning_rate=3e-2, steps=77)  # of equal ones the first


@pytest.mark.parametrize("metrics", [{"tuned_by": "app"}, {"metrics": ("app",)}])
def test_a_metric_that_is_not_there_is_named(metrics):
    with pytest.raises(ValueError, match=r"no metric is named 'app' .*did you mean 'ap'"):
        Experiment(question="Which?", arms={"mse": Arm(changes={"loss": "mse"})}, **metrics)


def test_an_arm_that_follows_none_is_refused():
    with pytest.raises(ValueError, match="arm 'b' must be tuned as another arm"):
        Experiment(question="Which?", arms={"b": Arm(as_tuned="a")})


def test_the_experiments_of_the_study_ask_for_runs_that_can_be():
    for one in EXPERIMENTS.values():
        assert one.question.endswith("?")
        for arm in one.arms.values():
            Run().replace(**arm.changes)


# Profiles.


@pytest.mark.parametrize("name", profiles.PROFILES)
def test_a_profile_says_what_an_experiment_takes_and_nothing_else(name):
    given = profiles.profile(name)
    fields = {f.name for f in dataclasses.fields(Run)}
    assert given.keys() <= fields | {"rates", "seeds"}
    found = experiments.settings(name, device="cpu")
    assert found.keys() - {"base"} == given.keys() - fields
    assert found["base"] == Run(**{what: given[what] for what in given.keys() & fields} | {"device": "cpu"})


def test_a_profile_leaves_what_it_does_not_name_and_a_device_goes_before_it():
    assert experiments.settings("quick") == {"base": Run()}
    assert experiments.settings("full")["base"].device == "cuda"
    assert experiments.settings("full", "cpu")["base"] == Run(steps=4000)
    assert profiles.PROFILES["full"]["device"] == "cuda"  # nothing was changed in place


def test_a_profile_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="profile must be one of quick, full, tiny, got 'huge'"):
        experiments.settings("huge")
