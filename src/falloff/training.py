"""One run: a description in, a trained system and its record out."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from falloff import data, losses, measures, systems
from falloff.data import Dataset
from falloff.losses import autograd
from falloff.machine import check_device, machine, resolve_form, resolve_precision, versions
from falloff.run import Run
from falloff.systems import Outputs, Prediction, System, Task

WATCHED = 96  # validation images measured along the way
TYPICAL = 256  # training images whose points say where the last layer starts
WARMUP = 0.05  # share of the steps over which the learning rate rises


@dataclass(frozen=True)
class Record:
    """What came out of one run.

    ``curve`` has one row per evaluation along the way, on the first 96 validation images: ``step``, the mean
    ``train_loss`` since the last one, the mean ``loss_NAME`` of each of its terms, and what the run watched.
    ``versions`` and ``machine`` say where it ran. ``weights`` are the system's state. ``validation`` and ``final`` are
    what was measured of it on the validation and the test split, as far as something was.
    """

    run: Run
    curve: list[dict[str, float | int]]
    seconds: float
    versions: dict[str, str]
    machine: dict[str, str]
    weights: dict[str, Any] = field(repr=False)
    validation: dict[str, float] = field(default_factory=dict)
    final: dict[str, float] = field(default_factory=dict)

    def system(self) -> System:
        """The trained system, in evaluation mode, on the CPU."""
        system = build(self.run.replace(bias=0.0), task(data.load(self.run.dataset, "val", self.run.size)))
        system.load_state_dict(self.weights)
        return system.eval()


@runtime_checkable
class Checkpoint(Protocol):
    """Where a training keeps its state, so that one that was killed goes on from there."""

    def load(self) -> dict[str, Any] | None:
        """The state that was saved last, or None."""

    def due(self) -> bool:
        """Whether the state is to be saved after this step."""

    def save(self, state: dict[str, Any]) -> None:
        """Keep a state: tensors, numbers and strings, in lists and dicts."""


def train(run: Run, checkpoint: Checkpoint | None = None) -> Record:
    """Train one system as described.

    Args:
        run: the description.
        checkpoint: of this very run and code. A training that goes on from one gives, on the CPU, bit for bit the
            record of one that was never stopped, but for its wall time, which is that of all its parts.

    Raises:
        ValueError: the device or the data set is not there or not as described.
        FloatingPointError: the loss or a weight became NaN or infinite; the message names the step.
        RuntimeError: the losses' compiled form failed.
    """
    device = check_device(run.device)
    with reproducible(run):
        started = time.perf_counter()
        dataset, watched = (data.load(run.dataset, split, run.size) for split in ("train", "val"))
        watched = watched.head(WATCHED)
        images, points = dataset.images.to(device), dataset.points.to(device)
        mask = None if dataset.mask is None else dataset.mask.to(device)
        vary = data.augmentation(swap=dataset.swap, **run.augment) if run.augment else None
        system = build(run, task(dataset)).to(device, memory_format=torch.channels_last)
        optimizer = _optimizer(run, system)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, _rate(run))
        marks = {round(run.steps * (k + 1) / run.evaluations) for k in range(run.evaluations)}
        curve, recent, done = [], [], 0
        state = checkpoint.load() if checkpoint is not None else None
        if state is not None:
            curve, recent, done = state["curve"], state["recent"], state["step"]
            system.load_state_dict(state["system"])
            optimizer.load_state_dict(state["optimizer"])
            scheduler.load_state_dict(state["scheduler"])
            torch.set_rng_state(state["random"])
            started -= state["seconds"]
        for step, chosen in islice(enumerate(_batches(len(images), run), start=1), done, None):
            chosen = chosen.to(device)
            batch, truth = _normalised(images[chosen]), points[chosen]
            counted = None if mask is None else mask[chosen]
            if vary is not None:
                batch, truth, counted = vary(batch, truth, counted)
            with _autocast(run):
                outputs = system(batch, near=truth)
            try:
                terms = system.loss(outputs, truth, counted)
            except ValueError as error:
                raise FloatingPointError(f"training diverged at step {step}: {error}") from error
            value = sum(terms.values())
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            optimizer.step()
            scheduler.step()
            named = {f"loss_{name}": one.detach() for name, one in terms.items()}
            recent.append({"train_loss": value.detach(), **named})
            if step in marks:
                means = _means(recent)
                if not math.isfinite(means["train_loss"]):
                    raise FloatingPointError(f"training diverged by step {step}: the loss is {means['train_loss']}")
                recent = []
                numbers = measures.measure(predict(system, watched, run), watched, run.watched)
                curve.append({"step": step, **means, **numbers})
            if checkpoint is not None and checkpoint.due():
                checkpoint.save({
                    "step": step, "curve": curve, "recent": recent, "system": system.state_dict(),
                    "optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict(),
                    "random": torch.get_rng_state(), "seconds": time.perf_counter() - started,
                })
        if resolve_form(run.form, run.device) == "compiled" and not losses.compiler_works():
            raise RuntimeError("the losses' compiled form failed here: FALLOFF_COMPILE=0 trains with the eager form")
        weights = {name: _kept(value) for name, value in system.state_dict().items()}
        seconds = time.perf_counter() - started
        return Record(run, curve, seconds, versions(), machine(device), weights)


def build(run: Run, made_for: Task) -> System:
    """A fresh system as a run describes it."""
    loss = None if run.loss is None else losses.make(run.loss, **run.loss_options)
    return systems.make(run.system, made_for, model=run.model, model_options=run.model_options, width=run.width,
                        loss=loss, head_std=run.head_std, bias=run.bias, **run.system_options)


def task(dataset: Dataset) -> Task:
    """What a system for a data set is made for."""
    return Task(dataset.images.shape[1], dataset.size, len(dataset.classes), dataset.points[:TYPICAL])


def outputs(system: System, dataset: Dataset, run: Run, *, batch: int = 64) -> Outputs:
    """What a trained system puts out for a whole split, float32 on the CPU, with the run's precision."""
    device = next(system.parameters()).device
    system.eval()
    with torch.inference_mode(), _autocast(run):
        parts = [system(_normalised(dataset.images[start : start + batch].to(device)))
                 for start in range(0, len(dataset.images), batch)]
    system.train()
    return Outputs.cat(parts)


