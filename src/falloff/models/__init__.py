"""Small nets by name: each turns images into maps by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from falloff import checks
from falloff.models.base import Net
from falloff.models.unet import UNet

MODELS: Mapping[str, Callable[..., Net]] = {"unet": UNet}
_SHARED = ("channels", "outputs", "width")  # what every net is made with


def names() -> list[str]:
    """All names that :func:`make` knows."""
    return list(MODELS)


def options(name: str) -> Mapping[str, object]:
    """A net's own options with their defaults.

    Raises:
        ValueError: no net has this name; the message gives the nearest.
    """
    return checks.own_options(checks.choose("model", name, MODELS), *_SHARED)


def make(name: str, *, channels: int, outputs: Mapping[str, int], width: int, **own: object) -> Net:
    """A net by name: images ``(B, channels, H, W)`` to a dict of maps, ``outputs[key]`` of them under each key.

    Args:
        name: one of :func:`names`, or ``"module:Name"`` of a net outside the package.
        channels: of the images, above 0.
        outputs: how many maps are put out under each name, above 0.
        width: features where the net is narrowest, above 0.
        own: what else the net takes: :func:`options`.

    A net's ``stride`` is how many pixels of the image lie along one of its maps', (H / stride, W / stride) pixels.

    Raises:
        ValueError: no net has this name, an option that it does not have, a number out of range.
    """
    model = checks.choose("model", name, MODELS)
    counts = {"channels": channels, "width": width, **{f"outputs[{key!r}]": maps for key, maps in outputs.items()}}
    for count, value in counts.items():
        checks.check_count(count, value)
    for option in own:
        checks.check_option(f"model {name!r}", option, options(name))
    return model(channels=channels, outputs=outputs, width=width, **own)
