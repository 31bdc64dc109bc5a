"""One run: a description in, a trained system and its record out."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from falloff import data, measures
from falloff.data import Dataset
from falloff.recipe import Recipe
from falloff.run import Run
from falloff.systems import Outputs, Prediction, System


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
        run = self.run.replace(bias=0.0)  # whose own is among the weights
        system = Recipe(run).system(data.load(run.dataset, "val", run.size))
        system.load_state_dict(self.weights)
        return system.eval()

    def start(self) -> System:
        """The system as it was before the first step, in evaluation mode, on the CPU."""
        recipe = Recipe(self.run)
        with recipe.pinned():
            return recipe.system(data.load(self.run.dataset, "train", self.run.size)).eval()


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
        ValueError: the device or the data set is not there or not as described, or the loss refuses what it is given.
        FloatingPointError: the loss or a weight became NaN or infinite; the message names the step.
        RuntimeError: the losses' compiled form failed.
    """
    recipe = Recipe(run)
    device = recipe.device
    with recipe.pinned():
        started = time.perf_counter()
        dataset, watched = recipe.datasets()
        images, points = dataset.images.to(device), dataset.points.to(device)
        mask = None if dataset.mask is None else dataset.mask.to(device)
        vary = recipe.augmentation(dataset)
        system = recipe.system(dataset).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # no overload has it
        optimizer = recipe.optimizer(system)
        scheduler, marks = recipe.scheduler(optimizer), recipe.evaluated()
        curve, recent, done = [], [], 0
        state = checkpoint.load() if checkpoint is not None else None
        if state is not None:
            curve, recent, done = state["curve"], state["recent"], state["step"]
            system.load_state_dict(state["system"])
            optimizer.load_state_dict(state["optimizer"])
            scheduler.load_state_dict(state["scheduler"])
            torch.set_rng_state(state["random"])
            started -= state["seconds"]
        for step, chosen in islice(enumerate(recipe.batches(len(images)), start=1), done, None):
            chosen = chosen.to(device)
            batch, truth = normalised(images[chosen]), points[chosen]
            counted = None if mask is None else mask[chosen]
            if vary is not None:
                batch, truth, counted = vary(batch, truth, counted)
            with recipe.autocast():
                outputs = system(batch, near=truth)
            try:
                terms = system.loss(outputs, truth, counted)
            except ValueError as error:
                if all(bool(torch.isfinite(one).all()) for one in outputs.values()):
                    raise
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
                said = predict(system, watched, run)
                curve.append({"step": step, **means, **measures.measure(said, watched, run.watched)})
            if checkpoint is not None and checkpoint.due():
                checkpoint.save({
                    "step": step, "curve": curve, "recent": recent, "system": system.state_dict(),
                    "optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict(),
                    "random": torch.get_rng_state(), "seconds": time.perf_counter() - started,
                })
        weights = {name: _kept(value) for name, value in system.state_dict().items()}
        seconds = time.perf_counter() - started
    return Record(run, curve, seconds, **recipe.made(), weights=weights)


def outputs(system: System, dataset: Dataset, run: Run, *, batch: int = 64) -> Outputs:
    """What a trained system puts out for a whole split, float32 on the CPU, with the run's precision."""
    device = next(system.parameters()).device
    system.eval()
    with torch.inference_mode(), Recipe(run).autocast():
        parts = [system(normalised(dataset.images[start : start + batch].to(device)))
                 for start in range(0, len(dataset.images), batch)]
    system.train()
    found = Outputs.cat(parts)
    found.mask = dataset.mask
    return found


def predict(system: System, dataset: Dataset, run: Run, **decoder: Any) -> Prediction:
    """What a trained system says of a whole split, on the CPU, by its own decoder or with other options of it."""
    return read(system, dataset, outputs(system, dataset, run), **decoder)


def read(system: System, dataset: Dataset, found: Outputs, **decoder: Any) -> Prediction:
    """What a system says by what it put out for a split: see :func:`predict`."""
    prediction = system.predict(found, **decoder)
    return prediction if dataset.mask is None else prediction.within(dataset.mask)


def normalised(images: Tensor) -> Tensor:
    """Bytes as numbers in [-1, 1]."""
    return images.to(memory_format=torch.channels_last).float().div_(127.5).sub_(1.0)


def _means(rows: list[dict[str, Tensor]]) -> dict[str, float]:
    """Of each column; a state that was resumed may hold some on the CPU."""
    return {name: float(torch.stack([row[name].to(rows[-1][name].device) for row in rows]).mean()) for name in rows[0]}


def _kept(value: Any) -> Any:
    """A part of a system's state as it is stored."""
    if isinstance(value, Tensor):
        return value.detach().cpu().contiguous()
    return {name: _kept(one) for name, one in value.items()} if isinstance(value, dict) else value
