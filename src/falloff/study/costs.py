"""What a run will cost, before it is done: time in no unit, and memory."""

from __future__ import annotations

import functools
import math
import weakref
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from falloff import data, sets
from falloff.run import Run
from falloff.study.floors import Floor
from falloff.study.store import Measuring
from falloff.training import train

WIDE = 12  # the width of a net at which the time of a step begins to grow with its square
PROCESS = 4e8  # bytes of a worker that has imported what it needs
HELD = 1.4  # what a worker takes from its machine over what its tensors need at once
STEPS = 2  # after which an optimiser has all that it keeps
BATCH = 32  # pictures of a step that is tried


def work(run: Run | Floor) -> float:
    """What a training costs, in no unit: its pictures, times their pixels, times what the net does at each; a floor 1.

    On one core a step took 1, 3 and 11 times as long at widths of 16, 32 and 64, and as long with 300 labelled points a
    picture as with 6.
    """
    if not isinstance(run, Run):
        return 1.0
    return run.steps * run.batch * _pixels(run.dataset, run.size) * run.width * (1 + run.width / WIDE)


def memory(some: Collection[tuple[Run | Floor, Sequence[Measuring]]]) -> str:
    """What the largest of some runs and what is measured of them takes, in words: of the machine, or also of its GPU.

    It is the larger of what training and measuring need, and what a process needs to begin with.
    """
    run, asked = max(some, key=lambda one: _largeness(*one))
    beside, of_training = measured(run, asked), 0.0
    if isinstance(run, Run):
        pictures = data.load(run.dataset, "train", run.size).images.nbytes
        beside, of_training = beside + pictures, trained(run) + pictures
        if _is_on_gpu(run):
            return f"some {of_training / 1e9:.1f} GB of the GPU and {process(beside) / 1e9:.1f} GB beside"
    return f"some {process(max(beside, of_training)) / 1e9:.1f} GB"


def trained(run: Run) -> float:
    """Bytes of the tensors that a training holds at once on its device: weights, their gradients and moments, and maps.

    A few steps are done on the CPU and their tensors counted, in float32 and with the losses in plain operations, which
    take more than bfloat16 and a compiler do. Larger batches than :data:`BATCH` are taken to need as much more.
    """
    tried = run.replace(device="cpu", precision="float32", form="eager", steps=STEPS, evaluations=1,
                        learning_rate=1e-3, batch=min(run.batch, BATCH))
    if _is_on_gpu(run):
        tried = tried.replace(bias=0.0)  # the first bias is sought on the CPU
    return run.batch / tried.batch * peak(lambda: train(tried))


def measured(run: Run | Floor, asked: Sequence[Measuring]) -> float:
    """Bytes of the maps that measuring a run holds at once, at the resolution of the pictures.

    They are those of each split that is asked for, as the system puts them out and as scores, and one more of the
    largest, for what metrics make of them.
    """
    splits = {split for one in asked for split in
              ((one.split,) if one.threshold == "own" else (one.split, one.reference))}
    sizes = [len(part.images) * len(part.classes) * math.prod(part.size) * 4
             for part in (data.load(run.dataset, split, run.size) for split in splits)]
    return (2 if isinstance(run, Run) else 1) * sum(sizes) + max(sizes)


def process(needed: float) -> float:
    """Bytes of a worker whose tensors need so many at once."""
    return PROCESS + HELD * needed


def pictures(run: Run | Floor) -> tuple[str, int]:
    """What is alike where the maps of two runs take the same room: the set, whatever is made of it, and its pixels."""
    return sets.parts(run.dataset)[0], _pixels(run.dataset, run.size)


def peak(function: Callable[[], object]) -> int:
    """The most bytes at once of the tensors that a function makes."""
    with _Counted() as counted:
        function()
    return counted.most


class _Counted(TorchDispatchMode):
    """Counts the bytes of what operations put out, until it is freed."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.known: dict[int, int] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        for one in tree_leaves(found):
            if isinstance(one, Tensor):
                self._add(one.untyped_storage())
        return found

    def _add(self, storage: torch.UntypedStorage) -> None:
        place, size = storage.data_ptr(), storage.nbytes()
        if size and place not in self.known:
            self.known[place] = size
            self.now += size
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self._free, place)

    def _free(self, place: int) -> None:
        self.now -= self.known.pop(place)


def _is_on_gpu(run: Run) -> bool:
    return torch.device(run.device).type == "cuda"


def _largeness(run: Run | Floor, asked: Sequence[Measuring]) -> tuple[float, int]:
    """What orders runs by their memory."""
    features = run.batch * run.width if isinstance(run, Run) else 1
    return _pixels(run.dataset, run.size) * features, len(asked)


@functools.cache
def _pixels(dataset: str, size: int | None) -> int:
    """Of a picture: a variant may have a size of its own."""
    return math.prod(data.load(dataset, "val", size).size)
