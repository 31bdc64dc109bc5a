"""Runs as a user's script has them: ``python some_runs.py some|long STORE [TABLE]`` does them.

Over workers if it is to write a table, else here one after the other.
"""

import sys

from falloff import study
from falloff.study import store
from falloff.training import Run

RUNS = [
    Run(dataset="spots", width=2, steps=60, batch=8, evaluations=2, loss=loss, seed=seed)
    for loss in ("distance-aware", "mse") for seed in range(6)
]
LONG = RUNS[0].replace(steps=600, evaluations=8)

store.CHECKPOINT_EVERY = 0.2  # the workers import this file, too

if __name__ == "__main__":
    what, folder, *table = sys.argv[1:]
    runs, kept = {"some": RUNS, "long": [LONG]}[what], study.Store(folder)
    if table:
        study.run(runs, store=kept).to_json(table[0])
    else:
        for run in runs:
            kept.get_or_train(run)
