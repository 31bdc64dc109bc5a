"""How far key points are missed, by the size of what they belong to."""

from __future__ import annotations

import math

from falloff import decode
from falloff.measures.base import Measured, Metric
from falloff.metrics import keypoints

# Two key points whose distance is the unit, by the names that sets give them: the eyes of a face (Sagonas et al. 2013,
# 300 faces in-the-wild challenge), the diagonal of a trunk (Yang and Ramanan 2013, Articulated human detection with
# flexible mixtures of parts), the length of an animal without its tail.
PAIRS = (("eye_image_left", "eye_image_right"), ("l_shoulder", "r_hip"), ("snout", "tailbase"))


def nme(measured: Measured) -> float:
    """Normalised mean error of key points, each read at the highest score of its class's map.

    See :func:`falloff.metrics.keypoints.nme`. The unit is the distance between two of them, :data:`PAIRS`; a picture in
    which either is not labelled, or both lie in one place, is left out. NaN where the classes have no such pair, or are
    not of one point each.
    """
    classes, truth = tuple(getattr(measured.dataset, "classes", ())), measured.dataset.points
    pair = next((pair for pair in PAIRS if {*pair} <= {*classes}), None)
    if pair is None or truth.crowded():
        return math.nan
    one, other = (truth.where(truth.label == classes.index(name)) for name in pair)  # padding lies at (0, 0)
    unit = (one.xy.double().sum(1) - other.xy.double().sum(1)).norm(dim=1)
    known = one.valid.any(1) & other.valid.any(1) & (unit > 0)
    prediction = measured.prediction
    assert prediction.maps is not None
    best = decode.peaks(prediction.maps, per_class=True, mask=measured.mask, stride=prediction.stride)
    return keypoints.nme(best, truth.where(known[:, None].expand_as(truth.valid)), scale=unit)


NME = Metric(name="nme", title="normalised mean error", better="low", needs_maps=True, of=nme)
