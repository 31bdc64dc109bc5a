"""Points made and changed in compiled and exported graphs; apart, since no graph goes through checks of types."""

import pytest
import torch
from points_cases import CHANGES, SIGMAS, rich

from falloff import losses
from falloff.points import Points


class Made(torch.nn.Module):
    """Points made inside a graph, which gives some of their arrays or the points themselves."""

    def __init__(self, whole):
        super().__init__()
        self.whole = whole

    def forward(self, xy, label, valid):
        points = Points(xy, label, valid, xy[..., 0], {"size": xy + 1}, sigma=xy[..., 0] + 1, weight=xy[..., 0])
        points = Points.cat([points, points[:1].where(points.label[:1] > 0)]).at_stride(2)
        return points if self.whole else (points.xy, points.label, points.valid)


def arrays():
    valid = torch.tensor([[True] * 3, [True, False, True]])
    return torch.rand(2, 3, 2) * 8, torch.tensor([[0, 1, 2], [2, 1, 0]]), valid


COMPILERS = {
    "compile": lambda net: torch.compile(net, fullgraph=True, backend="eager"),
    "export": lambda net: torch.export.export(net, arrays()).module(),
    "strict export": lambda net: torch.export.export(net, arrays(), strict=True).module(),
}


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("compiler", COMPILERS)
def test_points_made_inside_a_graph_are_those_made_outside(compiler, whole):
    net, given = COMPILERS[compiler](Made(whole)), arrays()
    expected, found = Made(whole)(*given), net(*given)
    if whole:
        assert found.extent == expected.extent and found.extra.keys() == expected.extra.keys()
        found, expected = ((p.xy, p.label, p.valid, p.sigma, p.weight, p.extra["size"]) for p in (found, expected))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_points_are_made_under_vmap_and_pass_through_it():
    xy, label, valid = arrays()
    made = torch.vmap(lambda x, c, v: Points(x[None], c[None], v[None]))(xy, label, valid)
    assert torch.equal(made.xy[:, 0], Points(xy, label, valid).xy)
    moved = torch.vmap(lambda points: points.where(points.xy[..., 0] < 4).xy)(made)
    assert torch.equal(moved[:, 0], Points(xy, label, valid & (xy[..., 0] < 4)).xy)


def test_what_is_wrong_with_points_made_in_a_graph_is_found_where_they_are_first_read():
    made = torch.compile(lambda xy, label: Points(xy, label, label < 9), fullgraph=True, backend="eager")
    label = torch.zeros(1, 2, dtype=torch.int64)
    with pytest.raises(ValueError, match="xy must be finite where valid: image 0, point 1"):
        made(torch.tensor([[[0.0, 1.0], [torch.nan, 0.0]]]), label).check_inside((4, 4), 1)
    with pytest.raises(ValueError, match="label must not be negative"):
        made(torch.zeros(1, 2, 2), label - 1).extent  # noqa: B018


def test_a_stride_that_changes_from_step_to_step_goes_into_a_whole_graph():
    loss, maps, points = losses.make("bce"), torch.randn(2, 3, 12, 12), rich(torch.rand(2, 3) + 1)
    step = torch.compile(lambda maps, points, n: loss(maps, points, stride=n), fullgraph=True, backend="eager")
    for stride in (1, 2, 4, 1.5, 2.5):
        torch.testing.assert_close(step(maps, points, stride), loss(maps, points, stride=stride))


def test_a_compiled_affine_drops_the_points_of_a_perspective_which_an_eager_one_refuses():
    def moved(matrix):
        return rich().affine(matrix, (12, 12)).valid

    matrices = torch.eye(3).repeat(2, 1, 1)
    compiled = torch.compile(moved, fullgraph=True, backend="eager")
    assert torch.equal(compiled(matrices), rich().valid)
    matrices[1, 2, 0] = 0.01
    assert torch.equal(compiled(matrices), rich().valid & torch.tensor([[True], [False]]))


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("change", [name for name in CHANGES if name != "corners"])
def test_a_compiled_change_is_the_eager_one(change, sigma):
    points = rich(SIGMAS[sigma])
    torch.compiler.reset()
    compiled = torch.compile(CHANGES[change], fullgraph=True, backend="eager")(points)
    eager = CHANGES[change](points)
    assert compiled.extent == eager.extent
    assert all(torch.equal(part, compiled._arrays()[name]) for name, part in eager._arrays().items())
