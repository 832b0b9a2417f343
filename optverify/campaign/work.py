"""What a worker does with one instance: a pure function of the task, for any process on any machine."""

from __future__ import annotations

import hashlib
import json
import pickle
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite
from pathlib import Path

import numpy as np

from optverify.errors import InputError, OptverifyError
from optverify.expressions import Number, rational
from optverify.io import load, load_property
from optverify.io.vnnlib import write_vnnlib
from optverify.measures.radius import radius
from optverify.network import Network
from optverify.query import Query
from optverify.results import versions
from optverify.semantics import REAL, named
from optverify.verify import verify


@dataclass(frozen=True)
class Distance:
    """The question how far a point is from the nearest of another class, l-inf.

    Parameters
    ----------
    x : tuple of numbers
    label : int
    domain : pair of numbers or None
        Of every input.
    text : str
        In words.
    """

    x: tuple[Number, ...]
    label: int
    domain: tuple[Number, Number] | None
    text: str

    @property
    def digest(self) -> str:
        """SHA-256 of the question."""
        exact = [str(rational(value)) for value in (*self.x, *(self.domain or ()))]
        return hashlib.sha256(json.dumps(["l-inf distance", self.label, *exact]).encode()).hexdigest()


@dataclass(frozen=True)
class Task:
    """An instance as it travels to a worker.

    Parameters
    ----------
    network : str or bytes
        A path that the worker can read, or a pickled network.
    property : str or Query or Distance
        A path that the worker can read, or the property.
    network_sha256, property_sha256 : str
        What the question is about: a file that has changed since is an error.
    time_limit : float, seconds, or None
    solver : str or None
    seed : int
    certificates : bool
    semantics : str or None
        As in :func:`optverify.verify`.
    version : str
        Of optverify: a worker with another one is an error.
    """

    network: str | bytes
    property: str | Query | Distance
    network_sha256: str
    property_sha256: str
    time_limit: float | None
    solver: str | None
    seed: int
    certificates: bool
    semantics: str | None
    version: str

    def patience(self) -> float | None:
        """Return the seconds after which a worker is taken to hang: the certificate comes on top of the limit."""
        return None if self.time_limit is None else 3 * self.time_limit + 60


@dataclass(frozen=True)
class Outcome:
    """What came out.

    Parameters
    ----------
    verdict : str
        One of :class:`~optverify.results.Verdict`, ``error``, or ``measured`` for a distance.
    reason : str
    bound, seconds, cpu_seconds, peak_mib : float or None
        As in :class:`~optverify.results.Verification`; of a distance the lower end.
    semantics : str or None
        That the answer is about; None for an error.
    answer : str
        All of the answer as JSON; empty for an error.
    certificate : bytes or None
    statement : bytes or None
        What the certificate proves, as VNN-LIB, where that is no file already.
    """

    verdict: str
    reason: str
    bound: float | None = None
    seconds: float | None = None
    cpu_seconds: float | None = None
    peak_mib: float | None = None
    semantics: str | None = None
    answer: str = ""
    certificate: bytes | None = None
    statement: bytes | None = None


def work(task: Task) -> Outcome:
    """Answer one instance; whatever is wrong with it is an outcome too."""
    try:
        return _measure(task, task.property) if isinstance(task.property, Distance) else _verify(task, task.property)
    except OptverifyError as error:
        return Outcome("error", str(error))
    except (MemoryError, RecursionError) as error:
        return Outcome("error", f"{type(error).__name__}: the problem is too large for this machine")
    except Exception as error:  # a defect of ours must not end the campaign
        return Outcome("error", f"internal error, please report it: {type(error).__name__}: {error}")


def _verify(task: Task, asked: str | Query) -> Outcome:
    network = _network(task)
    query = asked if isinstance(asked, Query) else load_property(asked)
    if isinstance(asked, str) and sha256(asked) != task.property_sha256:
        raise InputError(f"{asked} has changed since the campaign was started")
    with _proof(task) as proof:
        answer = verify(
            network,
            query,
            semantics=task.semantics,
            time_limit=task.time_limit,
            solver=task.solver,
            seed=task.seed,
            certificate=proof,
        )
        # The bytes go home: only there is it decided where they are kept, whatever machine this is.
        certificate = Path(proof).read_bytes() if proof is not None and answer.certified else None
    return Outcome(
        answer.verdict.value,
        answer.reason,
        answer.bound,
        answer.seconds,
        answer.cpu_seconds,
        answer.peak_mib,
        answer.semantics,
        json.dumps(answer.to_dict(), allow_nan=False),
        certificate,
        write_vnnlib(query).encode() if certificate is not None and isinstance(asked, Query) else None,
    )


def _measure(task: Task, asked: Distance) -> Outcome:
    network = _network(task)
    with _proof(task) as proof:
        answer = radius(
            network,
            np.array(asked.x, dtype=object),
            asked.label,
            semantics=task.semantics or REAL,
            domain=asked.domain,
            time_limit=task.time_limit,
            solver=task.solver,
            seed=task.seed,
            certificate=proof,
        )
        written = proof is not None and answer.certified
        certificate, statement = (Path(f"{proof}{end}").read_bytes() if written else None for end in ("", ".vnnlib"))
    return Outcome(
        "measured",
        answer.reason,
        answer.lower if isfinite(answer.lower) else None,
        answer.seconds,
        answer.cpu_seconds,
        None,
        answer.semantics,
        json.dumps(answer.to_dict(), allow_nan=False),
        certificate,
        statement,
    )


@contextmanager
def _proof(task: Task) -> Iterator[str | None]:
    """Give a name for a certificate, if one is asked for."""
    if not task.certificates:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="optverify-") as folder:
        yield str(Path(folder, "certificate"))


def _network(task: Task) -> Network:
    """Return the network of a task.

    Raises
    ------
    InputError
        This is another version of the verifier, or the file has changed.
    """
    if task.version != versions()["optverify"]:
        raise InputError(f"the worker has optverify {versions()['optverify']}, the campaign {task.version}")
    network = _read(task.network, task.network_sha256, named(task.semantics or REAL).format)
    if network.digest != task.network_sha256:
        raise InputError(f"{task.network!r} has changed since the campaign was started")
    return network


@lru_cache(maxsize=2)
def _read(source: str | bytes, digest: str, format: str) -> Network:  # noqa: A002, ARG001
    """Read a network; the last ones are kept, as neighbours often share it."""
    network = pickle.loads(source) if isinstance(source, bytes) else load(source, format=format)
    assert isinstance(network, Network)
    return network


def sha256(path: str) -> str:
    """Return the digest of a file.

    Raises
    ------
    InputError
        It cannot be read.
    """
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
