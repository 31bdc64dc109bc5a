"""What the Makefile calls: ``falloff book``, ``falloff run``, ``falloff plan``."""

from __future__ import annotations

import argparse
import json
import logging
import shlex
import signal
import sys
from pathlib import Path


def main(words: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    given = _parser().parse_args(words)
    handler = logging.StreamHandler(sys.stderr)  # of this package alone: Dask's own log would bury it
    logging.getLogger("falloff").addHandler(handler)
    logging.getLogger("falloff").setLevel(logging.INFO)
    try:
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


def _book(given: argparse.Namespace) -> int:
    from falloff.study import chapters

    failed = chapters.build(given.profile)
    if failed:
        print(f"falloff: failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _plan(given: argparse.Namespace) -> int:
    from falloff.study import chapters

    for chapter in chapters.every():
        reason = chapters.why_stale(chapter, chapter.parameters(given.profile, {}))
        print(f"{chapter.name}: {reason or 'up to date'}")
    return 0


def _run(given: argparse.Namespace) -> int:
    from falloff.study import chapters, parameters

    words = [word for text in given.parameters for word in shlex.split(text)]
    executed = chapters.run(given.chapter, parameters.pairs(words), given.profile)
    print(f"executed: {executed}")
    return 0


def _execute(given: argparse.Namespace) -> int:
    from papermill import PapermillExecutionError

    from falloff.study import chapters

    # Told to stop, leave through the blocks that clean up.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    job = json.loads(given.job)
    try:
        chapters.execute(job["name"], job["values"], Path(job["executed"]), job["profile"])
    except PapermillExecutionError as error:
        print(f"cell {error.exec_count}:\n{error.source}\n{error.ename}: {error.evalue}")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="falloff", description=__doc__)
    verbs = parser.add_subparsers(required=True)
    for name, do, text in (
        ("book", _book, "run the chapters that are stale"),
        ("plan", _plan, "say which chapters would run, and why"),
        ("run", _run, "run one chapter with other parameters"),
    ):
        verb = verbs.add_parser(name, help=text)
        verb.add_argument("--profile", default="quick", help="set of parameters: quick or full")
        verb.set_defaults(do=do)
    verb.add_argument("chapter", help="such as 04_distance_aware_loss")
    verb.add_argument("parameters", nargs="*", help="name=value, as many as wanted")
    inner = verbs.add_parser("execute", help=argparse.SUPPRESS)
    inner.add_argument("job")
    inner.set_defaults(do=_execute)
    return parser


if __name__ == "__main__":
    sys.exit(main())
