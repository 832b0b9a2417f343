"""Result files that survive an interruption, and what the command lines of the benchmark scripts share."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn


class UsageError(Exception):
    """Something that the user has to change; one line, exit code 2."""


class Parser(argparse.ArgumentParser):
    """A command line whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Print the line and exit with 2."""
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())} (see --help)\n")


def of_a_folder(prog: str, description: str, *, time_limit: float | None = None) -> Parser:
    """Return the command line of a script that works on a folder of instances and keeps what is done.

    Parameters
    ----------
    prog, description : str
    time_limit : float, seconds, optional
        For each instance by default; else its own.
    """
    parser = Parser(prog=prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="holds instances.csv and what it names")
    parser.add_argument("--csv", type=Path, required=True, metavar="OUT", help="result file")
    parser.add_argument("--match", default="", metavar="TEXT", help="only lines that contain this")
    parser.add_argument(
        "--time-limit",
        type=positive,
        default=time_limit,
        metavar="S",
        help=f"seconds an instance (default: {'its own' if time_limit is None else format(time_limit, 'g')})",
    )
    parser.add_argument("--grace", type=positive, default=15.0, metavar="S", help="kill this long after a limit (15)")
    parser.add_argument("--resume", action=argparse.BooleanOptionalAction, default=True, help="skip finished instances")
    return parser


class Results:
    """A result file: a header and one complete line for each finished piece of work.

    Parameters
    ----------
    path : Path
    fields : sequence of str
        The header.
    resume : bool
        Keep the rows that are there; a last line that a kill tore off is dropped. Otherwise start afresh.

    Raises
    ------
    UsageError
        The file cannot be written, or what is there is something else than earlier results.
    """

    def __init__(self, path: Path, fields: Sequence[str], resume: bool) -> None:
        self.rows: list[dict[str, str]] = []
        self._fields = tuple(fields)
        try:
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            data = path.read_bytes() if resume else b""
            whole = data[: data.rfind(b"\n") + 1]
            if whole:
                self.rows = self._read(path, whole)
            os.ftruncate(self._handle, len(whole))
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror or error}") from None
        if not whole:
            self._write(self._fields)

    def add(self, row: Mapping[str, str]) -> None:
        """Append a row; it survives whatever happens to this process afterwards."""
        # On one line each: resuming depends on it.
        self.rows.append({name: " ".join(row[name].split()) for name in self._fields})
        self._write(list(self.rows[-1].values()))

    def _read(self, path: Path, data: bytes) -> list[dict[str, str]]:
        try:
            header, *rows = csv.reader(data.decode().splitlines())
        except (UnicodeDecodeError, csv.Error) as error:
            raise UsageError(f"{path}: {error}") from None
        if tuple(header) != self._fields or any(len(row) != len(self._fields) for row in rows):
            raise UsageError(f"{path} holds something else than results of this script; choose another --csv")
        return [dict(zip(self._fields, row, strict=True)) for row in rows]

    def _write(self, cells: Sequence[str]) -> None:
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(cells)
        os.write(self._handle, line.getvalue().encode())
        os.fsync(self._handle)

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)


def guarded(parser: Parser, script: Callable[[], int]) -> int:
    """Run a script and return its exit code; what the user has to change is one line and 2, an interruption 130."""
    try:
        return script()
    except (UsageError, OSError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        print("interrupted: run the same command again to go on", file=sys.stderr)
        return 130


def write_json(path: Path | None, rows: Sequence[Mapping[str, str]]) -> None:
    """Write all rows as JSON, if anybody wants them."""
    if path is not None:
        path.write_text(json.dumps(rows, indent=2) + "\n")


def positive(text: str) -> float:
    """Read a number of seconds from a command line."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return value


def show(title: str, header: Sequence[str], rows: Iterable[Sequence[str]], note: str = "") -> None:
    """Print a table; columns after the first are aligned to the right."""
    from rich.console import Console  # not before: see benchmarks.processes
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for index, name in enumerate(header):
        table.add_column(name, justify="right" if index else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    # Piped, a table must not be cut to a width that nobody chose.
    console = Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=250)
    console.print(table)
    if note:
        console.print(note)
