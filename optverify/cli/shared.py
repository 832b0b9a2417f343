"""What the commands share: types of arguments, messages, files written whole or not at all, the live line."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from optverify.errors import InputError, require
from optverify.semantics import SEMANTICS
from optverify.solvers import LINEAR

if TYPE_CHECKING:
    from optverify.network import Network
    from optverify.query import Query
    from optverify.region import Box

EXIT_ERROR = 3
METHODS = ["interval", "crown", "alpha-crown", "triangle", "triangle+tightened"]
METHODS += ["lifted", "lifted+cuts", "bigm", "exact"]
"""Those of `search.methods`, which is imported where it is used; the tests know that they are the same."""


class Parser(argparse.ArgumentParser):
    """argparse exits with 2 for a wrong command line; 2 means unknown here."""

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with 3."""
        self.exit(EXIT_ERROR, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


Commands: TypeAlias = "argparse._SubParsersAction[Parser]"
"""Where a command adds its parser."""


def say(text: str) -> None:
    """Print a result."""
    print(text)  # noqa: T201


def note(text: str) -> None:
    """Print what is no result."""
    print(text, file=sys.stderr)  # noqa: T201


def fail(message: str) -> int:
    """Print an error as one line; return the exit code."""
    note(f"optverify: error: {' '.join(message.split())}")
    return EXIT_ERROR


def positive_seconds(text: str) -> float:
    """Read a time limit."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of seconds")
    return value


def positive_count(text: str) -> int:
    """Read a number of processes."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of processes")
    return int(text)


def whole_number(text: str) -> int:
    """Read a seed or an index."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)


def whole_numbers(text: str) -> list[int]:
    """Read indices with commas between them."""
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers such as 0,3")
    return [int(part) for part in parts]


def add_semantics(parser: argparse.ArgumentParser) -> None:
    """Add the arithmetic that a question is about."""
    parser.add_argument(
        "--semantics",
        choices=list(SEMANTICS),
        help="real, or every execution in a floating-point format (default: what PROP says, else real)",
    )


def add_domain(parser: argparse.ArgumentParser) -> None:
    """Add the range that an input's coordinates have."""
    parser.add_argument(
        "--domain", nargs=2, default=("0", "1"), metavar=("LO", "HI"), help="range of every input (default 0 1)"
    )
    parser.add_argument("--no-domain", dest="domain", action="store_const", const=None, help="inputs have no range")


def domain_of(options: argparse.Namespace) -> tuple[str, str] | None:
    """Return the range of every input, or None."""
    return None if options.domain is None else (options.domain[0], options.domain[1])


def add_search(
    parser: argparse.ArgumentParser, solver: str = LINEAR, solver_help: str = "for programs (default " + LINEAR + ")"
) -> None:
    """Add what all questions that end in a search have in common."""
    parser.add_argument("--time-limit", type=positive_seconds, metavar="S", help="seconds of wall clock")
    parser.add_argument("--solver", default=solver, metavar="NAME", help=f"{solver_help}; optverify solvers lists them")
    parser.add_argument(
        "--workers",
        type=positive_count,
        metavar="N",
        help="processes for long searches (default: one a core, at most 4)",
    )
    parser.add_argument("--seed", type=whole_number, default=0, help="of the attack's random points (default 0)")
    parser.add_argument("--json", metavar="FILE", help="write the answer as JSON to FILE, or - for standard output")
    parser.add_argument("--quiet", action="store_true", help="no progress line")


def workers_or_default(chosen: int | None) -> int:
    """Return the number of processes: more than a few do not pay, as batches are handed out a few at a time."""
    if chosen is not None:
        return chosen
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 4)


def check_solver(name: str) -> None:
    """Refuse a solver that there is not, before anything is read."""
    from optverify.solvers import get

    get(name)


def refuse_overwriting(outputs: Sequence[str | None], inputs: Sequence[str]) -> None:
    """Refuse to write over an input, or two results to one file."""
    paths = [Path(p).resolve() for p in outputs if p not in (None, "-") and p is not None]
    taken = [Path(p).resolve() for p in inputs]
    for k, path in enumerate(paths):
        if path in taken or path in paths[:k]:
            raise InputError(f"{path.name} is named twice: an output must not replace an input or another output")


def network_and_query(options: argparse.Namespace) -> tuple[Network, Query]:
    """Read both files; the network in the format that the question is about."""
    from optverify.io import load, load_property

    query = load_property(options.property)
    return load(options.network, format=query.under(options.semantics).format), query


def only_region(query: Query, path: str) -> Box:
    """Return the one box of inputs that a bound is asked over."""
    regions = list(dict.fromkeys(case.region for case in query.cases))
    if len(regions) != 1:
        raise InputError(f"{path} has {len(regions)} input boxes; `bound` needs a property with one")
    return regions[0]


@contextmanager
def json_output(destination: str | None) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Give a function that writes the answer as JSON; a file appears whole or not at all."""
    from optverify.io.files import replacing

    if destination is None:
        yield discard
    elif destination == "-":
        yield lambda answer: say(json.dumps(answer, allow_nan=False))
    else:
        with replacing(destination) as stream:

            def write(answer: dict[str, Any]) -> None:
                stream.write(json.dumps(answer, indent=2, allow_nan=False).encode() + b"\n")

            yield write


@contextmanager
def text_file(path: str | None) -> Iterator[Callable[[str], None]]:
    """Give a function that writes a text to a file, whole or not at all; without a path, to standard output."""
    from optverify.io.files import replacing

    if path is None:
        yield say
        return
    with replacing(path) as stream:
        yield lambda text: discard(stream.write(text.encode() + b"\n"))


def page_file(path: str | None) -> AbstractContextManager[Callable[[str], None]]:
    """Give a function that writes a page; find out before the work whether that will be possible."""
    if path is None:
        return nullcontext(discard)
    require("matplotlib", "plots").use("Agg")
    return text_file(path)


def discard(_: object) -> None:
    """Take a value that is not wanted."""


@contextmanager
def live_line(quiet: bool) -> Iterator[Callable[[object], None] | None]:
    """Show one live line on standard error where that is a terminal: the text of what it is told."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with Live(Text("reading"), console=Console(stderr=True), transient=True, refresh_per_second=4) as live:
        yield lambda told: live.update(Text(str(told)))
