"""What is kept of an instance: a row and a certificate."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from optverify.campaign.instances import Identified, Instance
from optverify.campaign.store import Row, Store
from optverify.campaign.work import Distance, Outcome
from optverify.errors import OutputError
from optverify.io.files import replacing
from optverify.query import Query


class Kept:
    """A store and a folder of certificates.

    Parameters
    ----------
    store : str
    certificates : str or None
        Made where there is none.
    """

    def __init__(self, store: str, certificates: str | None) -> None:
        self._folder = None if certificates is None else _folder(certificates)
        self.store = Store(store)

    def answered(self, key: str) -> Row | None:
        """Return the row of a question, if there is one and its certificate is there too, with what it proves."""
        row = self.store.get(key)
        if row is None or row.certificate is None or self._folder is None:
            return row
        proof = self._folder / row.certificate
        files = {proof: row.certificate_sha256, _statement(proof): row.statement_sha256}
        return row if all(_holds(path, digest) for path, digest in files.items() if digest is not None) else None

    def record(self, found: Identified, outcome: Outcome, attempts: int) -> Row:
        """Write a certificate and then the row that names it.

        A kill in between leaves a certificate without a row, and its instance is run again.

        Raises
        ------
        OutputError
        """
        certificate = None
        if outcome.certificate is not None and self._folder is not None:
            certificate = _file_name(found)
            if outcome.statement is not None:
                _write(_statement(self._folder / certificate), outcome.statement)
            _write(self._folder / certificate, outcome.certificate)
        row = _row(found, outcome, attempts, certificate)
        self.store.add(row, outcome.answer)
        return row


def named(row: Row | None, instance: Instance) -> Row | None:
    """Give a row the names that its question has now: files may have moved since, or be copies of each other."""
    if row is None:
        return None
    return replace(row, name=instance.name, network=_label(instance.network), property=_label(instance.property))


def _row(found: Identified, outcome: Outcome, attempts: int, certificate: str | None) -> Row:
    return Row(
        key=found.key,
        name=found.instance.name,
        network=_label(found.instance.network),
        property=_label(found.instance.property),
        network_sha256=found.task.network_sha256,
        property_sha256=found.task.property_sha256,
        time_limit=found.task.time_limit,
        solver=found.task.solver,
        seed=found.task.seed,
        semantics=outcome.semantics or found.task.semantics,
        version=found.task.version,
        verdict=outcome.verdict,
        reason=outcome.reason,
        bound=outcome.bound,
        seconds=outcome.seconds,
        cpu_seconds=outcome.cpu_seconds,
        peak_mib=outcome.peak_mib,
        attempts=attempts,
        certificate=certificate,
        certificate_sha256=_digest(outcome.certificate),
        statement_sha256=_digest(outcome.statement),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _statement(proof: Path) -> Path:
    """Return the file that says what a certificate proves."""
    return proof.with_suffix(".vnnlib")


def _digest(content: bytes | None) -> str | None:
    return None if content is None else hashlib.sha256(content).hexdigest()


def _holds(path: Path, digest: str) -> bool:
    """Tell whether a file is there as it was written."""
    try:
        return _digest(path.read_bytes()) == digest
    except OSError:
        return False


def _label(thing: object) -> str:
    if isinstance(thing, str):
        return thing
    return (
        thing.text
        if isinstance(thing, Query | Distance)
        else str(getattr(thing, "name", "") or getattr(thing, "source", ""))
    )


def _file_name(found: Identified) -> str:
    words = "-".join(Path(word).stem if "/" in word else word for word in found.instance.name.split())
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '_', words)[:80]}-{found.key[:12]}.proof"


def _folder(path: str) -> Path:
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {path}: {error.strerror or error}") from None
    return Path(path)


def _write(path: Path, content: bytes) -> None:
    with replacing(str(path)) as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
