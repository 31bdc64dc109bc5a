"""Where a run is computed: device, precision, the form of the losses, versions, and the kind of processor."""

from __future__ import annotations

import functools
import os
import platform
import shutil
import sysconfig
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from falloff.losses.autograd import compiler_works

Precision = Literal["auto", "float32", "bfloat16"]
Form = Literal["auto", "compiled", "eager"]


def resolve_precision(precision: Precision, device: str) -> str:
    """What "auto" means on a device: "bfloat16" where it is computed natively, else "float32"."""
    if precision != "auto":
        return precision
    on_gpu = torch.device(device).type == "cuda"
    native = torch.cuda.is_bf16_supported() if on_gpu else torch.cpu._is_avx512_bf16_supported()
    return "bfloat16" if native else "float32"


def resolve_form(form: Form, device: str) -> str:
    """What "auto" means here: "compiled" where there is a compiler that FALLOFF_COMPILE leaves on, else "eager"."""
    if form != "auto":
        return form
    can_compile = torch.device(device).type == "cuda" or _has_compiler(os.environ.get("CXX", "g++"))
    return "compiled" if can_compile and compiler_works() else "eager"


@functools.cache
def _has_compiler(command: str) -> bool:
    """Whether what PyTorch compiles with on the CPU is there: a C++ compiler and Python's headers."""
    return shutil.which(command) is not None and Path(sysconfig.get_path("include"), "Python.h").is_file()


def check_device(name: str) -> torch.device:
    """The device of that name.

    Raises:
        ValueError: no such device, or none that works here.
    """
    check_device_name(name)
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {name!r} is not available: this machine has no CUDA GPU that PyTorch can use")
    return device


def check_device_name(name: str) -> None:
    """Raise ValueError unless this names a device that there may be, if not here."""
    try:
        kind = torch.device(name).type
    except RuntimeError:
        kind = ""
    if kind not in ("cpu", "cuda"):
        raise ValueError(f"device must be 'cpu', 'cuda' or 'cuda:N', got {name!r}")


def versions() -> dict[str, str]:
    """Versions of what computes the numbers."""
    return {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}


def machine(device: torch.device) -> dict[str, str]:
    """The kind of processor or GPU; no name of the machine."""
    model = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {"device": device.type, "model": model, "system": f"{platform.system()} {platform.machine()}"}


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:  # noqa: PTH123
            names = (line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
            return next(names, platform.processor())
    except OSError:
        return platform.processor()
