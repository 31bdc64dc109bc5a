"""What a system knows of a net."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor, nn


@runtime_checkable
class Net(Protocol):
    """A module from images ``(B, C, H, W)`` to maps by name, ``(B, maps, H / stride, W / stride)``.

    ``stride`` is how many pixels of the image lie along one of its maps'; ``heads`` holds the last layers by output.
    """

    stride: int
    heads: nn.ModuleDict

    def __call__(self, images: Tensor) -> dict[str, Tensor]: ...
