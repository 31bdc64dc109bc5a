"""One map a class, charged by one of the losses, read by its peaks: what the study compares losses on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from falloff import decode, heatmaps
from falloff.losses.base import PointLoss
from falloff.losses.starts import best_constant
from falloff.models.base import Net
from falloff.points import Points
from falloff.systems.base import Outputs, Prediction, System, Task

LEAST_COUNT = 20  # points read per image, or twice as many as the images have


class Heatmap(System):
    """A net with a map for each class, at 1 / ``stride`` of the image's resolution.

    Every map that the net puts out is charged by the loss, and the last is read: supervision at each stage of a net is
    a net that returns the maps of each. The loss's own options count pixels of the maps.

    Args:
        task: what it is made for.
        net: builds the net; it has ``stride`` and ``heads``, the last layers by output.
        loss: of the maps.
        head_std: standard deviation of the last layers' first weights.
        bias: their first bias; None is the loss's best constant on the task's points.
    """

    def __init__(
        self, task: Task, *, net: Callable[[Mapping[str, int]], Net], loss: PointLoss, head_std: float = 1e-3,
        bias: float | None = None,
    ) -> None:
        super().__init__()
        self.net, self.criterion = net({"maps": task.classes}), loss
        self.count = max(LEAST_COUNT, 2 * task.points.xy.shape[1])
        if bias is None:
            size = tuple(-(-length // self.stride) for length in task.size)
            mask = heatmaps.counted(task.mask, self.stride)
            bias = best_constant(loss, task.points, size, task.classes, mask=mask, stride=self.stride)
        for head in self.net.heads.values():
            nn.init.normal_(head.get_parameter("weight"), std=head_std)
            nn.init.constant_(head.get_parameter("bias"), bias)

    @property
    def stride(self) -> int:
        """Pixels of the image along a pixel of the maps."""
        return self.net.stride

    def forward(self, images: Tensor, near: Points | None = None) -> Outputs:
        return Outputs(self.net(images), tuple(images.shape[2:]))

    def loss(self, outputs: Outputs, points: Points, mask: Tensor | None = None) -> dict[str, Tensor]:
        points, mask = points.at_stride(self.stride), heatmaps.counted(mask, self.stride)
        return {name: self.criterion(maps, points, mask=mask) for name, maps in outputs.items()}

    def predict(self, outputs: Outputs, **decoder: Any) -> Prediction:
        """Peaks of the scores where a pixel counts.

        Args:
            outputs: of :meth:`forward`.
            decoder: options of :func:`falloff.decode.peaks` in place of the study's own.
        """
        *_, maps = outputs.values()
        scores = self.criterion.scores(maps)
        mask = heatmaps.counted(outputs.mask, self.stride)
        found = decode.peaks(scores, **{"count": self.count, "stride": self.stride, "mask": mask, **decoder})
        return Prediction(found, scores, self.stride)

    def get_extra_state(self) -> dict[str, Any]:
        """What is no tensor: how many points are read."""
        return {"count": self.count}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.count = state["count"]
