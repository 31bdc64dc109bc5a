import io
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scenes import batches, one
from torch.nn.functional import max_pool2d

from falloff import decode, heatmaps, metrics
from falloff.points import Points

PLAIN = ["none", "quarter", "parabola", "log-parabola", "soft-argmax"]


def maps(*rows):
    """One map of one image."""
    return torch.tensor(rows, dtype=torch.float32)[None, None]


def found(points, image=0):
    """Valid points of one image as (label, x, y), best first."""
    valid = points.valid[image]
    return [
        (c, x, y)
        for c, (x, y) in zip(
            points.label[image][valid].tolist(), points.xy[image][valid].tolist(), strict=True
        )
    ]


def ranked(scores, window, mask=None):
    """All local maxima of one image as (score, label, x, y), pixel after pixel; the best first, of equals the first."""
    classes, height, width = scores.shape
    kept = torch.ones_like(scores, dtype=torch.bool) if mask is None else mask.expand_as(scores)
    values, reach = torch.where(kept, scores.double(), -math.inf).tolist(), window // 2
    peaks = []
    for c in range(classes):
        for y in range(height):
            for x in range(width):
                around = [
                    (values[c][row][column], (row, column) < (y, x))
                    for row in range(max(0, y - reach), min(height, y + reach + 1))
                    for column in range(max(0, x - reach), min(width, x + reach + 1))
                    if (row, column) != (y, x)
                ]
                own = values[c][y][x]
                if own > -math.inf and all(own > value if earlier else own >= value for value, earlier in around):
                    peaks.append((own, c, float(x), float(y)))
    return sorted(peaks, key=lambda peak: -peak[0])


