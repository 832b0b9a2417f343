"""Results as tables of pandas, and as files of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from optverify.campaign.store import NAMES, Row
from optverify.errors import require
from optverify.io.files import expect_ending, replacing

ENDINGS = (".csv", ".parquet")


def frame(rows: Sequence[Row]) -> Any:
    """Return rows as a `pandas.DataFrame`.

    Raises
    ------
    MissingExtra
        pandas is not installed.
    """
    pandas = require("pandas", "tables")
    table = pandas.DataFrame([asdict(row) for row in rows], columns=list(NAMES))
    return table.astype(dict.fromkeys(("time_limit", "bound", "seconds", "cpu_seconds", "peak_mib"), "float64"))


def check_export(path: str) -> None:
    """Refuse before the work what :func:`write_table` could not write after it.

    Raises
    ------
    InputError
        The ending is unknown.
    MissingExtra
    """
    expect_ending(path, ENDINGS, "table")
    require("pandas", "tables")
    if path.endswith(".parquet"):
        require("pyarrow", "tables")


def write_table(table: Any, path: str) -> None:
    """Write a `pandas.DataFrame` as CSV or Parquet, by the ending of the name; it appears whole or not at all.

    Raises
    ------
    InputError, MissingExtra, OutputError
    """
    check_export(path)
    with replacing(path) as stream:
        if path.endswith(".csv"):
            stream.write(table.to_csv(index=False).encode())
        else:
            stream.write(table.to_parquet(index=False))
