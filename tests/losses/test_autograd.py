"""The compiled pass, and a step that its caller compiles whole."""

import mmap
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from family import LARGE, PIXEL, gradient, scene, with_
from torch._dynamo.testing import CompileCounterWithBackend
from torch._dynamo.utils import counters

from falloff import heatmaps, losses
from falloff.heatmaps import Window
from falloff.losses import autograd
from falloff.points import Points


@pytest.fixture
def eager(monkeypatch):
    def run(*given, **options):
        monkeypatch.setenv("FALLOFF_COMPILE", "0")
        try:
            return gradient(*given, **options)
        finally:
            monkeypatch.delenv("FALLOFF_COMPILE")

    return run


@pytest.fixture
def works():
    """Skip where there is no compiler, or it failed before, or PyTorch is older than the compiled pass needs."""
    if not losses.compiler_works() and not autograd._given_up:
        pytest.skip(f"PyTorch {torch.__version__} compiles no losses")
    logits, points = scene(shape=LARGE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        losses.make("bce")(logits, points)
    if autograd._given_up:
        pytest.skip(f"torch.compile does not work here: {autograd._given_up[0]}")


@pytest.mark.parametrize("name", PIXEL)
def test_the_compiled_pass_equals_the_eager_form(name, eager, works):
    logits, points = scene(shape=LARGE)
    exact = eager(losses.make(name), logits.detach().double().requires_grad_(), points)
    for maps in (logits, logits.detach().contiguous(memory_format=torch.channels_last).requires_grad_()):
        value, slope = gradient(losses.make(name), maps, points)
        assert float(value) == pytest.approx(float(exact[0]), rel=1e-6)
        assert float((slope - exact[1]).abs().max() / exact[1].abs().max()) < 1e-6
        assert slope.stride() == maps.stride()


def parts(name, dtype=torch.float32):
    """The two sums of each image, the logits that they are differentiated by, and twice the sums by hand."""
    logits, points = scene(dtype, shape=LARGE)
    points = with_(points, weight=torch.tensor([[2.0, 0.5], [1.0, 3.0]])).padded(3)
    loss = losses.make(name)
    window = Window.of(points, LARGE[2:], LARGE[1], loss.width, kind=loss.kind)
    shares = torch.tensor([2.0, 3.0], dtype=dtype)
    return autograd.total(loss, logits, window, points, shares, None), logits


@pytest.mark.parametrize("name", PIXEL)
@pytest.mark.parametrize("upstream", [[[1, 1], [1, 1]], [[1, 1], [3, 3]], [[1, 2], [0, -4]]])
def test_parts_of_the_compiled_pass_and_their_gradients_equal_the_eager_forms(name, upstream, monkeypatch, works):
    value, logits = parts(name)
    (slope,) = torch.autograd.grad(value, logits, torch.tensor(upstream, dtype=torch.float32))
    monkeypatch.setenv("FALLOFF_COMPILE", "0")
    exact, logits = parts(name, torch.float64)
    (wanted,) = torch.autograd.grad(exact, logits, torch.tensor(upstream, dtype=torch.float64))
    assert value.shape == (2, 2) and torch.allclose(value.double(), exact, rtol=1e-6, atol=0)
    assert float((slope - wanted).abs().max() / wanted.abs().max()) < 1e-6


@pytest.mark.parametrize("name", PIXEL)
def test_the_first_part_is_that_of_the_pixels_nearest_to_points(name):
    logits, points = scene(torch.float64)
    loss = losses.make(name, normalizer=1.0)
    window = Window.of(points, logits.shape[2:], 2, loss.width, kind=loss.kind)
    found = autograd.total(loss, logits, window, points, torch.ones(2, dtype=torch.float64), None)
    each, labelled = loss.elementwise(logits, points), heatmaps.positives(points, logits.shape[2:], 2)
    wanted = torch.stack([torch.where(kept, each, 0.0).flatten(1).sum(1) for kept in (labelled, ~labelled)], 1)
    assert torch.allclose(found, wanted, rtol=1e-12)


@pytest.mark.parametrize("form", ["each", "axes", "covariance"])
@pytest.mark.parametrize("name", [name for name in PIXEL if "sigma" in losses.options(name)])
def test_a_width_that_is_learned_gets_the_gradient_of_finite_differences(name, form):
    logits, points = scene(torch.float64)
    points = Points(points.xy.double(), points.label, points.valid)
    sigma = {
        "each": torch.tensor([[1.2, 2.5], [1.7, 1.0]]),
        "axes": torch.tensor([[[1.2, 2.0], [2.5, 1.0]], [[1.7, 1.5], [1.0, 1.0]]]),
        "covariance": torch.tensor([[3.0, 1.2], [1.2, 1.5]]).expand(2, 2, 2, 2),
    }[form].double()
    weight = torch.tensor([[2.0, 0.5], [1.0, 1.0]], dtype=torch.float64)
    loss = losses.make(name)

    def value(sigma):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return loss(logits, with_(points, sigma=sigma, weight=weight))

    learned = sigma.clone().requires_grad_()
    ours = torch.autograd.grad(value(learned), [learned, logits])
    along = torch.linspace(-1, 1, sigma.numel(), dtype=torch.float64).view(sigma.shape)
    along = (along + along.mT) / 2 if form == "covariance" else along
    step = 1e-6
    wanted = (value(sigma + step * along) - value(sigma - step * along)) / (2 * step)
    assert float((ours[0] * along).sum()) == pytest.approx(float(wanted.detach()), rel=1e-5, abs=1e-9)
    (fixed,) = torch.autograd.grad(value(sigma), logits)
    assert torch.allclose(ours[1], fixed, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(("name", "options"), [
    ("distance-aware", ("normalizer", "sigma", "alpha", "beta")),
    ("distance-map-bce", ("reach",)),
    ("focal", ("gamma", "alpha")),
    ("varifocal", ("alpha",)),
    ("quality-focal", ("beta",)),
    ("weighted-bce", ("positive_weight",)),
    ("weighted-mse", ("scale", "positive_weight")),
    ("adaptive-wing", ("omega", "theta", "epsilon", "alpha", "positive_weight", "sigma")),
])
def test_an_option_that_changes_from_step_to_step_compiles_nothing_anew(name, options, eager, works):
    logits, points = scene(shape=LARGE)
    start = 1.1 if name == "adaptive-wing" else 0.1
    for option in options:
        for step in range(4):
            loss = losses.make(name, **{option: start + 0.3 * step})
            before = counters["stats"]["unique_graphs"]
            value, slope = gradient(loss, logits, points)
            assert step == 0 or counters["stats"]["unique_graphs"] == before
            exact = eager(loss, logits, points)
            assert float(value) == pytest.approx(float(exact[0]), rel=1e-6)
            assert torch.allclose(slope, exact[1], rtol=1e-5, atol=1e-6)


def test_another_number_of_points_or_width_compiles_nothing_anew(works):
    loss, logits = losses.make("distance-aware"), scene(shape=LARGE)[0]
    generator = torch.Generator().manual_seed(0)
    for step, count in enumerate((1, 5, 100, 230, 701, 0)):
        xy = 255 * torch.rand(2, count, 2, generator=generator)
        points = Points(xy, torch.zeros(2, count, dtype=torch.int64), torch.ones(2, count, dtype=torch.bool))
        before = counters["stats"]["unique_graphs"]
        gradient(loss, logits, points)
        gradient(loss, logits, with_(points, sigma=torch.full((2, count), 3.0 - 0.4 * step)))
        assert step == 0 or counters["stats"]["unique_graphs"] == before


@pytest.mark.parametrize("number", [np.float32, np.float64, np.int64])
def test_options_that_are_numpys_numbers_are_compiled_as_pythons(number, works):
    logits, points = scene(shape=LARGE)
    theirs = losses.make("distance-aware", alpha=number(2), sigma=number(1), normalizer=number(3))
    ours = losses.make("distance-aware", alpha=2, sigma=1, normalizer=3)
    assert theirs == ours and type(theirs.alpha) in (int, float)
    both = gradient(theirs, logits, points), gradient(ours, logits, points)
    assert torch.equal(both[0][0], both[1][0]) and torch.equal(both[0][1], both[1][1])
    assert not autograd._given_up


@pytest.mark.parametrize("extreme", [1e4, -1e4, 100.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_the_compiled_pass_is_safe_in_every_precision(dtype, extreme, works):
    logits = torch.full(LARGE, extreme, dtype=dtype, requires_grad=True)
    value, slope = gradient(losses.make("distance-aware", normalizer=1.0), logits, scene(shape=LARGE)[1])
    assert torch.isfinite(value) and slope.dtype == dtype
    assert float(slope[0, 0, 100, 100]) == pytest.approx(1.0 if extreme > 0 else 0.0, abs=1e-30)
    assert float(slope[1, 1, 0, 128]) == pytest.approx(0.0 if extreme > 0 else -1.0, abs=1e-30)


def test_masks_weights_and_widths_go_through_the_compiled_pass(eager, works):
    logits, points = scene(shape=LARGE)
    own = with_(points, sigma=torch.tensor([[0.7, 2.5], [4.0, 1.0]]), weight=torch.tensor([[2.0, 0.0], [1.0, 1.0]]))
    mask = torch.rand(2, 1, *LARGE[2:], generator=torch.Generator().manual_seed(0)) > 0.5
    for normalizer in ("points", "image"):
        loss = losses.make("distance-aware", normalizer=normalizer)
        compiled, exact = gradient(loss, logits, own, mask=mask), eager(loss, logits, own, mask=mask)
        assert float(compiled[0]) == pytest.approx(float(exact[0]), rel=1e-6)
        assert torch.allclose(compiled[1], exact[1], rtol=1e-5, atol=1e-7)


def test_many_points_drawn_in_parts_are_all_there(eager, works):
    generator = torch.Generator().manual_seed(0)
    xy = torch.rand(4, 700, 2, generator=generator) * 255
    points = Points(xy, torch.randint(0, 2, (4, 700), generator=generator), torch.ones(4, 700, dtype=torch.bool))
    logits = torch.randn(4, 2, 256, 256, generator=generator).requires_grad_()
    loss = losses.make("distance-aware")
    compiled, exact = gradient(loss, logits, points), eager(loss, logits, points)
    assert float(compiled[0]) == pytest.approx(float(exact[0]), rel=1e-6)
    assert torch.allclose(compiled[1], exact[1], rtol=1e-4, atol=1e-8)


def test_the_compiled_pass_can_be_differentiated_twice_and_backward_run_again(works):
    logits, points = scene(shape=LARGE)
    value = losses.make("focal")(logits, points)
    (slope,) = torch.autograd.grad(value, logits, create_graph=True)
    (curve,) = torch.autograd.grad(slope.sum(), logits, retain_graph=True)
    assert torch.isfinite(curve).all() and (curve != 0).any()
    again = [torch.autograd.grad(value, logits, retain_graph=True)[0] for _ in range(2)]
    assert torch.equal(*again) and torch.allclose(again[0], slope.detach(), atol=1e-7)
    (tripled,) = torch.autograd.grad(3 * value, logits)
    assert torch.allclose(tripled, 3 * again[0])


def test_a_profiler_that_holds_the_compilers_frames_does_no_harm(works, monkeypatch):
    # Dask samples the frames of its workers. One that it holds keeps the compiler's change of modes alive meanwhile.
    enter, held = torch.autograd.grad_mode._enter_inference_mode, []
    monkeypatch.setattr(torch.autograd.grad_mode, "_enter_inference_mode", lambda mode: held.append(enter(mode)))
    logits, points = scene(shape=(2, 2, 256, 264))  # a shape of its own: it must be compiled
    value, slope = gradient(losses.make("bce"), logits, points)
    assert held and torch.isfinite(value) and torch.isfinite(slope).all()
    while held:
        held.pop()


def test_a_volume_goes_through_the_compiled_pass(eager, works):
    points = Points.from_lists([([[5.2, 3.0, 1.0], [6.4, 0.0, 2.3]], [0, 1])])
    logits = torch.randn(1, 2, 8, 128, 128, generator=torch.Generator().manual_seed(0)).requires_grad_()
    for name in ("distance-aware", "adaptive-wing"):
        compiled, exact = gradient(losses.make(name), logits, points), eager(losses.make(name), logits, points)
        assert float(compiled[0]) == pytest.approx(float(exact[0]), rel=1e-6)
        assert torch.allclose(compiled[1], exact[1], rtol=1e-5, atol=1e-7)


def test_a_gradient_that_somebody_holds_is_never_written_over(works):
    # The memory of a large gradient is used again, but not while any tensor lies in it: p.grad may be that gradient.
    logits, points = scene(shape=LARGE)
    loss = losses.make("distance-aware")
    wanted = gradient(loss, logits, points)[1].clone()
    leaf = logits.detach().requires_grad_()
    held = []
    for step in range(1, 4):
        loss(leaf, points).backward()  # accumulates
        assert torch.allclose(leaf.grad, step * wanted, rtol=1e-6, atol=1e-9)
        held.append(gradient(loss, logits, points)[1][:, :1])
        gradient(loss, -logits.detach().requires_grad_(), points)
        assert all(torch.equal(part, wanted[:, :1]) for part in held)
    both = loss(logits, points), loss(-logits.detach().requires_grad_(), points)  # two heads of one step
    assert torch.equal(torch.autograd.grad(both[0], logits)[0], wanted)
    del both, held, leaf
    places = {gradient(loss, logits, points)[1].data_ptr() for _ in range(4)}
    assert len(places) <= 2 or not hasattr(mmap, "MADV_HUGEPAGE")  # a buffer of the same size takes turns with it


def memory(work):
    """Bytes that the work holds at most, and those it holds at its end."""
    work()
    autograd._rooms.clear()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        kept = work()
    now = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    rooms, used = (sum(len(room) for room, user in autograd._rooms if every or user() is not None)
                   for every in (True, False))
    del kept
    return peak + rooms, now + used


@pytest.mark.parametrize("name", ["focal", "distance-aware", "mse"])
def test_a_step_needs_one_gradient_of_the_logits_and_a_small_buffer(name, works):
    # Of 36 MB of logits: the published formula in eager PyTorch keeps 11 maps of that size.
    logits, points = scene(shape=(2, 18, 512, 512))
    loss = losses.make(name)
    whole = 4 * logits.numel()
    peak, kept = memory(lambda: loss(logits, points))
    assert kept < 1.01 * whole
    assert peak < 1.6 * whole  # half of the images are drawn at a time here; 16 MB of them at most in a larger batch
    peak, _ = memory(lambda: gradient(loss, logits, points))
    assert peak < 1.6 * whole


CHILD = """
import sys, warnings, torch
from falloff import losses
from falloff.points import Points
from torch._dynamo.utils import counters
points = Points.from_lists([([[9.0, 9.0]], [0])])
logits = torch.full((1, 1, 512, 512), -1.0, requires_grad=True)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for _ in range(2):
        value = losses.make("bce")(logits, points)
value.backward()
told = [str(w.message) for w in caught if "torch.compile does not work here" in str(w.message)]
print(len(told), counters["inductor"]["fxgraph_cache_hit"], counters["inductor"]["fxgraph_cache_miss"], float(value))
"""


def child(tmp_path, **environment):
    """What a fresh process says: warnings, hits and misses of the compiler's cache, the loss."""
    cache = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", CHILD], env=os.environ | cache | environment,
                          capture_output=True, text=True, check=True)
    told, hits, misses, value = done.stdout.split()
    return int(told), int(hits), int(misses), float(value)


def test_a_second_process_reuses_what_the_first_compiled(tmp_path, works):
    first, second = child(tmp_path), child(tmp_path)
    assert first[0] == second[0] == 0
    assert first[1] == 0 and first[2] > 0
    assert second[2] == 0 and second[1] == first[2]
    assert first[3] == second[3]


@pytest.mark.skipif(not losses.compiler_works(), reason=f"PyTorch {torch.__version__} compiles no losses")
def test_without_a_compiler_one_warning_and_the_eager_form(tmp_path):
    told, _, _, value = child(tmp_path, CXX="/there/is/no/compiler")
    assert told == 1
    assert value == pytest.approx(child(tmp_path, FALLOFF_COMPILE="0")[3], rel=1e-6)


def test_after_too_many_shapes_one_call_is_eager_and_the_next_is_not(monkeypatch, works):
    from torch._dynamo.exc import FailOnRecompileLimitHit

    class Full:
        @staticmethod
        def apply(*given):
            raise FailOnRecompileLimitHit("Hard failure due to fullgraph=True")

    logits, points = scene(shape=LARGE)
    loss = losses.make("bce")
    wanted = gradient(loss, logits, points)
    with monkeypatch.context() as patch:
        patch.setattr(autograd, "_Compiled", Full)
        with pytest.warns(RuntimeWarning, match="more shapes than are compiled"):
            assert float(loss(logits, points).detach()) == pytest.approx(float(wanted[0]), rel=1e-6)
    assert losses.compiler_works()


@pytest.mark.bad_input
def test_a_switch_that_is_neither_on_nor_off_is_named(monkeypatch):
    monkeypatch.setenv("FALLOFF_COMPILE", "yes")
    with pytest.raises(ValueError, match="FALLOFF_COMPILE must be 0 or 1, got 'yes'"):
        losses.make("bce")(*scene(shape=LARGE))


@pytest.mark.parametrize("name", ["distance-aware", "mse", "softmax-distance-aware", "spatial-js", "dice"])
def test_a_step_that_is_compiled_whole_gives_the_same(name):
    logits, points = scene()
    loss = losses.make(name)
    value, slope = gradient(loss, logits, points)

    def step(x, points):
        return loss(x, points)

    torch.compiler.reset()  # the steps of other losses are of the same code, and count as shapes of this one
    graphs = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(step, fullgraph=True, backend=graphs)
    for batch in (points, Points(points.xy * 0.5, points.label, points.valid)):
        value, slope = gradient(loss, logits, batch)
        other = compiled(logits, batch)
        assert float(other.detach()) == pytest.approx(float(value), rel=1e-6)
        assert torch.allclose(torch.autograd.grad(other, logits)[0], slope, rtol=1e-5, atol=1e-6)
    assert graphs.frame_count == 1  # other points are no new graph
    with torch.no_grad():
        assert float(compiled(logits, points)) == pytest.approx(float(loss(logits, points)), rel=1e-6)
