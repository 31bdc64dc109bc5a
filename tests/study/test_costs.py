"""What a run will cost: its work against what is computed, its memory against tensors counted by hand and a process."""

import os
import subprocess
import sys

import pytest
import torch

from falloff.run import Run
from falloff.study import costs
from falloff.study.floors import Floor
from falloff.study.store import Measuring

BASE = Run(dataset="spots", width=2, batch=4, steps=2, evaluations=1, watched=("ap",))  # 24 pictures of 16 x 16 pixels
VAL, TEST = Measuring(split="val", metrics=("ap",), threshold="own"), Measuring(metrics=("ap",))


def test_work_is_of_the_pictures_that_a_run_will_see(spots):
    plain = Run(steps=10)
    assert costs.work(plain.replace(steps=30)) == pytest.approx(3 * costs.work(plain))
    assert costs.work(plain.replace(batch=32)) == pytest.approx(2 * costs.work(plain))
    assert costs.work(plain.replace(size=96)) == pytest.approx((96 / 64) ** 2 * costs.work(plain))
    variant = plain.replace(dataset="digits(points=16, size=96)")
    assert costs.work(variant) == costs.work(variant.replace(size=128)) == costs.work(plain.replace(size=96))
    assert costs.work(plain.replace(dataset="spots")) == pytest.approx(costs.work(plain) / 16)
    assert 2 < costs.work(plain.replace(width=32)) / costs.work(plain) < 4


def test_all_floors_cost_the_same():
    assert costs.work(Floor()) == costs.work(Floor(floor="chance", seed=3))


def test_the_peak_is_what_is_there_at_once():
    def function():
        one = torch.zeros(1000)
        other = one + 1  # 8,000 bytes
        one.mul_(2)
        view = other[:10].reshape(2, 5)
        del one, other
        small = torch.ones(100)  # 4,400: the view keeps what it shows
        return view, small, torch.zeros(0)

    assert costs.peak(function) == 8000
    assert costs.peak(lambda: torch.zeros(1000).add_(1)) == 4000


def test_a_training_holds_its_weights_their_gradients_and_moments_and_what_backward_needs(spots):
    """From below by what autograd says that it saves."""
    from falloff import data, training
    from falloff.recipe import Recipe

    saved = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes(), tensor
        return tensor

    run = BASE.replace(batch=8, width=8, form="eager", precision="float32")
    dataset = data.load("spots", "train")
    system = Recipe(run).system(dataset)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        chosen = torch.arange(8)
        system.loss(system(training.normalised(dataset.images[chosen])), dataset.points[chosen])
    weights = sum(4 * one.numel() for one in system.parameters())
    own = {one.untyped_storage().data_ptr() for one in system.parameters()}
    kept = sum(size for place, (size, _) in saved.items() if place not in own)
    assert 3 * weights + kept < costs.trained(run) < 3 * (4 * weights + kept)


def test_more_pictures_or_features_take_more_and_large_batches_are_scaled(spots):
    found = [costs.trained(BASE.replace(**one)) for one in ({}, {"width": 32}, {"width": 32, "batch": 16})]
    assert found[0] < found[1] < found[2]
    assert costs.trained(BASE.replace(batch=128)) == pytest.approx(4 * costs.trained(BASE.replace(batch=32)), rel=0.01)


def test_measuring_holds_the_maps_of_all_splits_that_are_asked_for(spots):
    maps = 8 * 2 * 16 * 16 * 4  # 8 pictures, 2 classes
    assert costs.measured(BASE, (VAL,)) == 3 * maps
    assert costs.measured(BASE, (TEST,)) == costs.measured(BASE, (VAL, TEST))
    assert costs.measured(BASE, (TEST,)) == 5 * maps  # and what the threshold is chosen on
    assert costs.measured(Floor(dataset="spots", floor="chance"), (VAL,)) == 2 * maps


def test_memory_is_that_of_the_largest_run_on_its_device(spots, monkeypatch):
    asked = []
    monkeypatch.setattr(costs, "trained", lambda run: asked.append(run) or 2.5e9)
    some = [(BASE.replace(width=width), (VAL,)) for width in (2, 8, 4)]
    assert costs.memory(some) == "some 3.9 GB" and asked == [some[1][0]]
    gpu = [(BASE.replace(device="cuda"), (VAL,))]
    assert costs.memory(gpu) == "some 2.5 GB of the GPU and 0.4 GB beside"
    assert costs.memory([(Floor(dataset="spots"), (VAL,))]) == "some 0.4 GB"


PROCESS = """
import re
from pathlib import Path
from falloff.run import Run
from falloff.training import train

def memory(what):
    return 1024 * int(re.search(what + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

run = Run(form="eager", precision="float32", steps=2, evaluations=1, width=64, batch=32, bias=0.0, watched=("ap",))
train(run.replace(width=2, batch=2))
Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
before = memory("VmRSS")
train(run)
print(memory("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems count a process's memory otherwise")
def test_a_real_training_takes_what_was_forecast():
    run = Run(width=64, batch=32, bias=0.0, watched=("ap",))
    done = subprocess.run([sys.executable, "-c", PROCESS], capture_output=True, text=True, timeout=300, check=True,
                          env=os.environ | {"MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1"})
    assert 1 / 1.5 < costs.HELD * costs.trained(run) / float(done.stdout) < 1.5
