"""Positions straight from the picture: one point a class, no map anywhere."""

import torch
from torch import Tensor, nn

from falloff.points import Points
from falloff.systems.base import Outputs, Prediction, System, Task


class Regressor(System):
    """A small net whose last layer puts out x and y of each class's point, in units of half the picture."""

    def __init__(self, task: Task, *, width: int, weight: float = 1.0) -> None:
        super().__init__()
        self.classes, self.weight = task.classes, weight
        self.net = nn.Sequential(
            nn.Conv2d(task.channels, width, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(32 * width, 2 * task.classes),
        )

    def forward(self, images: Tensor, near: Points | None = None) -> Outputs:
        where = self.net(images).float().view(len(images), self.classes, 2)
        return Outputs({"where": where}, tuple(images.shape[2:]))

    def loss(self, outputs: Outputs, points: Points, mask: Tensor | None = None) -> dict[str, Tensor]:
        found = self._pixels(outputs)[torch.arange(len(points))[:, None], points.label]
        gap = (found - points.xy).abs().sum(-1)
        return {"distance": self.weight * torch.where(points.valid, gap, 0.0).sum() / points.valid.sum().clamp(min=1)}

    def predict(self, outputs: Outputs, **decoder: object) -> Prediction:
        xy = self._pixels(outputs)
        label = torch.arange(self.classes, device=xy.device).expand(len(xy), -1)
        return Prediction(Points(xy, label, torch.ones_like(label).bool(), torch.ones_like(xy[..., 0])))

    @staticmethod
    def _pixels(outputs: Outputs) -> Tensor:
        half = outputs["where"].new_tensor(outputs.size[::-1]) / 2
        return (outputs["where"] + 1) * half - 0.5
