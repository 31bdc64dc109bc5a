"""Six tiny runs give, bit for bit, the weights and numbers that they gave when they were written down.

A refactoring moves no result, which noise of seeds would hide. The bits are those of one kind of processor and one
version of PyTorch, so ``snapshot.json`` holds them by machine; on one that it does not know the test is skipped.
``FALLOFF_SNAPSHOT=write pytest tests/test_snapshot.py`` writes this machine's down, before a change that moves none.
"""

import copy
import hashlib
import json
import os
import platform
import struct
from pathlib import Path

import pytest
import torch

from falloff import data, measures, training
from falloff.machine import machine as kind_of_machine
from falloff.recipe import Recipe
from falloff.run import Run
from falloff.training import train

FILE = Path(__file__).with_name("snapshot.json")
TINY = Run(steps=6, evaluations=2, width=4, learning_rate=0.01, precision="float32")
RUNS = {
    "compiled, bfloat16": TINY.replace(loss="distance-aware", precision="bfloat16"),
    "eager, SGD, from bias 0": TINY.replace(loss="bce", optimizer="sgd", bias=0.0, seed=1),
    "raw outputs, constant rate": TINY.replace(loss="mse", loss_options={"sigma": 2.0}, schedule="constant",
                                               optimizer="adamw"),
    "softmax over classes": TINY.replace(loss="softmax-distance-aware", batch=8),
    "resumed, running normaliser": TINY.replace(loss="focal", loss_options={"normalizer": "running"}),
    "whole maps, large head": TINY.replace(loss="dice", head_std=0.1, seed=2),
}
NUMBERS = ("ap", "ap_worst_class", "ap_1", "ap_4", "f1", "threshold", "error", "score_at_points", "score_elsewhere",
           "class_accuracy", "presence_auroc", "calibration_error")
EAGER = {"eager, SGD, from bias 0", "resumed, running normaliser"}


class Halfway:
    """Keeps the state after the third step."""

    def __init__(self):
        self.steps, self.state = 0, None

    def load(self):
        return self.state

    def due(self):
        self.steps += 1
        return self.steps == 3

    def save(self, state):
        self.state = copy.deepcopy(state)  # the net goes on changing


def machine():
    """What decides the bits of a sum."""
    found = kind_of_machine(torch.device("cpu"))
    kind = f"{found['model']}, {torch.backends.cpu.get_cpu_capability()}, {platform.machine()}"
    return f"{kind}, torch {torch.__version__}"


def measured(record, split, threshold=None):
    """What the study measures of a run by default."""
    with Recipe(record.run).pinned():
        dataset = data.load(record.run.dataset, split, record.run.size)
        said = training.predict(record.system(), dataset, record.run)
        return measures.measure(said, dataset, NUMBERS, threshold=threshold)


def bits(record):
    """Digest of the weights in their order, and of every number."""
    weights = hashlib.sha256()
    for name, value in record.weights.items():
        if isinstance(value, torch.Tensor) and not name.startswith("criterion."):  # a loss's running mean is no weight
            weights.update(value.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    validation = measured(record, "val")
    final = measured(record, "test", validation["threshold"])
    numbers = {f"curve {row['step']} {name}": row[name] for row in record.curve for name in ("train_loss", "ap")}
    numbers |= {f"validation {name}": value for name, value in validation.items()}
    numbers |= {f"test {name}": value for name, value in final.items()}
    return {"weights": weights.hexdigest()[:16],
            "numbers": {name: struct.pack(">d", value).hex() for name, value in numbers.items()}}


def trained(name, monkeypatch):
    monkeypatch.setenv("FALLOFF_COMPILE", "0" if name in EAGER else "1")
    run = RUNS[name]
    if not name.startswith("resumed"):
        return train(run)
    halfway = Halfway()
    train(run, checkpoint=halfway)
    return train(run, checkpoint=halfway)


@pytest.mark.parametrize("name", RUNS)
def test_a_fixed_run_gives_the_bits_that_it_gave(name, monkeypatch):
    found = bits(trained(name, monkeypatch))
    known = json.loads(FILE.read_text())
    if os.environ.get("FALLOFF_SNAPSHOT") == "write":
        known.setdefault(machine(), {})[name] = found
        FILE.write_text(json.dumps(known, indent=1) + "\n")
    if machine() not in known:
        pytest.skip(f"no bits are written down for {machine()}; FALLOFF_SNAPSHOT=write does it")
    assert found == known[machine()][name]
