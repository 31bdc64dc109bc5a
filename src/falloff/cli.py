"""What the Makefile calls: ``falloff book`` and ``pages``, ``run``, ``plan``, ``record``, ``verify``."""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import re
import shlex
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def main(words: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what an ASCII terminal cannot show is written as \u2026
            stream.reconfigure(errors="backslashreplace")
    try:
        return _do(words)
    finally:
        _say()


def _say(*words: object) -> None:
    """Print to standard output, which its reader may have closed, as head does: the work and its status stay."""
    try:
        print(*words, sep="\n", end="\n" * bool(words), flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _do(words: list[str] | None) -> int:
    parser = _parser()
    given, rest = parser.parse_known_args(words)
    if rest and any(word.startswith("-") or not hasattr(given, "parameters") for word in rest):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:  # name=value after an option
        given.parameters += rest
    if "MAKELEVEL" in os.environ:
        _end_with_parent(os.getppid())
    try:
        with _stoppable(), _said():
            return given.do(given)
    except (ValueError, FileNotFoundError, ConnectionError, RuntimeError) as error:
        print(f"falloff: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        print(f"falloff: {error.name} is not installed; the study needs more than the library: "
              "pip install '.[study,book]', or make book, which does it", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("falloff: stopped; what had finished is kept", file=sys.stderr)
        return 130


@contextmanager
def _stoppable() -> Iterator[None]:
    """Told to stop, leave through the blocks that clean up."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _said() -> Iterator[None]:
    """Show the log of this package alone, since Dask's own would bury it, and warnings in it."""
    log, shown = logging.getLogger("falloff"), logging.StreamHandler(sys.stderr)
    level = log.level
    log.addHandler(shown)
    log.setLevel(logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: log.warning("%s", message)
            yield
    finally:
        log.removeHandler(shown)
        log.setLevel(level)


def _book(given: argparse.Namespace) -> int:
    from falloff import chapters

    failed = chapters.build(given.profile)
    if failed:
        print(f"falloff: failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _pages(given: argparse.Namespace) -> int:
    from filelock import FileLock
    from jupyter_book.cli.main import main as jupyter_book

    from falloff.project import project_root
    from falloff.study import prose

    root = project_root()
    if wrong := prose.broken(root=root):
        print(*wrong, sep="\n", file=sys.stderr)
        if os.environ.get("GUARDS") != "warn":
            print(f"falloff: the record does not bear {len(wrong)} of the book's sentences out; "
                  "GUARDS=warn builds and marks them", file=sys.stderr)
            return 1
    (root / "_build").mkdir(exist_ok=True)
    with FileLock(root / "_build" / "pages.lock"):  # two at once would write the same pages
        try:
            jupyter_book(["build", str(root), "-W", "--keep-going", "-q"])
        except SystemExit as end:  # what it ends with
            return int(end.code or 0)
    return 0


def _plan(given: argparse.Namespace) -> int:
    from falloff import chapters

    for chapter in chapters.find_all():
        reason = chapter.why_stale(chapter.parameters(given.profile, {}))
        _say(f"{chapter.name}: {reason or 'up to date'}")
    return 0


def _run(given: argparse.Namespace) -> int:
    from falloff import chapters
    from falloff.chapters import parameters

    try:
        words = [*shlex.split(given.params), *given.parameters]
    except ValueError as error:
        raise ValueError(f"PARAMS must be quoted as in a shell ({error}), got {given.params!r}") from error
    from_file = parameters.from_file(given.file) if given.file else {}
    executed = chapters.rerun(given.chapter, from_file | parameters.pairs(words), given.profile)
    if executed:
        _say(f"executed: {executed}")
        return 0
    print(f"falloff: failed: {given.chapter}", file=sys.stderr)
    return 1


def _record(given: argparse.Namespace) -> int:
    from falloff.study import choices, experiments, recording

    names = given.experiment or list(experiments.EXPERIMENTS)
    if given.dry:
        experiments.check(names)
        sizes = experiments.settings(given.profile, given.device)
        for name in names:
            _say(f"{name}: {recording.forecast(name, given.profile, sizes)}")
        return 0
    for path in recording.write(given.profile, given.device, names, publish=given.publish):
        _say(f"recorded: {path}")
        if given.publish and path == recording.folder("study") / "tuning.json":
            choices.write()
    return 0


def _verify(given: argparse.Namespace) -> int:
    import pandas as pd

    from falloff.study import claims, replay

    found = replay.verify(given.profile, everything=given.all, device=given.device, exact=given.exact)
    rows = pd.DataFrame(found["runs"])
    _say(rows.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    known = claims.load()
    for name, claim in found["claims"].items():
        was = "" if claim["verdict"] == claim["recorded"] else f" (recorded: {claim['recorded']})"
        _say(f"{name}: {claim['verdict']}{was}, {claim['compared']} "
             f"({claim['replayed']} of {claim['runs']} runs replayed). {known[name].claim}")
    said = {"runs": rows["verdict"].tolist(), "claims": [claim["compared"] for claim in found["claims"].values()]}
    for what, words in said.items():
        _say(f"{what}: {replay.counted(words)}")
    return 1 if any("different" in words for words in said.values()) else 0


def _execute(given: argparse.Namespace) -> int:
    from papermill import PapermillExecutionError

    from falloff import chapters

    job = json.loads(given.job)
    _end_with_parent(job["parent"])
    try:
        executed = os.fsdecode(os.fsencode(job["executed"]))  # as this process reads it: the other may know ASCII alone
        chapters.execute(job["name"], job["values"], Path(executed), job["profile"])
    except PapermillExecutionError as error:
        trace = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(error.traceback)).splitlines()
        _say(f"cell {error.exec_count}:\n{error.source}\n", *trace[-12:])
        return 1
    return 0


def _end_with_parent(parent: int) -> None:
    """Stop, as if told to, when the process that started this one is gone: killed, it could not say so."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="falloff", description=__doc__)
    verbs = parser.add_subparsers(required=True)

    def verb(name: str, do: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=text)
        added.set_defaults(do=do)
        return added

    def with_profile(added: argparse.ArgumentParser, default: str = "quick") -> argparse.ArgumentParser:
        added.add_argument("--profile", default=default, help="quick, study, full, or tiny, which only tries the code")
        return added

    with_profile(verb("book", _book, "run the chapters that are stale"))
    verb("pages", _pages, "build the pages from the executed chapters")
    with_profile(verb("plan", _plan, "say which chapters would run, and why"))
    one = with_profile(verb("run", _run, "run one chapter with other parameters"))
    one.add_argument("chapter", help="such as 04_distance_aware_loss; 04 is enough")
    one.add_argument("parameters", nargs="*", help="name=value, as many as wanted")
    one.add_argument("--params", default="", help="the same in one string, quoted as in a shell")
    one.add_argument("--file", type=Path, help="a TOML file of parameters; name=value goes before it")
    some = with_profile(verb("record", _record, "run experiments and write their tables to runs/recorded"), "study")
    some.add_argument("--device", help="instead of the profile's own")
    some.add_argument("--dry", action="store_true", help="say how many runs there are, their time and memory")
    some.add_argument("--publish", action="store_true", help="write to data/recorded, which is committed")
    some.add_argument("experiment", nargs="*", help="all by default")
    again = with_profile(verb("verify", _verify, "train recorded runs again and compare"), "study")
    again.add_argument("--device", help="instead of the one that a run was recorded on")
    again.add_argument("--all", action="store_true", help="every run instead of a sample")
    again.add_argument("--exact", action="store_true", help="bfloat16 where the processor has none, too: slow")
    verbs.add_parser("execute", help=argparse.SUPPRESS).add_argument("job")
    verbs.choices["execute"].set_defaults(do=_execute)
    return parser


if __name__ == "__main__":
    sys.exit(main())
