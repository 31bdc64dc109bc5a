"""Pictures of others, at no more than 128 pixels a side: which sets, what is tried on each, what is measured there.

Their pictures are in no output: numbers alone are.
"""

from __future__ import annotations

from collections.abc import Iterable

from falloff import sets
from falloff.run import Run
from falloff.study import tuning
from falloff.study.store import Measuring

# Faces and the tiles of tissue are 64 px, people 64 px, the mouse's box 120 x 80 px.
SETS = ("face5_mtfl", "mouse4_openfield(scale=0.5)", "nuclei_crchisto(crop=64)", "pose14_lspet(scale=0.5)")
# A stored set has no pictures but those for training, validation and test.
CHOOSING = Measuring(split="val", metrics=("ap_tuned", "ap_1", "ap", "pck_mean"), threshold="own")
LATE = Measuring(metrics=("ap_tuned", "ap", "ap_05", "ap_1", "ap_4", "pck_mean", "pck", "nme", "f1", "recall",
                          "precision", "error"))


def trials(base: Run, losses: Iterable[str], count: int) -> dict[str, list[Run]]:
    """The runs among which each loss's is chosen on each set, by arm: the first ``count`` points of the one design."""
    losses = list(losses)
    return {f"{loss}, {sets.parts(name)[0]}": [
        tuning.of(base.replace(dataset=name, size=None), loss, values)
        for values in tuning.trials(tuning.SPACES[loss], count)] for name in SETS for loss in losses}
