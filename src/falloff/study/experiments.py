"""Experiments made of arms: what ``make record`` runs, what chapters compare and what claims are judged on.

Every arm of an experiment gets the same data, decoder, steps and batches. What it searches, its learning rate by
default, is chosen on the validation split by one run per choice with a seed of its own; the choice is then trained with
every other seed and measured on the test split.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from falloff import measures
from falloff.profiles import profile
from falloff.run import Option, Run
from falloff.study import engine

RATES = (3e-3, 1e-2, 3e-2, 1e-1)
SEEDS = (0, 1, 2)
TUNING_SEED = 1000  # not among those that are reported

# The losses that the study compares, in the order in which the chapters introduce them.
LOSSES = ("bce", "weighted-bce", "focal", "soft-bce", "mse", "distance-aware")

Search = Mapping[str, Sequence[object]]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way of doing it.

    Args:
        changes: fields of the experiment's base run that are other here.
        search: what is chosen on validation: values of a field, by its name; None is the experiment's learning rates.
        as_tuned: the arm whose choice is taken over, in place of a search of its own.
    """

    changes: Mapping[str, object] = field(default_factory=dict)
    search: Search | None = None
    as_tuned: str | None = None


@dataclass(frozen=True)
class Result:
    """What came out of an experiment.

    ``tuning``: one row per arm and choice, with ``chosen`` and ``at_edge`` (a value chosen is the least or most tried).
    ``table``: one row per arm and seed at its choice. ``curves``: one row per arm, seed and evaluation.
    ``runs``: the runs behind ``table``. The tables name the arm in ``arm``.
    """

    tuning: pd.DataFrame
    table: pd.DataFrame
    curves: pd.DataFrame
    runs: list[Run]

    def run(self, arm: str) -> Run:
        """The first run of an arm at its choice."""
        return self.runs[self.table["arm"].tolist().index(arm)]

    @property
    def whole(self) -> pd.DataFrame:
        """All runs as one table, with their ``role``: "tuning" or "reported"."""
        parts = [self.tuning.assign(role="tuning"), self.table.assign(role="reported")]
        return pd.concat([part for part in parts if len(part)], ignore_index=True)


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A question, and the arms that answer it.

    Args:
        question: as its page asks it.
        arms: by name.
        metrics: what its page shows, by name.
        tuned_by: the metric on the validation split that chooses.
    """

    question: str
    arms: Mapping[str, Arm]
    metrics: tuple[str, ...] = ("ap", "error", "presence_auroc")
    tuned_by: str = "ap"

    def __post_init__(self) -> None:
        for name, arm in self.arms.items():
            if arm.as_tuned is not None and (arm.search or arm.as_tuned not in self.arms):
                raise ValueError(f"arm {name!r} must be tuned as another arm and search nothing, got {arm}")
        for metric in (*self.metrics, self.tuned_by):
            measures.get(metric)

    def carry_out(self, base: Run, *, rates: Sequence[float] = RATES, seeds: Sequence[int] = SEEDS) -> Result:
        """Tune every arm, then train its choice with every seed.

        Args:
            base: the run that all arms share.
            rates: learning rates that an arm without a search of its own chooses from.
            seeds: of the runs that are reported.

        Raises:
            ValueError: no arm, rate or seed, or one twice.
            RuntimeError: a run failed; what had finished is stored.
        """
        for what, values in (("arms", list(self.arms)), ("rates", rates), ("seeds", seeds)):
            if len(values) == 0 or len(set(values)) != len(values):
                raise ValueError(f"{what} must hold at least one value, each once, got {list(values)}")
        bases = {name: base.replace(**arm.changes) for name, arm in self.arms.items()}
        tuning, chosen = self._tune(bases, {"learning_rate": tuple(rates)})
        named = [(name, bases[name].replace(**chosen[self.arms[name].as_tuned or name], seed=seed))
                 for name in self.arms for seed in seeds]
        runs = [run for _, run in named]
        table = done(runs, "2 of 2, every seed").assign(arm=[name for name, _ in named])
        curves = pd.concat([engine.curves([run]).assign(arm=name) for name, run in named], ignore_index=True)
        return Result(tuning, table, curves, runs)

    def _tune(self, bases: Mapping[str, Run], rates: Search) -> tuple[pd.DataFrame, dict[str, dict[str, object]]]:
        """The table of all trials, and each searching arm's choice."""
        trials = []
        for name, arm in self.arms.items():
            search = rates if arm.search is None else arm.search
            if arm.as_tuned is None:
                trials += [(name, dict(zip(search, values, strict=True)), search)
                           for values in itertools.product(*search.values())]
        runs = [bases[name].replace(**trial, seed=TUNING_SEED, evaluations=1) for name, trial, _ in trials]
        table = done(runs, "1 of 2, tuning").assign(arm=[name for name, _, _ in trials], chosen=False, at_edge=False)
        score = table[f"val_{self.tuned_by}"] * (-1 if measures.get(self.tuned_by).better == "low" else 1)
        best = score.groupby(table["arm"]).idxmax()
        table.loc[best, "chosen"] = True
        for row in best:
            _, trial, search = trials[row]
            table.loc[row, "at_edge"] = any(value in (min(search[what]), max(search[what]))
                                            for what, value in trial.items())
        return table, {trials[row][0]: trials[row][1] for row in best}