def predict(system: System, dataset: Dataset, run: Run, **decoder: object) -> Prediction:
    """What a trained system says of a whole split, on the CPU, by its own decoder or with other options of it."""
    prediction = system.predict(outputs(system, dataset, run), **decoder)
    return prediction if dataset.mask is None else prediction.within(dataset.mask)


def _means(rows: list[dict[str, Tensor]]) -> dict[str, float]:
    """Of each column; a state that was resumed may hold some on the CPU."""
    return {name: float(torch.stack([row[name].to(rows[-1][name].device) for row in rows]).mean()) for name in rows[0]}


def _kept(value: Any) -> Any:
    """A part of a system's state as it is stored."""
    if isinstance(value, Tensor):
        return value.detach().cpu().contiguous()
    return {name: _kept(one) for name, one in value.items()} if isinstance(value, dict) else value


def _normalised(images: Tensor) -> Tensor:
    return images.to(memory_format=torch.channels_last).float().div_(127.5).sub_(1.0)


def _optimizer(run: Run, system: System) -> torch.optim.Optimizer:
    if run.optimizer == "sgd":
        return torch.optim.SGD(system.parameters(), lr=run.learning_rate, momentum=0.9, nesterov=True)
    kind = torch.optim.AdamW if run.optimizer == "adamw" else torch.optim.Adam
    return kind(system.parameters(), lr=run.learning_rate)


def _rate(run: Run) -> Callable[[int], float]:
    warmup = max(1, round(WARMUP * run.steps))

    def factor(step: int) -> float:
        rising = min(1.0, (step + 1) / warmup)
        falling = 0.5 * (1 + math.cos(math.pi * step / run.steps)) if run.schedule == "cosine" else 1.0
        return rising * falling

    return factor


def _batches(count: int, run: Run) -> Iterator[Tensor]:
    """Indices of each step's images: epochs in an order that the seed alone decides."""
    generator = torch.Generator().manual_seed(run.seed)
    left = torch.empty(0, dtype=torch.int64)
    for _ in range(run.steps):
        while len(left) < run.batch:
            left = torch.cat([left, torch.randperm(count, generator=generator)])
        chosen, left = left[: run.batch], left[run.batch :]
        yield chosen


def _autocast(run: Run) -> torch.autocast:
    device = torch.device(run.device).type
    return torch.autocast(device, torch.bfloat16, enabled=resolve_precision(run.precision, run.device) == "bfloat16")


@contextmanager
def reproducible(run: Run) -> Iterator[None]:
    """Seed torch and pin what bits depend on: the losses' form, and one thread, so that no core splits a sum."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else cuBLAS picks its sums freely
    with torch.random.fork_rng(), autograd.compiled(resolve_form(run.form, run.device) == "compiled"):
        torch.manual_seed(run.seed)
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(torch.cuda.is_available(), warn_only=True)  # one CPU thread is so already
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(deterministic)
