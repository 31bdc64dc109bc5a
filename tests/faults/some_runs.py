"""Runs as a user's script has them: ``python some_runs.py STORE TABLE [long]`` does them and writes their table."""

import sys

from falloff import study
from falloff.study import store
from falloff.training import Run

RUNS = [
    Run(dataset="spots", width=2, steps=80, batch=8, evaluations=2, loss=loss, seed=seed)
    for loss in ("distance-aware", "mse") for seed in range(6)
]
LONG = RUNS[0].replace(steps=800, evaluations=8)

store.CHECKPOINT_EVERY = 0.2  # the workers import this file, too

if __name__ == "__main__":
    folder, table, *long = sys.argv[1:]
    study.run([LONG] if long else RUNS, store=study.Store(folder)).to_json(table)
