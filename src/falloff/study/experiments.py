"""What is recorded: experiments as plans, stage by stage, where a later stage may rest on what an earlier one gave."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from falloff import data, losses, measures
from falloff.machine import Precision
from falloff.profiles import profile
from falloff.run import Option, Run
from falloff.study import real, tuning
from falloff.study.floors import Floor
from falloff.study.store import Measuring
from falloff.study.subjects import Subject
from falloff.systems.heatmap import LEAST_COUNT

# The splits of the record: a choice is made on pictures that none is trained on, and what is reported is read from
# pictures that nobody looked at before the choices were made.
CHOOSING = Measuring(split="choosing", metrics=("ap_tuned", "ap_1", "ap", "pck_mean"), threshold="own")
FRESH = Measuring(split="fresh", metrics=measures.STUDY, reference="choosing")
# With a number for each picture of what is judged: AP at 2 px, or the mean over 1 and 2 px where the former is near 1.
BY_PICTURE = Measuring(split="fresh", metrics=(*measures.STUDY, "ap_by_picture"), reference="choosing")
TUNED_BY_PICTURE = Measuring(split="fresh", metrics=(*measures.STUDY, "ap_tuned_by_picture"), reference="choosing")
EVERYTHING = Measuring(split="fresh", metrics=(*measures.STUDY, *measures.PICTURES), reference="choosing")


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much of each experiment a profile records.

    Args:
        base: the run that all arms share.
        tuned: precision of the pilot and of the tuning, where that is not the base's.
        long: steps of the longer runs.
        trials: of each loss's tuning, a power of two, in two blocks of half as many.
        finalists: how many of the best trials are run again on fresh seeds.
        choosing: those seeds.
        pilot, seeds, few, long_seeds: of the runs of the pilot, and of those that are reported.
        rates: learning rates where nothing else is tuned, over the one that was chosen for the loss.
        wide, wide_steps, wide_seeds: of the leaders' larger nets, how many times wider and over how many times the
            steps.
    """

    base: Run
    tuned: Precision | None = None
    long: int = 1000
    trials: int = 32
    finalists: int = 4
    choosing: tuple[int, ...] = (2000, 2001, 2002)
    pilot: tuple[int, ...] = (3000, 3001, 3002, 3003, 3004)
    seeds: tuple[int, ...] = tuple(range(100, 120))
    few: tuple[int, ...] = tuple(range(100, 105))
    long_seeds: tuple[int, ...] = tuple(range(100, 108))
    rates: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0, 10.0)
    wide: int = 2
    wide_steps: int = 8
    wide_seeds: tuple[int, ...] = (100, 101, 102)

    @property
    def tuning(self) -> Run:
        """The run that the arms of the pilot and of the tuning share."""
        return self.base if self.tuned is None else self.base.replace(precision=self.tuned)


@dataclass(frozen=True)
class Planned:
    """A run or floor of an experiment: its arm and role there, what is measured of it, and the trial that it repeats.

    What is asked for by another decoder than the system's own is asked for by one alone.
    """

    arm: str
    role: str
    run: Subject
    asked: tuple[Measuring, ...] = (CHOOSING,)
    trial: int | None = None

    @property
    def decoder(self) -> str:
        """What reads it, empty for the system's own."""
        return self.asked[-1].reading


