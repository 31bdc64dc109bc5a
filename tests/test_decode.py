import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scenes import batches, one

from falloff import decode, heatmaps
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


@given(st.integers(0, 10**6), st.sampled_from([1, 3, 5]))
def test_peaks_are_the_pixels_that_no_neighbour_exceeds(seed, window):
    scores = torch.rand(2, 2, 7, 6, generator=torch.Generator().manual_seed(seed))
    points = decode.peaks(scores, count=200, window=window)
    reach = window // 2
    for b in range(2):
        wanted = {
            (c, float(x), float(y))
            for c in range(2)
            for y in range(7)
            for x in range(6)
            if scores[b, c, y, x]
            == scores[b, c, max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1].max()
        }
        assert set(found(points, b)) == wanted
        scored = points.score[b][points.valid[b]]
        assert (scored.diff() <= 0).all()
        for (c, x, y), score in zip(found(points, b), scored, strict=True):
            assert scores[b, c, int(y), int(x)] == score


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
        ({"count": 0}, ValueError, "count must be an integer above 0, got 0"),
        ({"count": 1.5}, ValueError, "count"),
        ({"count": True}, ValueError, "count"),
        ({"window": 2}, ValueError, "window must be an odd integer, at least 1, got 2"),
        ({"window": -1}, ValueError, "window"),
        ({"refine": "half"}, ValueError, "refine must be one of none, quarter, parabola, .* got 'half'"),
        ({"refine": "offsets"}, ValueError, "offsets and refine='offsets' go together"),
        ({"offsets": torch.zeros(1, 2, 4, 4)}, ValueError, "offsets and refine='offsets' go together"),
        (
            {"refine": "offsets", "offsets": torch.zeros(1, 2, 3, 4)},
            ValueError,
            r"offsets must have shape \(1, 2, 4, 4\), got \(1, 2, 3, 4\)",
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