@st.composite
def scored(draw):
    """Maps of a few images, most with many equal pixels, some with infinite ones."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    shape = [draw(st.integers(1, most)) for most in (3, 3, 9, 9)]
    scores = torch.rand(shape, generator=generator)
    if levels := draw(st.sampled_from([0, 1, 2, 4, 30])):
        scores = (scores * levels).round() - 1
    for infinite in draw(st.sampled_from([(), (torch.inf,), (-torch.inf,), (torch.inf, -torch.inf)])):
        scores[torch.rand(shape, generator=generator) < 0.1] = infinite
    mask = torch.rand(shape[0], draw(st.sampled_from([1, shape[1]])), *shape[2:], generator=generator) < 0.7
    dtype = draw(st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16]))
    return scores.to(dtype, memory_format=draw(st.sampled_from([torch.contiguous_format, torch.channels_last]))), mask


@given(scored(), st.booleans(), st.sampled_from([1, 3, 5, 7, 11, 99]), st.sampled_from([1, 2, 5, 300]),
       st.sampled_from([None, 0.0, 0.5]), st.booleans(), st.sampled_from([30, 2**17]))
def test_peaks_are_the_pixels_that_no_neighbour_exceeds_of_equals_the_first(
    scores_and_mask, masked, window, count, threshold, per_class, at_once
):
    scores, mask = scores_and_mask
    mask = mask if masked else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decode, "AT_ONCE", at_once)  # in one part or in several: of images, and of one image's maps
        points = decode.peaks(scores, count=count, window=window, threshold=threshold, per_class=per_class, mask=mask)
    assert points.xy.shape[1] == count * (scores.shape[1] if per_class else 1)
    assert points.score.dtype == scores.dtype
    for b, image in enumerate(scores):
        wanted = ranked(image, window, None if mask is None else mask[b])
        wanted = [peak for peak in wanted if threshold is None or peak[0] >= threshold]
        if per_class:
            wanted = [peak for c in range(len(image)) for peak in [one for one in wanted if one[1] == c][:count]]
        assert found(points, b) == [peak[1:] for peak in wanted[: None if per_class else count]]
        assert points.score[b][points.valid[b]].tolist() == [peak[0] for peak in wanted[: None if per_class else count]]


@pytest.mark.parametrize("window", [3, 5, 7, 9, 11])
@pytest.mark.parametrize("shape", [(3, 5, 33, 70), (1, 1, 400, 401)])
def test_peaks_of_larger_maps_are_those_of_a_pooling_that_says_which_pixel_won(window, shape):
    scores = torch.rand(shape, generator=torch.Generator().manual_seed(window)).mul(200).round()
    _, winner = max_pool2d(scores, window, stride=1, padding=window // 2, return_indices=True)
    is_peak = winner == torch.arange(shape[2] * shape[3]).view(shape[2:])
    score, index = torch.where(is_peak, scores, -torch.inf).flatten(1).sort(dim=1, descending=True, stable=True)
    for count in (1, 7, 3000):
        points, some = decode.peaks(scores, count=count, window=window), slice(None, count)
        valid = score[:, some] > -torch.inf
        missing = count - valid.shape[1]
        assert torch.equal(points.valid, torch.nn.functional.pad(valid, (0, max(0, missing))))
        at = points.label * shape[2] * shape[3] + points.xy[..., 1].long() * shape[3] + points.xy[..., 0].long()
        assert torch.equal(at[points.valid], index[:, some][valid])
        assert torch.equal(points.score[points.valid], score[:, some][valid])


@given(batches((9, 11), 3))
def test_rendered_points_come_back(points):
    # One point per map, on its pixel: several could merge into one peak.
    scores = heatmaps.positives(points, (9, 11), 3).flatten(2)
    scores = torch.where(scores.cumsum(2) == 1, scores, False).view(-1, 3, 9, 11).float()
    back = decode.peaks(scores, count=3, threshold=0.5)
    for b in range(len(points)):
        assert sorted(found(back, b)) == sorted(
            (c, float(x), float(y)) for c, y, x in scores[b].nonzero().tolist()
        )


def test_the_highest_come_first_over_all_classes_and_the_rest_is_dropped():
    scores = torch.zeros(1, 2, 5, 5)
    scores[0, 0, 1, 1], scores[0, 1, 3, 3], scores[0, 1, 0, 4] = 0.5, 0.9, 0.7
    assert found(decode.peaks(scores, count=2)) == [(1, 3.0, 3.0), (1, 4.0, 0.0)]


def test_a_threshold_keeps_what_equals_it():
    scores = maps([0.5, 0.0, 0.25, 0.0, 0.1])
    assert found(decode.peaks(scores, count=5, threshold=0.25)) == [(0, 0.0, 0.0), (0, 2.0, 0.0)]


def test_fewer_peaks_than_asked_are_padded():
    points = decode.peaks(maps([0.0, 1.0, 0.0]), count=4)
    assert points.valid.tolist() == [[True, False, False, False]]
    assert points.xy.shape == (1, 4, 2) and points.score.tolist() == [[1.0, 0.0, 0.0, 0.0]]


def test_more_peaks_than_pixels_can_be_asked_for():
    assert decode.peaks(torch.rand(2, 1, 2, 2), count=9).xy.shape == (2, 9, 2)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_plateau_gives_one_point_the_first_in_reading_order(layout):
    scores = maps([0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]).contiguous(memory_format=layout)
    assert found(decode.peaks(scores, count=5, threshold=0.5)) == [(0, 1.0, 1.0)]
    assert found(decode.peaks(torch.zeros(1, 2, 6, 6), count=9)) == [(0, 0.0, 0.0), (1, 0.0, 0.0)]


@pytest.mark.parametrize(("x", "y"), [(0, 0), (4, 0), (0, 3), (4, 3), (2, 0), (4, 2)])
@pytest.mark.parametrize("refine", PLAIN)
def test_peaks_at_the_border_are_found_and_not_moved_across_it(x, y, refine):
    scores = torch.zeros(1, 1, 4, 5)
    scores[0, 0, y, x] = 1.0
    points = decode.peaks(scores, count=1, refine=refine)
    assert points.xy[0, 0].tolist() == [x, y]
    points.check_inside((4, 5), 1)


def test_negative_scores_are_scores():
    assert found(decode.peaks(maps([-5.0, -3.0, -4.0]), count=1)) == [(0, 1.0, 0.0)]


def test_a_quarter_of_a_pixel_towards_the_higher_neighbour():
    # Newell et al. 2016, section 3.3.
    scores = maps([0.0, 0.1, 0.0, 0.0], [0.2, 1.0, 0.3, 0.0], [0.0, 0.1, 0.0, 0.0])
    assert decode.peaks(scores, count=1, refine="quarter").xy[0, 0].tolist() == [1.25, 1.0]
    assert decode.peaks(scores.flip(3), count=1, refine="quarter").xy[0, 0].tolist() == [1.75, 1.0]


@given(st.floats(2.0, 6.0), st.floats(2.0, 6.0))
def test_the_parabola_finds_the_top_of_a_parabola(x, y):
    row, column = torch.meshgrid(torch.arange(9.0), torch.arange(9.0), indexing="ij")
    scores = (-2.0 * (row - y) ** 2 - 0.7 * (column - x) ** 2)[None, None].double()
    assert decode.peaks(scores, count=1, refine="parabola").xy[0, 0].tolist() == pytest.approx(
        [x, y], abs=1e-5
    )


@given(st.integers(0, 10**6))
def test_refinement_moves_no_point_further_than_half_a_pixel(seed):
    scores = torch.rand(2, 2, 6, 6, generator=torch.Generator().manual_seed(seed)).mul(4).round()  # many ties
    plain = decode.peaks(scores, count=20)
    for refine in PLAIN[1:]:
        moved = decode.peaks(scores, count=20, refine=refine)
        assert torch.equal(moved.valid, plain.valid)
        assert (moved.xy - plain.xy).abs().max() <= 0.5


def test_on_the_map_of_a_point_between_pixels_refinement_comes_nearer():
    points = Points.from_lists([([[4.3, 5.8]], [0])])
    scores = heatmaps.render(points, (11, 11), 1, 1.5)
    errors = [
        float((decode.peaks(scores, count=1, refine=refine).xy - points.xy).norm())
        for refine in PLAIN
    ]
    assert errors[0] > errors[1] > errors[2] and errors[2] < 0.05
    assert errors[3] < 1e-4 and errors[0] > errors[4]


@given(st.floats(3.0, 7.0), st.floats(3.0, 7.0), st.floats(0.8, 2.5), st.floats(0.8, 2.5), st.floats(0.0, 3.0))
def test_the_log_parabola_finds_the_centre_of_any_gaussian(x, y, long, short, angle):
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]).double()
    spread = turn @ torch.diag(torch.tensor([long, short]).double() ** 2) @ turn.T
    points = one(x, y, dtype=torch.float64)
    scores = heatmaps.render(points, (11, 11), 1, spread.view(1, 1, 2, 2))
    found = decode.peaks(scores, count=1, refine="log-parabola").xy[0, 0]
    nearest = decode.peaks(scores, count=1).xy[0, 0]
    # A long, slanted Gaussian may be highest at a pixel further than half a pixel away; a step is at most that long.
    if ((nearest - points.xy[0, 0]).abs() <= 0.5).all():
        assert found.tolist() == pytest.approx([x, y], abs=1e-6)


@pytest.mark.parametrize("side", [3, 5, 7])
def test_the_soft_argmax_looks_at_as_many_pixels_as_asked(side):
    scores = torch.zeros(1, 1, 15, 15, dtype=torch.float64)
    scores[0, 0, 7, 7] = 1.0
    scores[0, 0, 7, 8:11] = 0.1  # 1, 2 and 3 px to the right of the peak
    seen = side // 2
    moved = 0.1 * sum(range(1, seen + 1)) / (1 + 0.1 * seen)
    found = decode.peaks(scores, count=1, refine="soft-argmax", soft_window=side).xy[0, 0]
    assert found.tolist() == pytest.approx([7 + moved, 7])


def test_the_soft_argmax_is_the_centre_of_mass_of_five_by_five_pixels():
    scores = torch.rand(1, 1, 9, 9, generator=torch.Generator().manual_seed(3))
    scores[0, 0, 4, 3] = 2.0
    window = scores[0, 0, 2:7, 1:6].double()
    step = torch.arange(-2.0, 3.0).double()
    means = [float((window.sum(axis) * step).sum() / window.sum()) for axis in (0, 1)]
    assert decode.peaks(scores, count=1, refine="soft-argmax").xy[0, 0].tolist() == pytest.approx(
        [3 + means[0], 4 + means[1]], abs=1e-5
    )


def test_learned_offsets_are_read_at_the_peak_and_stay_in_the_picture():
    scores, offsets = torch.zeros(1, 2, 6, 8), torch.zeros(1, 2, 6, 8)
    scores[0, 1, 2, 5], scores[0, 0, 0, 0] = 1.0, 0.5
    offsets[0, :, 2, 5], offsets[0, :, 0, 0] = torch.tensor([0.3, -0.2]), torch.tensor([-4.0, 0.1])
    points = decode.peaks(scores, count=2, refine="offsets", offsets=offsets)
    assert points.xy[0].flatten().tolist() == pytest.approx([5.3, 1.8, -0.5, 0.1])
    points.check_inside((6, 8), 2)


def test_learned_offsets_of_each_class_are_read_from_its_own_two_channels():
    scores, offsets = torch.zeros(1, 2, 6, 8), torch.zeros(1, 4, 6, 8)
    scores[0, 1, 2, 5], scores[0, 0, 2, 3] = 1.0, 0.5
    offsets[0, 2:, 2, 5], offsets[0, :2, 2, 3] = torch.tensor([0.25, -0.5]), torch.tensor([-0.25, 0.125])
    points = decode.peaks(scores, count=2, refine="offsets", offsets=offsets)
    assert points.xy[0].tolist() == [[5.25, 1.5], [2.75, 2.125]]
    both = decode.peaks(scores, count=2, refine="offsets", offsets=offsets[:, :2])
    assert both.xy[0].tolist() == [[5.0, 2.0], [2.75, 2.125]]


def test_one_peak_a_map_is_the_highest_pixel_of_each_in_the_order_of_the_classes():
    truth = Points.from_lists([([[3.0, 4.0], [10.0, 10.0], [20.0, 20.0], [25.0, 5.0], [5.0, 25.0]], list(range(5)))])
    scores = torch.full((1, 5, 32, 32), 0.01)
    for c, (x, y) in enumerate(truth.xy[0].long().tolist()):
        scores[0, c, y, x] = 0.9 - 0.15 * c
    scores[0, 0, 20, 4] = scores[0, 1, 28, 28] = 0.7  # seconds, higher than the firsts of others
    points = decode.peaks(scores, per_class=True)
    assert torch.equal(points.xy, truth.xy) and torch.equal(points.label, truth.label)
    assert metrics.pck(points, truth, threshold=1.0) == 1.0 and metrics.nme(points, truth, scale=10.0) == 0.0
    two = decode.peaks(scores, per_class=True, count=2, threshold=0.5)
    assert found(two) == [(0, 3, 4), (0, 4, 20), (1, 10, 10), (1, 28, 28), (2, 20, 20)]
    assert two.valid.tolist() == [[True, True, True, True, True, False, False, False, False, False]]


def test_what_the_mask_leaves_out_is_as_if_outside_of_the_picture():
    scores = torch.rand(2, 2, 9, 12, generator=torch.Generator().manual_seed(1))
    mask = torch.zeros(2, 1, 9, 12, dtype=torch.bool)
    mask[:, :, :6, :7] = True
    scores[:, :, 3, 7], scores[:, :, 8, 8] = 9.0, torch.nan
    for refine in PLAIN:
        inner, masked = (
            decode.peaks(maps, count=30, refine=refine, mask=some)
            for maps, some in ((scores[:, :, :6, :7], None), (scores, mask))
        )
        assert torch.equal(inner.valid, masked.valid)
        assert torch.equal(inner.xy, masked.xy) and torch.equal(inner.score, masked.score)
    assert not decode.peaks(scores, count=3, mask=mask & False).valid.any()


@pytest.mark.parametrize("stride", [1, 2, 4, 2.5, 1 / 3])
def test_with_a_stride_positions_are_those_in_the_image(stride):
    points = Points.from_lists([([[9.5, 17.5], [21.5, 1.5]], [0, 1])])  # pixels (2, 4) and (5, 0) of a map at stride 4
    scores = heatmaps.render(points.at_stride(4), (6, 8), 2, 1.0)
    assert sorted(decode.peaks(scores, count=2, stride=4).xy[0].tolist()) == [[9.5, 17.5], [21.5, 1.5]]
    for refine in PLAIN:
        plain, moved = (decode.peaks(scores, count=9, refine=refine, stride=s) for s in (1, stride))
        assert torch.equal(moved.xy, plain.at_stride(1 / stride).xy)
        torch.testing.assert_close(moved.xy[moved.valid], (plain.xy[moved.valid] + 0.5) * stride - 0.5)
    offsets = torch.full((1, 2, 6, 8), 9.0)  # held at the edge of the map, which is that of the image
    edge = decode.peaks(scores, count=2, refine="offsets", offsets=offsets, stride=stride)
    assert (edge.xy[edge.valid] == torch.tensor([8 * stride - 0.5, 6 * stride - 0.5])).all()


def test_an_empty_batch_has_no_peaks():
    scores = torch.zeros(0, 2, 5, 5)
    assert decode.peaks(scores, count=3, refine="parabola").xy.shape == (0, 3, 2)
    assert decode.peaks(scores, per_class=True, mask=scores > 0).xy.shape == (0, 2, 2)


def test_what_is_minus_infinity_everywhere_has_no_peak():
    assert not decode.peaks(torch.full((1, 1, 4, 4), -torch.inf), count=3).valid.any()


def test_scores_carry_a_gradient_and_so_do_refined_positions():
    scores = torch.rand(1, 2, 9, 9, generator=torch.Generator().manual_seed(2)).requires_grad_()
    points = decode.peaks(scores, count=2, refine="soft-argmax")
    (slope,) = torch.autograd.grad(points.score.sum(), scores, retain_graph=True)
    assert slope.sum() == 2 and slope.count_nonzero() == 2
    assert torch.autograd.grad(points.xy.sum(), scores)[0].count_nonzero() > 2


class Decoder(torch.nn.Module):
    """What stands behind a net, as one graph."""

    def __init__(self, **options):
        super().__init__()
        self.options = options

    def forward(self, scores, offsets=None, mask=None):
        points = decode.peaks(scores, offsets=offsets, mask=mask, **self.options)
        return points.xy, points.label, points.score, points.valid


def inputs(batch, offsets, mask, seed=0):
    """Scores with many equals, and what goes with them."""
    generator = torch.Generator().manual_seed(seed + batch)
    scores = torch.rand(batch, 3, 10, 12, generator=generator).mul(20).round() / 20
    return (
        scores,
        torch.rand(batch, offsets, 10, 12, generator=generator) - 0.5 if offsets else None,
        torch.rand(batch, mask, 10, 12, generator=generator) < 0.8 if mask else None,
    )


# Options, channels of the offsets and of the mask.
IN_A_GRAPH = {
    "none": ({"count": 7, "threshold": 0.4}, 0, 0),
    "quarter": ({"count": 7, "refine": "quarter", "window": 5, "stride": 4}, 0, 1),
    "parabola": ({"count": 2, "refine": "parabola", "per_class": True}, 0, 3),
    "log-parabola": ({"count": 7, "refine": "log-parabola", "window": 11, "stride": 2.5}, 0, 0),
    "soft-argmax": ({"per_class": True, "refine": "soft-argmax", "stride": 4}, 0, 3),
    "offsets": ({"count": 7, "refine": "offsets", "stride": 4}, 2, 0),
    "offsets of each class": ({"count": 500, "refine": "offsets", "window": 7}, 6, 1),
}
BATCHES = torch.export.Dim("batch", min=1)


def any_batch(given):
    return tuple(None if part is None else {0: BATCHES} for part in given)


COMPILERS = {
    "compile": lambda net, given: torch.compile(net, fullgraph=True, backend="eager"),
    "export": lambda net, given: torch.export.export(net, given, dynamic_shapes=any_batch(given)).module(),
}


@pytest.mark.graphs
@pytest.mark.parametrize("options", IN_A_GRAPH)
@pytest.mark.parametrize("compiler", COMPILERS)
def test_a_decoder_in_a_graph_finds_what_it_finds_outside(compiler, options):
    options, *channels = IN_A_GRAPH[options]
    torch.compiler.reset()
    net = Decoder(**options)
    made = COMPILERS[compiler](net, inputs(2, *channels))
    for batch in (2,) if compiler == "compile" else (2, 1, 5):
        given = inputs(batch, *channels, seed=1)
        assert all(torch.equal(a, b) for a, b in zip(made(*given), net(*given), strict=True))


@pytest.mark.graphs
@pytest.mark.filterwarnings("ignore")
def test_a_traced_decoder_finds_what_it_finds_outside():
    net = Decoder(count=7, refine="parabola")
    (first, _, _), (other, _, _) = inputs(2, 0, 0), inputs(2, 0, 0, seed=1)
    traced = torch.jit.trace(net, (first,))
    assert all(torch.equal(a, b) for a, b in zip(traced(other), net(other), strict=True))


@pytest.mark.graphs
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("options", IN_A_GRAPH)
def test_a_decoder_in_onnx_finds_what_it_finds_outside(options):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    options, *channels = IN_A_GRAPH[options]
    net, given = Decoder(**options), inputs(2, *channels)
    file = io.BytesIO()
    torch.onnx.export(net, given, dynamo=True, dynamic_shapes=any_batch(given), verbose=False).save(file)
    session = runtime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    for batch in (2, 1, 5):
        given = inputs(batch, *channels, seed=1)
        arrays = [part.numpy() for part in given if part is not None]
        names = [one.name for one in session.get_inputs()]
        xy, *others = map(torch.from_numpy, session.run(None, dict(zip(names, arrays, strict=True))))
        expected_xy, *expected = net(*given)
        assert all(torch.equal(a, b) for a, b in zip(others, expected, strict=True))
        # A refinement divides and takes logarithms, whose last bit is another library's own.
        torch.testing.assert_close(xy, expected_xy, rtol=0, atol=0 if options.get("refine", "none") == "none" else 1e-5)


@pytest.mark.graphs
def test_nan_is_refused_outside_of_a_graph_alone():
    scores = torch.rand(1, 2, 6, 6, generator=torch.Generator().manual_seed(4))
    scores[0, 1, 2, 2] = torch.nan
    with pytest.raises(ValueError, match="scores hold NaN: image 0, class 1"):
        decode.peaks(scores, count=4)
    compiled = torch.compile(Decoder(count=4), fullgraph=True, backend="eager")
    xy, _, score, _ = compiled(scores)
    assert not torch.isnan(score).any() and torch.isfinite(xy).all()


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_each_image_is_decoded_under_vmap():
    scores = torch.rand(3, 2, 8, 8, generator=torch.Generator().manual_seed(5))
    xy = torch.vmap(lambda image: decode.peaks(image[None], count=4, refine="quarter").xy[0])(scores)
    assert torch.equal(xy, decode.peaks(scores, count=4, refine="quarter").xy)


def test_no_image_leaks_into_another():
    scores = torch.rand(3, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    together = decode.peaks(scores, count=6, refine="parabola")
    for b in range(3):
        assert found(decode.peaks(scores[b : b + 1], count=6, refine="parabola")) == found(together, b)


@pytest.mark.parametrize(
    ("changed", "error", "named"),
    [
        (
            {"scores": torch.zeros(1, 1, 4, 4, dtype=torch.int64)},
            TypeError,
            "scores must be a floating point",
        ),
        ({"scores": [[0.0]]}, TypeError, "scores"),
        ({"scores": torch.zeros(1, 4, 4)}, ValueError, "scores must have shape"),
        ({"scores": torch.full((1, 1, 4, 4), torch.nan)}, ValueError, "scores hold NaN"),
        ({"scores": torch.zeros(1, 0, 4, 4)}, ValueError, r"scores must have shape .* got \(1, 0, 4, 4\)"),
        ({"count": 0}, ValueError, "count must be an integer above 0, got 0"),
        ({"count": None}, ValueError, "count must be given, unless per_class=True"),
        ({"count": 0, "per_class": True}, ValueError, "count must be an integer above 0, got 0"),
        ({"stride": 0}, ValueError, "stride must be finite and above 0, got 0"),
        ({"stride": "4"}, TypeError, "stride must be a number, got '4'"),
        ({"mask": torch.ones(1, 1, 4, 4)}, TypeError, "mask must be a bool tensor, got torch.float32"),
        ({"mask": [[True]]}, TypeError, "mask must be a bool tensor, got list"),
        (
            {"mask": torch.ones(1, 4, 4, dtype=torch.bool)},
            ValueError,
            r"mask must have shape \(1, 1, 4, 4\), got \(1, 4, 4\)",
        ),
        (
            {"scores": torch.zeros(2, 3, 4, 4), "mask": torch.ones(2, 2, 4, 4, dtype=torch.bool)},
            ValueError,
            r"mask must have shape \(2, 1, 4, 4\) or \(2, 3, 4, 4\), got \(2, 2, 4, 4\)",
        ),
        ({"count": 1.5}, ValueError, "count"),
        ({"count": True}, ValueError, "count"),
        ({"window": 2}, ValueError, "window must be an odd integer, at least 1, got 2"),
        ({"window": -1}, ValueError, "window"),
        ({"soft_window": 4}, ValueError, "soft_window must be an odd integer, at least 3, got 4"),
        ({"soft_window": 1}, ValueError, "soft_window"),
        ({"refine": "half"}, ValueError, "refine must be one of none, quarter, parabola, .* got 'half'"),
        ({"refine": "offsets"}, ValueError, "offsets and refine='offsets' go together"),
        ({"offsets": torch.zeros(1, 2, 4, 4)}, ValueError, "offsets and refine='offsets' go together"),
        (
            {"refine": "offsets", "offsets": torch.zeros(1, 2, 3, 4)},
            ValueError,
            r"offsets must have shape \(1, 2, 4, 4\), got \(1, 2, 3, 4\)",
        ),
        (
            {"scores": torch.zeros(1, 3, 4, 4), "refine": "offsets", "offsets": torch.zeros(1, 4, 4, 4)},
            ValueError,
            r"offsets must have shape \(1, 2, 4, 4\) or \(1, 6, 4, 4\), got \(1, 4, 4, 4\)",
        ),
    ],
)
@pytest.mark.bad_input
def test_bad_arguments_are_named(changed, error, named):
    arguments = {"scores": torch.zeros(1, 1, 4, 4), "count": 1} | changed
    with pytest.raises(error, match=named):
        decode.peaks(**arguments)


@pytest.mark.bad_input
def test_a_threshold_that_is_no_number_is_named():
    with pytest.raises(TypeError, match="threshold"):
        decode.peaks(torch.zeros(1, 1, 4, 4), count=1, threshold="0.5")


def test_an_infinite_score_is_not_dropped_in_silence():
    scores = maps([0.0, torch.inf, 0.0])
    try:
        points = decode.peaks(scores, count=1)
    except ValueError as error:
        assert "scores" in str(error)
    else:
        assert found(points) == [(0, 1.0, 0.0)]