def compare(
    base: Run, names: Sequence[str], *, rates: Sequence[float] = RATES, seeds: Sequence[int] = SEEDS,
    options: Mapping[str, Mapping[str, Option]] | None = None,
) -> Result:
    """Tune and measure some losses by name, each an arm.

    Args:
        base: the run that all share; its loss, learning rate and seed are replaced.
        names: of losses.
        rates, seeds: as for :meth:`Experiment.carry_out`.
        options: of each loss; the library's defaults where there are none.

    Raises:
        ValueError: as for :meth:`Experiment.carry_out`; an unknown loss.
        RuntimeError: a run failed; what had finished is stored.
    """
    if not names or len(set(names)) != len(names):
        raise ValueError(f"names must hold at least one value, each once, got {list(names)}")
    return Experiment(question="", arms=_losses(names, options or {})).carry_out(base, rates=rates, seeds=seeds)


def done(runs: list[Run], stage: str = "") -> pd.DataFrame:
    """The table of some runs that must all succeed; ``stage`` as for :func:`falloff.study.run`.

    Raises:
        RuntimeError: a run failed; what had finished is stored.
    """
    table = engine.run(runs, stage=stage)
    failed = table[table["failure"].notna()]
    if len(failed):
        raise RuntimeError(f"{len(failed)} of {len(runs)} runs failed; the first: {failed['failure'].iloc[0]}")
    return table.drop(columns="failure")


def settings(name: str, device: str | None = None) -> dict[str, Any]:
    """What :meth:`Experiment.carry_out` takes, of a profile: the run that all share, the rates, the seeds.

    Raises:
        ValueError: there is no such profile or device.
    """
    given = profile(name) | ({} if device is None else {"device": device})
    fields = {f.name for f in dataclasses.fields(Run)}
    return {"base": Run(**{what: value for what, value in given.items() if what in fields}),
            **{what: given[what] for what in ("rates", "seeds") if what in given}}


def _losses(names: Sequence[str], options: Mapping[str, Mapping[str, Option]]) -> dict[str, Arm]:
    return {name: Arm(changes={"loss": name, "loss_options": dict(options.get(name, {}))}) for name in names}


def _variants(loss: str, changed: Mapping[str, Mapping[str, Option]]) -> dict[str, Arm]:
    """A loss, and variants of it at its own tuned rate."""
    variants = {f"{loss}, {name}": Arm(changes={"loss": loss, "loss_options": options}, as_tuned=loss)
                for name, options in changed.items()}
    return _losses([loss], {}) | variants


EXPERIMENTS = {
    "head-to-head": Experiment(
        question="Which of six losses finds and names sparse points best, with one net, decoder and tuning budget?",
        arms=_losses(LOSSES, {}),
    ),
    "ablation": Experiment(
        question="What does each part of the distance-aware loss do?",
        arms=_variants("distance-aware", {"alpha 0": {"alpha": 0.0}, "beta 1": {"beta": 1.0},
                                          "sigma 0.75": {"sigma": 0.75}, "sigma 3": {"sigma": 3.0}}),
    ),
}
