"""Average precision picture by picture, as pseudo-values.

It is the same average precision as everywhere, with precision made monotone: its derivative exists as well.
"""

from __future__ import annotations

import torch

from falloff.measures import points
from falloff.measures.base import RADIUS, Measured, Metric, pseudo_values
from falloff.metrics import ranking


def by_picture(measured: Measured, *radii: float) -> list[float]:
    """Pseudo-values of the mean over some radii of average precision."""
    each = [ranking.average_precision_influence_of(measured.match(radius)) for radius in radii]
    return pseudo_values(points.ap(measured, *radii), torch.stack(each).mean(0))


AP_BY_PICTURE = Metric(name="ap_by_picture", title=f"AP at {RADIUS:g} px, by picture", per="picture",
                       of=lambda m: by_picture(m, RADIUS))
AP_TUNED_BY_PICTURE = Metric(name="ap_tuned_by_picture", title="AP at 1 and 2 px, mean, by picture", per="picture",
                             of=lambda m: by_picture(m, *points.TUNED))
