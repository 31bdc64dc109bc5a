import pytest
import torch

from falloff import losses, systems
from falloff.points import Points

TASK = systems.Task(1, (16, 16), 2, Points.from_lists([([[3.0, 4.0]], [1]), ([], [])]))


def test_a_system_has_a_start_of_its_own_where_none_is_given():
    loss = losses.make("focal")
    system = systems.make("heatmap", TASK, width=4, loss=loss).eval()
    maps = system(torch.zeros(1, 1, 16, 16))["maps"]
    assert maps.shape == (1, 2, 16, 16)
    assert abs(float(maps.mean()) - losses.best_constant(loss, TASK.points, (16, 16), 2)) < 0.1


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"name": "heatmaps"}, r"no system is named 'heatmaps' \(did you mean 'heatmap'"),
        ({"strid": 2}, "system 'heatmap' has no option 'strid'"),
        ({"loss": None}, "system 'heatmap' needs loss, got none"),
        ({"model": "unets"}, r"no model is named 'unets' \(did you mean 'unet'"),
        ({"model_options": {"depth": 3}}, "model 'unet' has no option 'depth'"),
        ({"width": 0}, "width must be an integer above 0"),
    ],
)
def test_what_cannot_be_made_is_named(given, named):
    with pytest.raises(ValueError, match=named):
        systems.make(**{"name": "heatmap", "task": TASK, "width": 4, "loss": losses.make("bce"), **given})
