import math

import pandas as pd
import pytest

from falloff import losses
from falloff.run import Run
from falloff.study import Store, compare, comparison, engine
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
            put(BASE.replace(loss=loss, learning_rate=rate, seed=comparison.TUNING_SEED, evaluations=1))
            for seed in (0, 1):
                put(BASE.replace(loss=loss, learning_rate=rate, seed=seed))
    return put


@pytest.fixture
def compared(stored):
    return compare(BASE, ["focal", "mse"], rates=RATES, seeds=[0, 1])


def test_each_loss_gets_its_best_rate_by_validation_and_then_every_seed(compared):
    chosen = compared.tuning[compared.tuning["chosen"]].set_index("loss")
    assert chosen["learning_rate"].to_dict() == BEST
    assert chosen["at_edge"].to_dict() == {"focal": False, "mse": True}
    rows = compared.table[["loss", "seed", "learning_rate", "ap"]]
    assert rows.to_numpy().tolist() == [
        ["focal", 0, 3e-3, 3e-3], ["focal", 1, 3e-3, 0.1], ["mse", 0, 3e-2, 3e-2], ["mse", 1, 3e-2, 0.1]
    ]
    assert compared.run("mse") == BASE.replace(loss="mse", learning_rate=3e-2)
    assert compared.table["arm"].tolist() == compared.table["loss"].tolist()
    assert compared.curves[["arm", "seed"]].to_numpy().tolist() == rows[["loss", "seed"]].to_numpy().tolist()


def test_every_loss_gets_the_same_budget_and_tuning_uses_no_reported_seed(compared):
    budgets = [
        rows[["learning_rate", "seed", "steps", "batch"]].to_numpy().tolist()
        for _, rows in compared.tuning.groupby("loss")
    ]
    assert budgets[0] == budgets[1] and len(budgets[0]) == len(RATES)
    assert set(compared.tuning["seed"]) == {comparison.TUNING_SEED}
    assert set(compared.table["seed"]) == {0, 1} and set(compared.table["steps"]) == {77}
    assert comparison.TUNING_SEED not in comparison.SEEDS
    assert set(comparison.LOSSES) <= set(losses.names())


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
        comparison.done([BASE, BASE.replace(loss="mse")])
