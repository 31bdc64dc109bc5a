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


def test_a_mask_of_images_counts_a_pixel_of_maps_where_it_counts_all_that_it_covers():
    mask = torch.ones(1, 1, 5, 4, dtype=torch.bool)
    mask[0, 0, 1, 2] = False
    assert systems.base.reduced(mask, 2)[0, 0].tolist() == [[True, False], [True, True], [True, True]]
    assert systems.base.reduced(mask, 1) is mask and systems.base.reduced(None, 2) is None