Stage = list[Planned]
Plan = Generator[Stage, pd.DataFrame, None]


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A question, and how it is answered.

    Args:
        question: as its page asks it.
        plan: gives the stages of its runs; each is answered by a table with a row for each of them, in their order:
            ``arm``, ``role``, ``trial``, the fields of the run, what was measured of it, and ``failure``.
        metrics: what its page shows, by name.
        needs: the experiment whose table it rests on.
    """

    question: str
    plan: Callable[..., Plan]
    metrics: tuple[str, ...] = ("ap_tuned", "ap", "ap_1", "pck_mean")
    needs: str | None = None

    def stages(self, sizes: Sizes, needed: pd.DataFrame | None = None) -> Plan:
        """The plan for a profile; ``needed`` is the table of the experiment that it rests on."""
        return self.plan(sizes) if self.needs is None else self.plan(sizes, needed)


def settings(name: str, device: str | None = None) -> Sizes:
    """How much a profile records.

    Raises:
        ValueError: there is no such profile, or it records nothing; no such device.
    """
    profile(name)
    if name not in SIZES:
        raise ValueError(f"nothing is recorded for profile {name!r}, but for {', '.join(SIZES)}")
    sizes = SIZES[name]
    return sizes if device is None else replace(sizes, base=sizes.base.replace(device=device))


def pilot(sizes: Sizes) -> Plan:
    """How far seeds lie apart with one recipe or another: what the power of all that follows rests on."""
    arms: dict[str, dict[str, Any]] = {"batch 16": {}, "batch 32": {"batch": 32},
                                       "constant rate": {"schedule": "constant"},
                                       "twice the steps": {"steps": 2 * sizes.base.steps}}
    yield [Planned(f"{loss}, {arm}", "pilot", sizes.tuning.replace(**_piloted(loss), seed=seed, **changes))
           for arm, changes in arms.items() for loss in PILOTED for seed in sizes.pilot]


PILOTED: Mapping[str, Mapping[str, float]] = {"bce": {}, "focal": {}, "soft-bce": {"sigma": 0.75}, "distance-aware": {}}


def _piloted(loss: str) -> dict[str, Any]:
    return {"loss": loss, "loss_options": PILOTED[loss], "learning_rate": 0.01, "head_std": 0.1}


def precision(sizes: Sizes) -> Plan:
    """The pilot's first recipe once more, in the precision of what is reported."""
    yield [Planned(loss, "pilot", sizes.base.replace(**_piloted(loss), seed=seed))
           for loss in PILOTED for seed in sizes.pilot]


def tune(sizes: Sizes) -> Plan:
    """Equal tuning of each loss: trials in two blocks, the best again on fresh seeds, at two lengths."""
    half = sizes.trials // 2
    spaces = dict(tuning.SPACES)
    designs: dict[str, list[dict[str, Any]]] = {}
    rows = []
    for block in range(2):
        drawn = {loss: tuning.trials(space, sizes.trials)[block * half:][:half] for loss, space in spaces.items()}
        for loss, values in drawn.items():
            designs[loss] = designs.get(loss, []) + values
        rows.append((yield [
            Planned(loss, f"block {block + 1}", tuning.of(sizes.tuning, loss, values), trial=block * half + number)
            for loss, some in drawn.items() for number, values in enumerate(some)
        ]))
        if block == 0:
            spaces = {loss: tuning.moved(space, rows[0][rows[0]["arm"] == loss]) for loss, space in spaces.items()}
    tried = pd.concat(rows, ignore_index=True)
    best = {loss: tuning.finalists(tried[tried["arm"] == loss], sizes.finalists) for loss in spaces}
    for steps in (sizes.base.steps, sizes.long):
        base = lengthened(sizes.tuning, steps)
        yield [Planned(loss, f"again, {steps} steps", tuning.of(base, loss, designs[loss][trial], seed), trial=trial)
               for loss, some in best.items() for trial in some for seed in sizes.choosing]


def head_to_head(sizes: Sizes, tuned: pd.DataFrame) -> Plan:
    """All losses, each at its own choice."""
    yield [Planned(loss, "reported", tuning.of(sizes.base, loss, choice.on, seed), (CHOOSING, EVERYTHING), choice.trial)
           for loss in tuning.SPACES for choice in [_choice(sizes, tuned, loss)] for seed in sizes.seeds]


def longer(sizes: Sizes, tuned: pd.DataFrame) -> Plan:
    """All losses over more steps, at what was chosen for these and at what was chosen for fewer."""
    base, stage = lengthened(sizes.base, sizes.long), []
    for loss in tuning.SPACES:
        anew, carried = _choice(sizes, tuned, loss, steps=sizes.long), _choice(sizes, tuned, loss)
        arms = {loss: anew} | ({f"{loss}, carried": carried} if carried.trial != anew.trial else {})
        stage += [Planned(arm, "reported", tuning.of(base, loss, choice.on, seed), (CHOOSING, TUNED_BY_PICTURE),
                          choice.trial) for arm, choice in arms.items() for seed in sizes.long_seeds]
    yield stage


