"""One run: a description in, a trained net and its record out."""

from __future__ import annotations

import dataclasses
import math
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from itertools import islice
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from falloff import data, decode, heatmaps, losses, metrics, models
from falloff.data import Dataset
from falloff.points import Points

RADIUS = 2.0  # pixels within which a prediction finds its point
WATCHED = 96  # validation images measured along the way; the whole split is measured at the end
WARMUP = 0.05  # share of the steps over which the learning rate rises

Precision = Literal["auto", "float32", "bfloat16"]
Schedule = Literal["cosine", "constant"]
Optimizer = Literal["adam", "adamw", "sgd"]
Option = int | float | str | None


@dataclass(frozen=True, kw_only=True)
class Run:
    """All that determines one training.

    Args:
        dataset: "digits", or a set under ``FALLOFF_DATA``.
        size: side of the made scenes in pixels; None for the set's own.
        model: the net, by name.
        width: features at the net's finest scale.
        loss: a name that :func:`falloff.losses.make` knows.
        loss_options: the loss's own options, as a mapping.
        head_std: standard deviation of the last layer's first weights, at least 0: how far the first maps are from
            flat.
        bias: the last layer's first bias; None is the best constant answer under the run's own loss
            (:func:`falloff.losses.best_constant`).
        optimizer: "adam", "adamw" (weight decay 0.01) or "sgd" (Nesterov momentum 0.9).
        learning_rate: peak rate of the optimiser, above 0.
        schedule: after a warm-up over 5 % of the steps, "cosine" falls to 0, "constant" stays.
        steps: of the optimiser.
        batch: images in each step.
        seed: of the initial weights and the order of the images; two runs that differ in their loss alone see the
            same images in the same order.
        evaluations: how often along the way validation images are measured.
        precision: of the net's convolutions; "auto" is bfloat16 where the processor computes it natively.
        device: "cpu", "cuda" or "cuda:N".

    Raises:
        TypeError, ValueError: a field of the wrong type or out of range, before anything is computed.
    """

    dataset: str = "digits"
    size: int | None = None
    model: str = "unet"
    width: int = 16
    loss: str = "distance-aware"
    loss_options: Mapping[str, Option] = field(default_factory=dict)
    head_std: float = 1e-3
    bias: float | None = None
    optimizer: Optimizer = "adam"
    learning_rate: float = 3e-3
    schedule: Schedule = "cosine"
    steps: int = 250
    batch: int = 16
    seed: int = 0
    evaluations: int = 10
    precision: Precision = "auto"
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in ("dataset", "model", "loss", "device"):
            if not isinstance(getattr(self, name), str):
                raise TypeError(f"{name} must be a string, got {getattr(self, name)!r}")
        for name, least in (("width", 1), ("steps", 1), ("batch", 1), ("seed", 0), ("evaluations", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"{name} must be an integer, got {value!r}")
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value!r}")
        if self.evaluations > self.steps:
            raise ValueError(f"evaluations must be at most steps ({self.steps}), got {self.evaluations}")
        is_whole = isinstance(self.size, int) and not isinstance(self.size, bool)
        if self.size is not None and (not is_whole or self.size < 1):
            raise ValueError(f"size must be None or an integer above 0, got {self.size!r}")
        heatmaps.check_positive("learning_rate", self.learning_rate)
        is_number = isinstance(self.head_std, (int, float)) and not isinstance(self.head_std, bool)
        if not is_number or not 0 <= self.head_std < 1e3:
            raise ValueError(f"head_std must be a number in [0, 1000), got {self.head_std!r}")
        is_number = isinstance(self.bias, (int, float)) and not isinstance(self.bias, bool)
        if self.bias is not None and not (is_number and math.isfinite(self.bias)):
            raise ValueError(f"bias must be None or a finite number, got {self.bias!r}")
        for name, allowed in (("model", models.names()), ("schedule", get_args(Schedule)),
                              ("optimizer", get_args(Optimizer)),
                              ("precision", get_args(Precision))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        if not isinstance(self.loss_options, Mapping):
            raise TypeError(f"loss_options must be a mapping, got {self.loss_options!r}")
        losses.make(self.loss, **self.loss_options)
        object.__setattr__(self, "loss_options", dict(self.loss_options))  # the caller keeps theirs
        for name in ("learning_rate", "head_std", "bias"):  # 1 and 1.0 describe the same run
            if getattr(self, name) is not None:
                object.__setattr__(self, name, float(getattr(self, name)))

    def __hash__(self) -> int:
        return hash(repr(self.describe()))

    def __repr__(self) -> str:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        changed = (f"{name}={value!r}" for name, value in values.items() if value != getattr(Run, name, {}))
        return f"Run({', '.join(changed)})"  # the defaults go without saying

    def describe(self) -> dict[str, Any]:
        """The run as plain data, every default filled in, so that naming a default changes nothing."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        options = {**losses.options(self.loss), **self.loss_options}
        plain["loss_options"] = {
            name: float(value) if isinstance(value, int) else value for name, value in sorted(options.items())
        }
        plain["precision"] = resolve_precision(self.precision, self.device)
        return plain

    def replace(self, **changes: object) -> Run:
        """This run with some fields changed."""
        return dataclasses.replace(self, **changes)


@dataclass(frozen=True)
class Record:
    """What came out of one run.

    ``curve`` has one row per evaluation along the way, on the first 96 validation images: ``step``, the mean
    ``train_loss`` since the last one, and what :func:`evaluate` gives. ``final`` is the same for the whole test split,
    and ``validation`` for the whole validation split at the end. ``versions`` and ``machine`` say where it ran.
    ``weights`` are the net's.
    """

    run: Run
    curve: list[dict[str, float | int]]
    validation: dict[str, float]
    final: dict[str, float]
    seconds: float
    versions: dict[str, str]
    machine: dict[str, str]
    weights: dict[str, Tensor] = field(repr=False)

    def model(self) -> nn.Module:
        """The trained net, in evaluation mode, on the CPU."""
        net = _net(self.run, data.load(self.run.dataset, "train", self.run.size))
        net.load_state_dict(self.weights)
        return net.eval()


@runtime_checkable
class Checkpoint(Protocol):
    """Where a training keeps its state, so that one that was killed goes on from there."""

    def load(self) -> dict[str, Any] | None:
        """The state that was saved last, or None."""

    def due(self) -> bool:
        """Whether the state is to be saved after this step."""

    def save(self, state: dict[str, Any]) -> None:
        """Keep a state: tensors, numbers and strings, in lists and dicts."""


def train(
    run: Run, progress: Callable[[int, int], None] | None = None, checkpoint: Checkpoint | None = None
) -> Record:
    """Train one net as described and measure it.

    Args:
        run: the description.
        progress: called with (steps done, steps in all) at each evaluation.
        checkpoint: of this very run and code. A training that goes on from one gives, on the CPU, bit for bit the
            record of one that was never stopped, but for its wall time, which is that of all its parts.

    Raises:
        ValueError: the device or the data set is not there or not as described.
        FloatingPointError: the loss or a weight became NaN or infinite; the message names the step.
    """
    device = check_device(run.device)
    with _reproducible(run.seed):
        started = time.perf_counter()
        splits = {split: data.load(run.dataset, split, run.size) for split in data.SPLITS}
        watched = splits["val"].head(WATCHED)
        images = splits["train"].images.to(device)
        points = splits["train"].points.to(device)
        loss = losses.make(run.loss, **run.loss_options)
        net = _net(run, splits["train"]).to(device, memory_format=torch.channels_last)
        optimizer = _optimizer(run, net)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, _rate(run))
        marks = {round(run.steps * (k + 1) / run.evaluations) for k in range(run.evaluations)}
        curve, recent, done = [], [], 0
        state = checkpoint.load() if checkpoint is not None else None
        if state is not None:
            curve, recent, done = state["curve"], list(state["recent"].to(device)), state["step"]
            net.load_state_dict(state["net"])
            loss.load_state_dict(state["loss"])
            optimizer.load_state_dict(state["optimizer"])
            scheduler.load_state_dict(state["scheduler"])
            torch.set_rng_state(state["random"])
            started -= state["seconds"]
        for step, chosen in islice(enumerate(_batches(len(images), run), start=1), done, None):
            chosen = chosen.to(device)
            with _autocast(run):
                logits = net(_normalised(images[chosen]))
            try:
                value = loss(logits, points[chosen])
            except ValueError as error:
                raise FloatingPointError(f"training diverged at step {step}: {error}") from error
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            optimizer.step()
            scheduler.step()
            recent.append(value.detach())
            if step in marks:
                train_loss = float(torch.stack(recent).mean())
                if not math.isfinite(train_loss):
                    raise FloatingPointError(f"training diverged by step {step}: the loss is {train_loss}")
                recent.clear()
                curve.append({"step": step, "train_loss": train_loss, **evaluate(net, watched, run)})
                if progress is not None:
                    progress(step, run.steps)
            if checkpoint is not None and checkpoint.due():
                checkpoint.save({
                    "step": step, "curve": curve, "recent": torch.stack(recent) if recent else torch.empty(0),
                    "net": net.state_dict(), "loss": loss.state_dict(), "optimizer": optimizer.state_dict(),
                    "scheduler": scheduler.state_dict(), "random": torch.get_rng_state(),
                    "seconds": time.perf_counter() - started,
                })
        validation = evaluate(net, splits["val"], run)
        final = evaluate(net, splits["test"], run, threshold=validation["threshold"])
        weights = {name: value.detach().cpu().contiguous() for name, value in net.state_dict().items()}
        seconds = time.perf_counter() - started
        return Record(run, curve, validation, final, seconds, versions(), machine(device), weights)


def predict(net: nn.Module, dataset: Dataset, run: Run, *, batch: int = 64) -> Tensor:
    """Logits of a whole split, ``(N, classes, height, width)``, float32 on the CPU."""
    device = next(net.parameters()).device
    net.eval()
    out = []
    with torch.inference_mode(), _autocast(run):
        for start in range(0, len(dataset.images), batch):
            out.append(net(_normalised(dataset.images[start : start + batch].to(device))).float().cpu())
    net.train()
    return torch.cat(out)


def evaluate(net: nn.Module, dataset: Dataset, run: Run, *, threshold: float | None = None) -> dict[str, float]:
    """Measure a net on one split, with the one decoder of the study: 3 x 3 maxima, no refinement.

    Returns ``ap`` (average precision at 2 px, the mean over classes), ``ap_worst_class`` (that of the worst class),
    ``ap_1`` and ``ap_4`` (at 1 and 4 px), ``f1``, ``threshold`` (the one
    that f1 used: the best on this split unless one is given), ``error`` (mean distance of matched points in pixels),
    ``score_at_points`` and ``score_elsewhere`` (mean score at the pixels nearest to points, and at all others),
    ``class_accuracy`` (share of points at whose pixel the right class scores highest), ``presence_auroc`` (how well the
    highest score of a map tells whether its class is in the picture) and ``calibration_error`` (of the peaks' scores).
    """
    scores = losses.make(run.loss, **run.loss_options).scores(predict(net, dataset, run))
    return measure(scores, dataset, threshold=threshold)


def measure(scores: Tensor, dataset: Dataset, *, threshold: float | None = None) -> dict[str, float]:
    """What :func:`evaluate` returns, from score maps ``(N, classes, height, width)`` of a split."""
    truth = dataset.points
    found = decode.peaks(scores, count=max(20, 2 * truth.xy.shape[1]))
    if threshold is None:
        threshold = metrics.best_threshold(found, truth, radius=RADIUS)
    by_class = metrics.per_class_average_precision(found, truth, radius=RADIUS)
    at_points = heatmaps.positives(truth, dataset.size, len(dataset.classes))
    at_sum, labelled = float(scores[at_points].sum()), int(at_points.sum())
    return {
        "ap": sum(by_class.values()) / len(by_class),
        "ap_worst_class": min(by_class.values()),
        "ap_1": metrics.average_precision(found, truth, radius=RADIUS / 2),
        "ap_4": metrics.average_precision(found, truth, radius=RADIUS * 2),
        "f1": metrics.f1(found.above(threshold), truth, radius=RADIUS),
        "threshold": threshold,
        "error": metrics.localisation_error(found.above(threshold), truth, radius=RADIUS),
        "score_at_points": at_sum / labelled,
        "score_elsewhere": (float(scores.sum()) - at_sum) / (scores.numel() - labelled),
        "class_accuracy": class_accuracy(scores, truth),
        "presence_auroc": metrics.presence_auroc(scores, truth),
        "calibration_error": metrics.reliability(found, truth, radius=RADIUS).error,
    }


def class_accuracy(scores: Tensor, truth: Points) -> float:
    """Share of labelled points at whose nearest pixel the map of their own class is the highest."""
    height, width = scores.shape[2:]
    rows = heatmaps.nearest_pixel(truth.xy[..., 1], height)
    columns = heatmaps.nearest_pixel(truth.xy[..., 0], width)
    image = torch.arange(len(truth), device=scores.device)[:, None]
    best = scores[image, :, rows, columns].argmax(-1)
    return float((best == truth.label)[truth.valid].double().mean())


def resolve_precision(precision: Precision, device: str) -> str:
    """What "auto" means on a device: "bfloat16" where it is computed natively, else "float32"."""
    if precision != "auto":
        return precision
    on_gpu = torch.device(device).type == "cuda"
    native = torch.cuda.is_bf16_supported() if on_gpu else torch.cpu._is_avx512_bf16_supported()
    return "bfloat16" if native else "float32"


def check_device(name: str) -> torch.device:
    """The device of that name.

    Raises:
        ValueError: no such device, or none that works here.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device must be 'cpu', 'cuda' or 'cuda:N', got {name!r}") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {name!r} is not available: this machine has no CUDA GPU that PyTorch can use")
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device must be 'cpu', 'cuda' or 'cuda:N', got {name!r}")
    return device


def versions() -> dict[str, str]:
    """Versions of what computes the numbers."""
    return {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}


def machine(device: torch.device) -> dict[str, str]:
    """The kind of processor or GPU, and whether large maps go through a compiled loss there; no name of the machine."""
    model = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {"device": device.type, "model": model, "system": f"{platform.system()} {platform.machine()}",
            "losses": "compiled" if losses.compiler_works() else "eager"}


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:  # noqa: PTH123
            names = (line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
            return next(names, platform.processor())
    except OSError:
        return platform.processor()


def _net(run: Run, dataset: Dataset) -> nn.Module:
    """A fresh net with its last layer as the run says."""
    classes = len(dataset.classes)
    net = models.make(run.model, channels=dataset.images.shape[1], classes=classes, width=run.width)
    loss, typical = losses.make(run.loss, **run.loss_options), dataset.points[:256]
    bias = losses.best_constant(loss, typical, dataset.size, classes) if run.bias is None else run.bias
    nn.init.normal_(net.head.weight, std=run.head_std)
    nn.init.constant_(net.head.bias, bias)
    return net


def _normalised(images: Tensor) -> Tensor:
    return images.to(memory_format=torch.channels_last).float().div_(127.5).sub_(1.0)


def _optimizer(run: Run, net: nn.Module) -> torch.optim.Optimizer:
    if run.optimizer == "sgd":
        return torch.optim.SGD(net.parameters(), lr=run.learning_rate, momentum=0.9, nesterov=True)
    kind = torch.optim.AdamW if run.optimizer == "adamw" else torch.optim.Adam
    return kind(net.parameters(), lr=run.learning_rate)


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
def _reproducible(seed: int) -> Iterator[None]:
    """Seed torch, and compute on one thread: how sums are split must not depend on the number of cores."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else cuBLAS picks its sums freely
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(torch.cuda.is_available(), warn_only=True)  # one CPU thread is so already
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(deterministic)
