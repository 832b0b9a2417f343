"""Results in an SQLite file: one row for each question, written as soon as there is an answer.

The file has a rollback journal and not a write-ahead log, and every row is a transaction of its own that is on the
disk before the next one begins: a process that is killed at any instruction leaves all earlier rows, one file that
needs no repair by hand, and nothing of a row that was half written. Results can be read on a full disk, which a
write-ahead log does not allow.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import astuple, dataclass, fields
from types import TracebackType

from optverify.errors import InputError, OutputError

APPLICATION = 0x6F707476
"""The mark of our files: "optv"."""

LAYOUT = 2
"""Of the table; a file with another one is refused."""

MEMORY = ":memory:"
"""A store that ends with the process."""

BUSY = 60.0
"""Seconds that a row waits for another program that reads the file."""


@dataclass(frozen=True)
class Row:
    """The answer to one question.

    Parameters
    ----------
    key : str
        Identity (see :class:`~optverify.campaign.instances.Identified`).
    name, network, property : str
        For people.
    network_sha256, property_sha256 : str
        Content of the network; bytes of the property file, or the digest of a query.
    time_limit : float or None
    solver : str or None
    seed : int
    semantics : str or None
        The arithmetic that the answer is about; None where there is none, as the files could not be read.
    version : str
        Of optverify.
    verdict : str
        ``verified``, ``falsified``, ``unknown``, ``error``, or ``measured`` for a distance.
    reason : str
    bound, seconds, cpu_seconds, peak_mib : float or None
        As in :class:`~optverify.results.Verification`; a worker that did other instances before has their peak.
    attempts : int
        Times that it was started by the run that finished it.
    certificate : str or None
        File name in the folder of certificates.
    certificate_sha256 : str or None
    statement_sha256 : str or None
        Of the VNN-LIB file beside the certificate, where the property was none.
    finished : str
        UTC.
    """

    key: str
    name: str
    network: str
    property: str
    network_sha256: str
    property_sha256: str
    time_limit: float | None
    solver: str | None
    seed: int
    semantics: str | None
    version: str
    verdict: str
    reason: str
    bound: float | None
    seconds: float | None
    cpu_seconds: float | None
    peak_mib: float | None
    attempts: int
    certificate: str | None
    certificate_sha256: str | None
    statement_sha256: str | None
    finished: str


NAMES = tuple(field.name for field in fields(Row))
ADDED = (*NAMES, "answer")
ADD = f"""
    INSERT INTO results ({", ".join(ADDED)}) VALUES ({", ".join("?" * len(ADDED))})
    ON CONFLICT (key) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in ADDED[1:])}, writes = writes + 1
"""


class Store:
    """A file of results, held by one campaign at a time; anybody may read it meanwhile.

    Parameters
    ----------
    path : str
        Made where there is none.

    Raises
    ------
    InputError
        Another campaign holds it; it is something else than a store.
    OutputError
        It cannot be made.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        with ExitStack() as stack:
            if path != MEMORY:
                stack.enter_context(closing(_locked(path + ".lock", path)))
            with _reported(path):
                self._rows = stack.enter_context(closing(sqlite3.connect(path, timeout=BUSY, isolation_level=None)))
                self._open()
            self._held = stack.pop_all()

    def _open(self) -> None:
        def pragma(name: str) -> int:
            return int(self._rows.execute(f"PRAGMA {name}").fetchone()[0])

        if not pragma("schema_version"):
            columns = ", ".join(f"{name} PRIMARY KEY" if name == "key" else name for name in ADDED)
            self._rows.execute("BEGIN")  # a file is a store or empty
            self._rows.execute(f"CREATE TABLE results ({columns}, writes INTEGER NOT NULL DEFAULT 1)")
            self._rows.execute(f"PRAGMA application_id = {APPLICATION}")
            self._rows.execute(f"PRAGMA user_version = {LAYOUT}")
            self._rows.execute("COMMIT")
        if pragma("application_id") != APPLICATION:
            raise InputError(f"{self.path} is an SQLite file of something else; choose another store")
        if pragma("user_version") != LAYOUT:
            raise InputError(
                f"{self.path} was written by another version of optverify, with other columns: choose another store, "
                "or install that version; any program that reads SQLite reads its table `results`"
            )
        self._rows.execute("PRAGMA journal_mode = DELETE")
        self._rows.execute("PRAGMA synchronous = EXTRA")

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def get(self, key: str) -> Row | None:
        """Return the row of a question, if there is one."""
        with _reported(self.path):
            found = self._rows.execute(f"SELECT {', '.join(NAMES)} FROM results WHERE key = ?", [key]).fetchone()
        return None if found is None else Row(*found)

    def answer(self, key: str) -> str:
        """Return all of a verification as JSON; empty for an error."""
        with _reported(self.path):
            found = self._rows.execute("SELECT answer FROM results WHERE key = ?", [key]).fetchone()
        return "" if found is None else str(found[0])

    def add(self, row: Row, answer: str) -> None:
        """Write a row and all of its verification; when this returns it is on the disk.

        Raises
        ------
        OutputError
            It cannot be written; what was there is there still.
        """
        with _reported(self.path):
            self._rows.execute(ADD, (*astuple(row), answer))

    def rows(self) -> list[Row]:
        """Return all rows, in the order in which the questions were first answered."""
        with _reported(self.path):
            return [
                Row(*found) for found in self._rows.execute(f"SELECT {', '.join(NAMES)} FROM results ORDER BY rowid")
            ]

    def close(self) -> None:
        """Let the file go."""
        self._held.close()


def _locked(path: str, store: str) -> sqlite3.Connection:
    """Hold an empty file: its lock is portable, and goes with the process however that ends."""
    with _reported(path):
        guard = sqlite3.connect(path, timeout=0, isolation_level=None)
        try:
            guard.execute("PRAGMA journal_mode = MEMORY")  # no second file: it would find no room on a full disk
            guard.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            guard.close()
            if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                raise InputError(f"{store} is in use by another campaign: wait for its end or choose another") from None
            raise
    return guard


@contextmanager
def _reported(path: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise OutputError(f"cannot use {path}: {error}") from None
    except sqlite3.DatabaseError as error:
        raise InputError(f"{path} is not a store of results: {error}") from None
