"""Adaptive wing loss."""

import pytest
import torch
from family import SIZE

from falloff import heatmaps, losses
from falloff.points import Points


def test_the_weighted_map_of_adaptive_wing_is_the_widened_heatmap():
    points = Points.from_lists([([[3.0, 2.0], [0.0, 5.4]], [0, 0])])
    heat = heatmaps.render(points, SIZE, 1, 1.5)[0, 0]
    loss, output = losses.make("adaptive-wing"), torch.ones(1, 1, *SIZE)
    plain = losses.make("adaptive-wing", positive_weight=0.0)
    ratio = (loss.elementwise(output, points) / plain.elementwise(output, points))[0, 0]
    for row in range(SIZE[0]):
        for column in range(SIZE[1]):
            around = heat[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2].max()
            if heat[row, column] < 1:
                assert float(ratio[row, column]) == pytest.approx(11.0 if around >= 0.2 else 1.0, rel=1e-5)