def choices(sizes: Sizes, tuned: pd.DataFrame) -> Plan:
    """All losses at what half of their trials or another criterion would have chosen, and at the library's defaults."""
    stage: Stage = []
    for loss in tuning.SPACES:
        own = _choice(sizes, tuned, loss)
        others = {f"{loss}, winner of half {half + 1}": tuning.winner(tuned, loss, half) for half in range(2)}
        others |= {f"{loss}, chosen by {criterion}": choice for criterion in tuning.CRITERIA[1:]
                   if (choice := _choice(sizes, tuned, loss, criterion)).trial != own.trial}
        asked = CHOOSING, FRESH
        stage += [Planned(arm, "reported", tuning.of(sizes.base, loss, choice.on, seed), asked, choice.trial)
                  for arm, choice in others.items() for seed in _half(sizes)]
        stage += [Planned(f"{loss}, defaults", "reported", sizes.base.replace(loss=loss, seed=seed), asked)
                  for seed in _half(sizes)]
    yield stage


FIVE = ("bce", "focal", "soft-bce", "mse", "distance-aware")  # where nine would be too many
DECODERS: Mapping[str, Mapping[str, Option]] = {
    "none": {}, "quarter": {"refine": "quarter"}, "parabola": {"refine": "parabola"},
    "log-parabola": {"refine": "log-parabola"},
    **{f"soft-argmax-{side}": {"refine": "soft-argmax", "soft_window": side} for side in (3, 5, 7)},
    **{f"window {side}": {"window": side} for side in (1, 5, 7)},
    **{f"apart {radius}": {"apart": radius} for radius in (2, 4)},
}
READ = ("ap_05", "ap_1", "ap", "ap_4", "pck_mean", "error", "recall", "precision", "duplicates", "wrong_class")
JUDGED = ("none", "soft-argmax-5")  # picture by picture, too


def decoders(sizes: Sizes, tuned: pd.DataFrame) -> Plan:
    """The nets of the head-to-head read by other decoders: none is trained anew."""
    lists = dict.fromkeys(JUDGED, ("pck_mean_by_picture",))
    asked = {name: Measuring(split="fresh", metrics=READ + lists.get(name, ()), decoder=options, reference="choosing")
             for name, options in DECODERS.items()}
    yield [Planned(f"{loss}, {name}", "reported", tuning.of(sizes.base, loss, choice.on, seed), (one,), choice.trial)
           for loss in FIVE for choice in [_choice(sizes, tuned, loss)] for seed in sizes.seeds
           for name, one in asked.items()]


HEADS = (1e-3, 0.1)


def start(sizes: Sizes, tuned: pd.DataFrame) -> Plan:
    """Each start of the last layer, its bias and the size of its weights, for each loss, at its own rate."""
    cells = {}
    for loss in FIVE:
        own = _choice(sizes, tuned, loss).on
        for named, bias in (("0", 0.0), ("frequency", frequency(sizes.base)), ("constant", None)):
            for head in HEADS:
                run = tuning.of(sizes.base, loss, own | {"head_std": head}).replace(bias=bias)
                cells[f"{loss}, bias {named}, head {head:g}"] = run
    yield _reported(sizes.few, (yield from _best(_at_rates(cells, sizes.rates))))


DENSE = ("bce", "focal", "soft-bce", "distance-aware")
# Three routes from sparse to dense labels: more pixels a point, more points a picture, less context around them.
ROUTES: dict[str, dict[str, dict[str, Any]]] = {
    "disc": {f"{radius:g} px": {"dataset": f"digits(disc={radius:g})"} for radius in (0.1, 1.0, 2.0, 4.0)},
    "points": {f"{count}": {"dataset": f"digits(points={count}, size=96)"} for count in (1, 4, 16)},
    "context": {f"{side} px": {"dataset": f"digits(points=3, size={side}, within=64)"} for side in (64, 96, 128)},
    "control": {"shuffled": {"dataset": "digits(shuffled=1)"}},
}


