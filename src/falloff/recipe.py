"""What a run's description comes to in objects: the loop asks for them and knows nothing of how they are named."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from falloff import data, losses, systems
from falloff.data import Dataset
from falloff.losses import autograd
from falloff.machine import check_device, machine, resolve_form, resolve_precision, versions
from falloff.run import Run
from falloff.systems import System, Task

WATCHED = 96  # validation images measured along the way
TYPICAL = 256  # training images whose points say where the last layer starts
WARMUP = 0.05  # share of the steps over which the learning rate rises


@dataclass(frozen=True)
class Recipe:
    """A run, part by part."""

    run: Run

    @property
    def device(self) -> torch.device:
        """Where it is computed; a ValueError where that is not there."""
        return check_device(self.run.device)

    def datasets(self) -> tuple[Dataset, Dataset]:
        """The training split, and the first images of the validation split, which are measured along the way."""
        train, val = (data.load(self.run.dataset, split, self.run.size) for split in ("train", "val"))
        return train, val.head(WATCHED)

    def system(self, dataset: Dataset) -> System:
        """A system for a data set, with fresh weights."""
        typical = dataset.head(TYPICAL)
        if not bool(typical.points.valid.any()):  # labels may be rarer than one image in so many
            typical = dataset
        return self.system_for(Task(dataset.images.shape[1], dataset.size, len(dataset.classes), typical.points,
                                    typical.mask))

    def system_for(self, task: Task) -> System:
        """A system for a task, with fresh weights."""
        run = self.run
        loss = None if run.loss is None else losses.make(run.loss, **run.loss_options)
        return systems.make(run.system, task, model=run.model, model_options=run.model_options, width=run.width,
                            loss=loss, head_std=run.head_std, bias=run.bias, **run.system_options)

    def augmentation(self, dataset: Dataset) -> Callable[..., tuple] | None:
        """What varies images with their points and mask; None for nothing."""
        return data.augmentation(swap=dataset.swap, **self.run.augment) if self.run.augment else None

    def optimizer(self, system: System) -> torch.optim.Optimizer:
        """Of the system's weights."""
        rate = self.run.learning_rate
        if self.run.optimizer == "sgd":
            return torch.optim.SGD(system.parameters(), lr=rate, momentum=0.9, nesterov=True)
        kind = torch.optim.AdamW if self.run.optimizer == "adamw" else torch.optim.Adam
        return kind(system.parameters(), lr=rate)

    def scheduler(self, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        """Of the learning rate, moved after each step."""
        steps = self.run.steps
        warmup = max(1, round(WARMUP * steps))

        def factor(step: int) -> float:
            rising = min(1.0, (step + 1) / warmup)
            falling = 0.5 * (1 + math.cos(math.pi * step / steps)) if self.run.schedule == "cosine" else 1.0
            return rising * falling

        return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)

    def evaluated(self) -> set[int]:
        """The steps after which validation images are measured."""
        return {round(self.run.steps * (k + 1) / self.run.evaluations) for k in range(self.run.evaluations)}

    def batches(self, count: int) -> Iterator[Tensor]:
        """Indices of each step's images: epochs of ``count`` in an order that the seed alone decides."""
        generator = torch.Generator().manual_seed(self.run.seed)
        left = torch.empty(0, dtype=torch.int64)
        for _ in range(self.run.steps):
            while len(left) < self.run.batch:
                left = torch.cat([left, torch.randperm(count, generator=generator)])
            chosen, left = left[: self.run.batch], left[self.run.batch :]
            yield chosen

    def autocast(self) -> torch.autocast:
        """The precision of convolutions, in a block."""
        half = resolve_precision(self.run.precision, self.run.device) == "bfloat16"
        return torch.autocast(torch.device(self.run.device).type, torch.bfloat16, enabled=half)

    @contextmanager
    def pinned(self) -> Iterator[None]:
        """What bits depend on, in a block: the seed, the losses' form, and one thread, so that no core splits a sum."""
        threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else cuBLAS picks its sums freely
        compiled = resolve_form(self.run.form, self.run.device) == "compiled"
        with torch.random.fork_rng(), autograd.compiled(compiled):
            torch.manual_seed(self.run.seed)
            torch.set_num_threads(1)
            torch.use_deterministic_algorithms(torch.cuda.is_available(), warn_only=True)  # one CPU thread is so
            try:
                yield
            finally:
                torch.set_num_threads(threads)
                torch.use_deterministic_algorithms(deterministic)
            if compiled and not losses.compiler_works():
                raise RuntimeError("the losses' compiled form failed here: FALLOFF_COMPILE=0 takes the eager form")

    def made(self) -> dict[str, Any]:
        """``versions`` and ``machine`` of what computes it here."""
        return {"versions": versions(), "machine": machine(self.device)}
