"""What the record chose for each loss, as the package carries it to where no table is: ``choices.json``."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from falloff.checks import choose
from falloff.project import written
from falloff.run import Run
from falloff.study import recording, tuning
from falloff.study.experiments import settings

PATH = Path(__file__).with_suffix(".json")


def choice(loss: str, **changes: Any) -> Run:
    """The run of a loss at the learning rate, first weights and options that were chosen for it, in 250 steps.

    Args:
        loss: by name, one of those that were tuned.
        changes: other fields of the run.

    Raises:
        ValueError: a loss that was not tuned; as for :class:`falloff.training.Run`.
    """
    return Run(loss=loss, **choose("loss", loss, _carried())).replace(**changes)


def recorded(profile: str = "study") -> dict[str, dict[str, Any]]:
    """The choices by loss, as the committed table of the tuning has them."""
    table, sizes = recording.recorded("tuning", profile), settings(profile)
    found = {}
    for loss in tuning.SPACES:
        run = tuning.of(sizes.base, loss, tuning.chosen(table, loss, sizes.base.steps, count=sizes.finalists).on)
        found[loss] = {"learning_rate": run.learning_rate, "head_std": run.head_std,
                       "loss_options": dict(run.loss_options)}
    return found


def write() -> None:
    """Let the package carry what is recorded."""
    with written(PATH) as temporary:
        temporary.write_text(json.dumps(recorded(), indent=1) + "\n", encoding="utf-8")


@functools.cache
def _carried() -> dict[str, dict[str, Any]]:
    return json.loads(PATH.read_text(encoding="utf-8"))
