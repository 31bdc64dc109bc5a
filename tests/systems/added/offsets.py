"""Two heads: a map a class for which pixel, and how far from its centre the point lies."""

from collections.abc import Callable

from torch import Tensor, nn

from falloff import decode
from falloff.losses.base import PointLoss
from falloff.losses.regression import at_points
from falloff.points import Points
from falloff.systems.base import Outputs, Prediction, System, Task


class Offsets(System):
    """A class map charged by one of the losses, and offsets charged by L1 at the points' pixels."""

    def __init__(
        self, task: Task, *, net: Callable[..., nn.Module], loss: PointLoss, head_std: float = 1e-3,
        bias: float | None = None, weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.net, self.criterion, self.weight = net({"maps": task.classes, "offsets": 2}), loss, weight
        bias = loss.best_constant(task.points, task.size, task.classes) if bias is None else bias
        nn.init.normal_(self.net.heads["maps"].weight, std=head_std)
        nn.init.constant_(self.net.heads["maps"].bias, bias)

    def forward(self, images: Tensor, near: Points | None = None) -> Outputs:
        return Outputs(self.net(images), tuple(images.shape[2:]))

    def loss(self, outputs: Outputs, points: Points, mask: Tensor | None = None) -> dict[str, Tensor]:
        offsets = at_points(outputs["offsets"], points, "offset", mask=mask)
        return {"maps": self.criterion(outputs["maps"], points, mask=mask), "offsets": self.weight * offsets}

    def predict(self, outputs: Outputs, **decoder: object) -> Prediction:
        scores = self.criterion.scores(outputs["maps"])
        found = decode.peaks(scores, **{"count": 4, **decoder}, refine="offsets", offsets=outputs["offsets"])
        return Prediction(found, scores)