def density(sizes: Sizes, tuned: pd.DataFrame) -> Plan:
    """The same scenes with sparser and denser labels, by three routes, each loss at a rate of its own in each.

    With other numbers of points a picture, also over as many steps as show the net as many points.
    """
    cells = {f"{loss}, {route} {level}": tuning.of(sizes.base, loss, _choice(sizes, tuned, loss).on).replace(**changes)
             for route, levels in ROUTES.items() for level, changes in levels.items() for loss in DENSE}
    cells = yield from _best(_at_rates(cells, _middle(sizes.rates)))
    counts = list(map(int, ROUTES["points"]))
    usual = counts[len(counts) // 2]
    seen = {f"{loss}, points {count}, as many seen": lengthened(run, round(run.steps * usual / count))
            for loss in DENSE for count in counts if count != usual for run in [cells[f"{loss}, points {count}"]]}
    yield _reported(sizes.few, cells | seen, BY_PICTURE)


# The pixels of ink, of few digits and of as many as fit: from about a tenth of the picture to about a half.
INKED = {"4 digits": "digits(ink=0.3, points=4)", "dense": "digits(ink=0.3, points=12, apart=10)",
         "16 digits": "digits(ink=0.2, points=16, apart=9)"}


def dense(sizes: Sizes, tuned: pd.DataFrame) -> Plan:
    """A control: every pixel of ink is labelled, and what counts is to tell it from the rest."""
    base = sizes.base.replace(watched=("pixel_ap",))
    cells = {f"{loss}, {level}": tuning.of(base, loss, _choice(sizes, tuned, loss).on).replace(dataset=name)
             for level, name in INKED.items() for loss in DENSE}
    chosen = Measuring(split="choosing", metrics=("pixel_ap",), threshold="own")
    asked = Measuring(split="fresh", metrics=measures.DENSE, reference="choosing")
    best = yield from _best(_at_rates(cells, _middle(sizes.rates)), chosen)
    yield _reported(sizes.long_seeds, best, asked, chosen)


APART = (2, 3, 4, 6, 8)


def crowding(sizes: Sizes, tuned: pd.DataFrame) -> Plan:
    """Two points of its class on each digit, some pixels apart in a direction that the picture does not tell."""
    return _close(sizes, tuned, "digits(pair={})")


def doublets(sizes: Sizes, tuned: pd.DataFrame) -> Plan:
    """The same left and right of its centre, which the picture tells: from where on a loss keeps them apart."""
    return _close(sizes, tuned, "doublets(apart={})")


def _close(sizes: Sizes, tuned: pd.DataFrame, dataset: str) -> Plan:
    cells = {f"{loss}, {apart} px": tuning.of(sizes.base, loss, _choice(sizes, tuned, loss).on).replace(
        dataset=dataset.format(apart)) for loss in FIVE for apart in APART}
    yield _reported(sizes.few, (yield from _best(_at_rates(cells, _middle(sizes.rates)))))


WIDTHS = (0.75, 1.5, 3.0)


def labels(sizes: Sizes, tuned: pd.DataFrame) -> Plan:
    """Labels that are moved or missing: which loss bears them, and with which width of the Gaussian."""
    cells = {}
    for loss in FIVE:
        own = _choice(sizes, tuned, loss).on
        widths = [None] if "sigma" not in own else list(WIDTHS)
        for jitter in (0.0, 0.5, 1.0, 2.0):
            for width in widths:
                run = tuning.of(sizes.base, loss, own | ({} if width is None else {"sigma": width}))
                named = f"{loss}, jitter {jitter:g}" + ("" if width is None else f", sigma {width:g}")
                cells[named] = run.replace(dataset=f"digits(jitter={jitter:g})" if jitter else "digits")
        for missing in (0.2, 0.4):
            for words, ignore in (("", ""), (", ignored", ", ignore=8")):
                cells[f"{loss}, missing {missing:g}{words}"] = tuning.of(sizes.base, loss, own).replace(
                    dataset=f"digits(missing={missing:g}{ignore})")
    yield _reported(sizes.few, (yield from _best(_at_rates(cells, _middle(sizes.rates)))))


def wider(sizes: Sizes, tuned: pd.DataFrame) -> Plan:
    """The three losses that lead on the pictures for choosing once more, on larger nets and over more steps."""
    base = lengthened(sizes.base, sizes.wide_steps * sizes.base.steps).replace(width=sizes.wide * sizes.base.width)
    leaders = tuning.leaders(tuned, sizes.long, 3)
    yield [Planned(loss, "reported", tuning.of(base, loss, choice.on, seed), (CHOOSING, TUNED_BY_PICTURE), choice.trial)
           for loss in leaders for choice in [_choice(sizes, tuned, loss, steps=sizes.long)]
           for seed in sizes.wide_seeds]


def on_real_sets(sizes: Sizes, tuned: pd.DataFrame) -> Plan:
    """The four losses that lead on the pictures for choosing, and MSE, on sets of others, tuned anew on each."""
    leaders = dict.fromkeys((*tuning.leaders(tuned, sizes.base.steps, 4), "mse"))
    best = yield from _best(real.trials(sizes.base, leaders, max(1, sizes.trials // 4)), real.CHOOSING)
    yield _reported(sizes.few, best, real.LATE, real.CHOOSING)


# What a floor says is scored by no probability, and none is trained.
FLOORED = Measuring(split="fresh", reference="choosing", metrics=(
    "ap", "ap_05", "ap_1", "ap_3", "ap_4", "ap_6", "ap_tuned", "ap_worst_class", "f1", "threshold", "recall",
    "precision", "duplicates", "error", "pck_mean", "balanced_class_accuracy", "wrong_class", "class_accuracy",
    "presence_auroc", "ap_by_picture", "ap_tuned_by_picture", "pck_mean_by_picture"))
LOOKED_FOR = [{"side": side, "scales": scales} for side in (13, 17, 21, 25) for scales in (1, 3, 5)]
BLOBS = [{"sigma": sigma, "scales": scales, "threshold": threshold}
         for sigma in (5.0, 6.0, 7.0, 8.0, 9.0) for scales in (1, 3) for threshold in (0.01, 0.03, 0.1)]


def floors(sizes: Sizes) -> Plan:
    """What is found without a net, its options chosen as those of nets are; with seeds where something is drawn."""
    split = data.load(sizes.base.dataset, "train", sizes.base.size)
    base = Floor(dataset=sizes.base.dataset, size=sizes.base.size, floor="chance",
                 count=max(LEAST_COUNT, 2 * split.points.xy.shape[1]))  # what the nets' decoder gives
    tried = {arm: [base.replace(floor=arm, floor_options=one) for one in some[: sizes.trials]]
             for arm, some in (("templates", LOOKED_FOR), ("blobs", BLOBS))}
    found = yield [Planned(arm, "tuning", floor.replace(seed=tuning.TRIAL_SEED), trial=trial)
                   for arm, some in tried.items() for trial, floor in enumerate(some)]
    best = {arm: some[int(tuning.score(found[found["arm"] == arm]).index[0])] for arm, some in tried.items()}
    unnamed = best["blobs"].replace(floor_options={**best["blobs"].floor_options, "named": "at random"})
    cells = {"chance": base, "chance, ten times as many": base.replace(count=10 * base.count), **best,
             "blobs, named at random": unnamed}
    yield [Planned(arm, "reported", floor.replace(seed=seed), (CHOOSING, FLOORED)) for arm, floor in cells.items()
           for seed in (sizes.seeds if floor.is_drawn else sizes.seeds[:1])]


def _half(sizes: Sizes) -> tuple[int, ...]:
    return sizes.seeds[: max(1, len(sizes.seeds) // 2)]


def _choice(
    sizes: Sizes, tuned: pd.DataFrame, loss: str, criterion: str = tuning.CRITERIA[0], *, steps: int | None = None
) -> tuning.Choice:
    """What was chosen for a loss, at the length of the experiments unless another is given."""
    return tuning.chosen(tuned, loss, steps or sizes.base.steps, criterion, sizes.finalists)


def _middle(rates: Sequence[float]) -> Sequence[float]:
    """The three in the middle."""
    first = max(0, len(rates) // 2 - 1)
    return rates[first:][:3]


def _at_rates(cells: Mapping[str, Run], rates: Sequence[float]) -> dict[str, list[Run]]:
    """Each cell's run at some multiples of its rate."""
    return {arm: [run.replace(learning_rate=float(f"{rate * run.learning_rate:.4g}")) for rate in rates]
            for arm, run in cells.items()}


def _best(
    tried: Mapping[str, Sequence[Run]], choosing: Measuring = CHOOSING
) -> Generator[Stage, pd.DataFrame, dict[str, Run]]:
    """The run of each arm that is the best on the pictures for choosing by the first metric that is measured there.

    Of an arm that was left out there is none.
    """
    found = yield [Planned(arm, "tuning", run, (choosing,), number)
                   for arm, runs in tried.items() for number, run in enumerate(runs)]
    scores = {arm: tuning.score(rows, choosing.metrics[0]) for arm, rows in found.groupby("arm")}
    return {arm: runs[int(scores[arm].index[0])] for arm, runs in tried.items() if arm in scores}


def _reported(
    seeds: Sequence[int], cells: Mapping[str, Run], asked: Measuring = FRESH, choosing: Measuring = CHOOSING
) -> Stage:
    """Some seeds of each cell."""
    return [Planned(arm, "reported", run.replace(seed=seed), (choosing, asked))
            for arm, run in cells.items() for seed in seeds]


def frequency(base: Run) -> float:
    """The bias at which every pixel has the probability that one is labelled, over the training scenes."""
    split = data.load(base.dataset, "train", base.size)
    pixels = len(split.images) * len(split.classes) * math.prod(split.size)
    return losses.prior_bias(int(split.points.valid.sum()) / pixels)


def lengthened(base: Run, steps: int) -> Run:
    """A run of another length, measured as often along the way, step for step."""
    return base.replace(steps=steps, evaluations=max(1, base.evaluations * steps // base.steps))


_CLOSE = ("recall", "ap_1", "ap", "ap_tuned", "pck_mean")
EXPERIMENTS = {
    "pilot": Experiment(question="How far do seeds lie apart, and with which recipe the least?", plan=pilot),
    "tuning": Experiment(question="What is each loss's best rate, start and option, and how much does it hang on them?",
                         plan=tune),
    "head-to-head": Experiment(
        question="Which of nine losses finds and names sparse points best, each at its own choice?", plan=head_to_head,
        needs="tuning"),
    "decoders": Experiment(question="How much does the decoder matter, beside the loss?", plan=decoders, needs="tuning",
                           metrics=("pck_mean", "ap_1", "ap_05", "ap", "error")),
    "longer": Experiment(question="Does the order of losses hold over four times the steps?", plan=longer,
                         needs="tuning"),
    "choices": Experiment(question="How much of a loss's AP is its tuning, the luck of that, or the criterion?",
                          plan=choices, needs="tuning"),
    "precision": Experiment(question="Do nets trained in float32 differ from the pilot's?", plan=precision),
    "start": Experiment(question="How much does the start of the last layer matter, loss by loss?", plan=start,
                        needs="tuning"),
    "density": Experiment(question="Do sparse labels cost more the sparser they are, and does the loss matter there?",
                          plan=density, needs="tuning"),
    "wider": Experiment(question="Does the order of the leaders hold on larger nets?", plan=wider, needs="tuning"),
    "dense": Experiment(question="Does the loss matter where labels are dense?", plan=dense, needs="tuning",
                        metrics=("pixel_ap",)),
    "crowding": Experiment(question="What does a net say of two close points whose direction no picture tells?",
                           plan=crowding, needs="tuning", metrics=_CLOSE),
    "doublets": Experiment(question="From how many pixels on does a net tell two points apart, loss by loss?",
                           plan=doublets, needs="tuning", metrics=_CLOSE),
    "labels": Experiment(question="Which loss bears labels that are off or missing?", plan=labels, needs="tuning"),
    "real": Experiment(question="Does the order of losses on digits hold on faces, a mouse, nuclei and people?",
                       plan=on_real_sets, needs="tuning",
                       metrics=("ap_tuned", "ap", "ap_1", "pck_mean", "f1", "pck", "nme")),
    "floors": Experiment(question="How much is found without a net: at random, by templates, by blobs?", plan=floors),
}

# Many processors have no bfloat16 of their own, and take many times as long for it.
_STUDY = Run(precision="float32", form="compiled", watched=("ap",))
SIZES = {
    "study": Sizes(base=_STUDY, tuned="bfloat16"),
    "full": Sizes(base=_STUDY.replace(precision="bfloat16", device="cuda", steps=4000, evaluations=40, size=128,
                                      width=32),
                  long=16000, seeds=tuple(range(100, 150)), long_seeds=tuple(range(100, 120)), wide=4,
                  wide_steps=4, wide_seeds=tuple(range(100, 105))),
    "tiny": Sizes(base=_STUDY.replace(form="eager", steps=4, evaluations=2), long=8, trials=4,
                  finalists=1, choosing=(2000,), pilot=(3000, 3001), seeds=(100, 101), few=(100, 101),
                  long_seeds=(100, 101), wide_steps=2, wide_seeds=(100,), rates=(1.0, 3.0)),
}


def check(experiments: Sequence[str]) -> None:
    """Raise ValueError unless all are names of experiments."""
    if unknown := [name for name in experiments if name not in EXPERIMENTS]:
        raise ValueError(f"no experiment is named {unknown[0]!r}; known: {', '.join(EXPERIMENTS)}")
    for name in experiments:
        for metric in EXPERIMENTS[name].metrics:
            measures.get(metric)
