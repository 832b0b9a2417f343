"""Rows on the disk as soon as they are done, so that a long run can go on where it stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from optverify.errors import InputError, OutputError


def key_of(*parts: object) -> str:
    """Return a digest of what a row depends on."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


class Store:
    """A file of JSON lines ``{"key": ..., "row": {...}}``, appended to; without a path, nothing is kept.

    Parameters
    ----------
    path : str or None
    retried : container of str
        Rows with such a ``status`` are not kept.

    Raises
    ------
    InputError
        The file holds something else; a last line that was cut off by an interruption is left out.
    OutputError
        It cannot be read or written.
    """

    def __init__(self, path: str | None, retried: Container[str] = ()) -> None:
        self._path, self._retried, self._stream = path, retried, None
        self._rows: dict[str, dict[str, Any]] = {}

    _stream: TextIO | None

    def __enter__(self) -> Store:
        if self._path is None:
            return self
        path = Path(self._path)
        try:
            text = path.read_text(encoding="utf-8") if path.exists() else ""
            whole = text[: text.rfind("\n") + 1]
            for number, line in enumerate(whole.splitlines(), 1):
                try:
                    entry = json.loads(line)
                    self._rows[entry["key"]] = dict(entry["row"])
                except (ValueError, TypeError, KeyError):
                    raise InputError(f"{path}, line {number}: not a row of an earlier comparison") from None
            if len(whole) < len(text):
                path.write_text(whole, encoding="utf-8")
            self._stream = path.open("a", encoding="utf-8")
        except UnicodeDecodeError:
            raise InputError(f"{path}: not a file of an earlier comparison") from None
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror or error}") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._stream is not None:
            self._stream.close()

    def get(self, key: str) -> dict[str, Any] | None:
        """Return a copy of the row with this key, or None."""
        row = self._rows.get(key)
        return None if row is None else dict(row)

    def put(self, key: str, row: dict[str, Any]) -> None:
        """Write a row at once, whole."""
        if self._stream is None or row.get("status") in self._retried:
            return
        try:
            self._stream.write(json.dumps({"key": key, "row": row}) + "\n")
            self._stream.flush()
        except OSError as error:
            raise OutputError(f"cannot write {self._path}: {error.strerror or error}") from None
