"""A sweep as a lab would run it: ``python sweep.py STORE TABLE`` does the runs and pickles their table."""

import sys

from falloff import study
from falloff.training import Run

# Compiling would take each process 20 s where the cache is new, as the cluster's folder is.
RUNS = [
    Run(width=4, steps=40, evaluations=2, batch=8, loss=loss, seed=seed, form="eager")
    for loss in ("distance-aware", "mse")
    for seed in range(6)
]

if __name__ == "__main__":  # the workers of a local cluster import this file
    study.run(RUNS, store=study.Store(sys.argv[1])).to_pickle(sys.argv[2])
