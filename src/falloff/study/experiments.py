"""The experiments by name: what the chapters show, what ``make record`` runs and what claims are decided on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from falloff.profiles import profile
from falloff.study import protocol
from falloff.study.protocol import LOSSES, RATES, SEEDS
from falloff.training import Option, Run


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Losses under one protocol, and variants of the first of them at its own tuned rate with the same seeds."""

    question: str
    losses: tuple[str, ...]
    variants: Mapping[str, Mapping[str, Option]] = field(default_factory=dict)

    def run(self, base: Run, rates: Sequence[float] = RATES, seeds: Sequence[int] = SEEDS) -> pd.DataFrame:
        """All runs as one table, those of the tuning too.

        Columns beside those of :func:`falloff.study.run`: ``role`` ("tuning", "reported" or "variant"), ``variant``,
        ``chosen`` and ``at_edge`` of the tuning's rows.

        Raises:
            RuntimeError: a run failed; what had finished is stored.
        """
        found = protocol.compare(base, self.losses, rates=rates, seeds=seeds)
        tuned = found.run(self.losses[0])
        changed = {
            (name, seed): tuned.replace(loss_options=dict(options), seed=seed)
            for name, options in self.variants.items() for seed in seeds
        }
        parts = [found.tuning.assign(role="tuning"), found.table.assign(role="reported")]
        if changed:
            variant = [name for name, _ in changed]
            parts.append(protocol.done(list(changed.values())).assign(role="variant", variant=variant))
        return pd.concat(parts, ignore_index=True)

    def of_profile(self, name: str, device: str | None = None) -> pd.DataFrame:
        """The table of a profile, on its own device or another.

        Raises:
            ValueError: there is no such profile or device.
        """
        return self.run(**settings(name, device))


EXPERIMENTS = {
    "head-to-head": Experiment(
        question="Which of six losses finds and names sparse points best, with one net, decoder and tuning budget?",
        losses=LOSSES,
    ),
    "ablation": Experiment(
        question="What does each part of the distance-aware loss do?",
        losses=("distance-aware",),
        variants={"alpha 0": {"alpha": 0.0}, "beta 1": {"beta": 1.0}, "sigma 0.75": {"sigma": 0.75},
                  "sigma 3": {"sigma": 3.0}},
    ),
}


def settings(name: str, device: str | None = None) -> dict[str, object]:
    """What :meth:`Experiment.run` takes, of a profile: the run that all share, the rates, the seeds."""
    given = dict(profile(name))
    if device is not None:
        given["device"] = device
    grid = {what: given.pop(what) for what in ("rates", "seeds") if what in given}
    fields = {f.name for f in dataclasses.fields(Run)}
    return {"base": Run(**{what: value for what, value in given.items() if what in fields}), **grid}
