"""Small nets by name."""

from __future__ import annotations

from torch import nn

from falloff.models.unet import UNet

_MODELS = {"unet": UNet}


def names() -> list[str]:
    """All names that :func:`make` knows."""
    return list(_MODELS)


def make(name: str, *, channels: int, classes: int, width: int) -> nn.Module:
    """A net by name: images ``(B, channels, H, W)`` to logits ``(B, classes, H, W)``.

    Raises:
        ValueError: no net has this name.
    """
    if name not in _MODELS:
        raise ValueError(f"no model is named {name!r}; known: {', '.join(names())}")
    return _MODELS[name](channels, classes, width)
