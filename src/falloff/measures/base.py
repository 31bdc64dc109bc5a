"""A metric as data, and what it is computed from: the predictions of a split, matched once at each radius."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

from torch import Tensor, nn

from falloff.heatmaps import counted
from falloff.metrics.matching import Match, match
from falloff.points import Points

RADIUS = 2.0  # pixels within which a prediction finds its point
Result = TypeVar("Result")


@runtime_checkable
class Prediction(Protocol):
    """What a system says of some images: ``points`` with scores, in pixels of the images.

    ``maps``, where it has them, are scores ``(B, C, h, w)``, each of whose pixels covers ``stride`` x ``stride`` pixels
    of the image.
    """

    @property
    def points(self) -> Points: ...

    @property
    def maps(self) -> Tensor | None: ...

    @property
    def stride(self) -> int: ...


@runtime_checkable
class Labelled(Protocol):
    """A split: ``points`` are the labels of its images; ``mask``, if it has one, is True where a pixel counts."""

    @property
    def points(self) -> Points: ...


@runtime_checkable
class Trained(Protocol):
    """What is left of a training: the system that came out of it, and the same as it was before the first step."""

    def system(self) -> nn.Module: ...

    def start(self) -> nn.Module: ...


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One number, or a list of them, and all that a page, a claim or a replay must know of it.

    Args:
        name: of its column.
        title: in words, for tables and axes.
        unit: of the number; empty for a share or a score.
        better: whether a high or a low value is the better one, or neither.
        tolerance: how far a replay may lie from it, with other versions on the same kind of machine.
        per: of what each number of a list is: of a picture of the split, or of a labelled point (image by image, in the
            order of the data set); None for one number. Those per picture are pseudo-values: their mean is the metric
            whose name comes before ``_by_picture``, and their spread over pictures is that of its jackknife.
        needs_maps: whether it is computed from score maps, which some systems do not have.
        needs_training: whether it is computed from the trained system itself.
        reads: the column of a run's curve that it is computed from; None for a metric of predictions.
        censored_at: the field of a run that bounds a value which the run did not reach, and which is then NaN.
        of: gives the number or the list, from a :class:`Measured`, or from a curve where it ``reads`` one: one row
            per evaluation, each a mapping with ``step`` and what was measured.
    """

    name: str
    title: str
    unit: str = ""
    better: Literal["high", "low", "neither"] = "high"
    tolerance: float = 0.002
    per: Literal["picture", "point"] | None = None
    needs_maps: bool = False
    needs_training: bool = False
    reads: str | None = None
    censored_at: str | None = None
    of: Callable[[Any], float | list[float]]

    @property
    def heading(self) -> str:
        """The title with its unit."""
        return f"{self.title}, {self.unit}" if self.unit else self.title


@dataclass(frozen=True, eq=False)
class Measured:
    """The predictions for a split beside its labels, with all that several metrics share, computed once.

    Args:
        prediction: of all images of the split.
        dataset: the split.
        given: the threshold that was chosen elsewhere; None chooses it on the reference, or, without one, on this
            split.
        refer: gives the reference, when a metric first asks for it: the same system with the same decoder on the split
            on which thresholds and recalibrations are chosen.
        trained: the training that the system comes from.
    """

    prediction: Prediction
    dataset: Labelled
    given: float | None = None
    refer: Callable[[], Measured] | None = None
    trained: Trained | None = None
    _known: dict[tuple, Any] = field(default_factory=dict, init=False, repr=False)

    def once(self, function: Callable[..., Result], *args: object) -> Result:
        """``function(self, *args)``, computed when it is first asked for."""
        key = (function, *args)
        if key not in self._known:
            self._known[key] = function(self, *args)
        return self._known[key]

    def match(self, radius: float) -> Match:
        """The predictions matched greedily to the labelled points within ``radius`` pixels."""
        return self.once(_match, radius)

    @property
    def reference(self) -> Measured | None:
        """What is chosen is chosen on this, mostly the validation split; None where there is nothing of the kind."""
        return None if self.refer is None else self.once(_reference)

    @property
    def on_maps(self) -> Points:
        """The labelled points in pixels of the maps."""
        return self.dataset.points.at_stride(self.prediction.stride)

    @property
    def mask(self) -> Tensor | None:
        """True where a pixel of the maps counts, ``(B, 1, h, w)``; None where all do."""
        return counted(getattr(self.dataset, "mask", None), self.prediction.stride)

    def numbers(self, metrics: Mapping[str, Metric]) -> dict[str, Any]:
        """The metrics of predictions among some, by name; those that need maps or a training where there are such."""
        return {name: metric.of(self) for name, metric in metrics.items() if metric.reads is None
                and (self.prediction.maps is not None or not metric.needs_maps)
                and (self.trained is not None or not metric.needs_training)}


def pseudo_values(value: float, influence: Tensor) -> list[float]:
    r"""A metric's infinitesimal-jackknife pseudo-values, one per picture, from its derivatives by their weights.

    .. math:: v_p = \theta + P \frac{\partial \theta}{\partial w_p}

    at weights of 1. Their mean is the metric, as doubling all weights changes nothing.

    Source: Efron 1982, The jackknife, the bootstrap and other resampling plans, chapter 6.
    """
    return (value + len(influence) * influence).tolist()


def _reference(measured: Measured) -> Measured:
    assert measured.refer is not None
    return measured.refer()


def _match(measured: Measured, radius: float) -> Match:
    return match(measured.prediction.points, measured.dataset.points, radius=radius)
