"""How well score maps tell labelled pixels from others, for labels so dense that pixels are what is found."""

from __future__ import annotations

from falloff.measures.base import Measured, Metric, pseudo_values
from falloff.metrics import pixels


def ranked(measured: Measured) -> pixels.Ranked:
    """The pixels of all maps by their scores."""
    assert measured.prediction.maps is not None
    return pixels.ranked(measured.prediction.maps, measured.on_maps, mask=measured.mask)


def by_picture(measured: Measured) -> list[float]:
    """Pseudo-values of average precision."""
    found = measured.once(ranked)
    return pseudo_values(pixels.average_precision_of(found), pixels.average_precision_influence_of(found))


PIXEL_AP = Metric(name="pixel_ap", title="AP of pixels", needs_maps=True,
                  of=lambda m: pixels.average_precision_of(m.once(ranked)))
PIXEL_AP_BY_PICTURE = Metric(name="pixel_ap_by_picture", title="AP of pixels, by picture", per="picture",
                             needs_maps=True, of=by_picture)
