"""Predictions and labelled points that compete, and how greedy matching should treat them."""

import math

import torch
from hypothesis import strategies as st

from falloff.points import Points


def scored(*images):
    """Predictions: for each image a list of (x, y, label, score)."""
    return Points.from_lists([([p[:2] for p in i], [p[2] for p in i], [p[3] for p in i]) for i in images])


def labelled(*images):
    return Points.from_lists([([p[:2] for p in i], [p[2] for p in i]) for i in images])


def random_case(seed, batch=2, most=6, classes=2):
    """Predictions of distinct scores and truth, crowded enough that they compete."""
    generator = torch.Generator().manual_seed(seed)

    def draw(slots):
        xy = torch.rand(batch, slots, 2, generator=generator) * 8
        label = torch.randint(classes, (batch, slots), generator=generator)
        return xy, label, torch.rand(batch, slots, generator=generator) < 0.8

    score = torch.randperm(batch * most, generator=generator).view(batch, most) / (batch * most)
    return Points(*draw(most), score), Points(*draw(5))


def there(points, b):
    return points.valid[b].nonzero()[:, 0].tolist()


def apart(predicted, truth, b, m, n):
    return math.dist(predicted.xy[b, m].tolist(), truth.xy[b, n].tolist())


def near(predicted, truth, b, m, radius, any_class=False):
    """Labelled points that a prediction may be matched to."""
    return [
        n
        for n in there(truth, b)
        if (any_class or predicted.label[b, m] == truth.label[b, n]) and apart(predicted, truth, b, m, n) <= radius
    ]


def by_the_rule(predicted, truth, b, radius, any_class=False):
    """What greedy matching should give in one image: the labelled point of each prediction that finds one."""
    pairs = {}
    for m in sorted(there(predicted, b), key=lambda m: -float(predicted.score[b, m])):
        free = set(near(predicted, truth, b, m, radius, any_class)) - set(pairs.values())
        if free:
            pairs[m] = min(free, key=lambda n: apart(predicted, truth, b, m, n))
    return pairs


def none_in_a_volume():
    return Points(torch.zeros(1, 1, 3), torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, 1, dtype=torch.bool))


GOOD = {"predicted": scored([(0.0, 0.0, 0, 0.5)]), "truth": labelled([(0.0, 0.0, 0)]), "radius": 1.0}


SEEDS = st.integers(0, 10**6)
