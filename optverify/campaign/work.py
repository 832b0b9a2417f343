"""What a worker does with one instance: a pure function of the task, for any process on any machine."""

from __future__ import annotations

import hashlib
import json
import pickle
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from optverify.errors import InputError, OptverifyError
from optverify.io import load, load_property
from optverify.network import Network
from optverify.query import Query
from optverify.results import versions
from optverify.verify import verify


@dataclass(frozen=True)
class Task:
    """An instance as it travels to a worker.

    Parameters
    ----------
    network : str or bytes
        A path that the worker can read, or a pickled network.
    property : str or Query
        A path that the worker can read, or the property.
    network_sha256, property_sha256 : str
        What the question is about: a file that has changed since is an error.
    time_limit : float, seconds, or None
    solver : str or None
    seed : int
    certificates : bool
    version : str
        Of optverify: a worker with another one is an error.
    """

    network: str | bytes
    property: str | Query
    network_sha256: str
    property_sha256: str
    time_limit: float | None
    solver: str | None
    seed: int
    certificates: bool
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
        One of :class:`~optverify.results.Verdict`, or ``error``.
    reason : str
    bound, seconds, cpu_seconds, peak_mib : float or None
        As in :class:`~optverify.results.Verification`.
    answer : str
        All of the verification as JSON; empty for an error.
    certificate : bytes or None
    """

    verdict: str
    reason: str
    bound: float | None = None
    seconds: float | None = None
    cpu_seconds: float | None = None
    peak_mib: float | None = None
    answer: str = ""
    certificate: bytes | None = None


def work(task: Task) -> Outcome:
    """Answer one instance; whatever is wrong with it is an outcome too."""
    try:
        return _verify(task)
    except OptverifyError as error:
        return Outcome("error", str(error))
    except (MemoryError, RecursionError) as error:
        return Outcome("error", f"{type(error).__name__}: the problem is too large for this machine")
    except Exception as error:  # a defect of ours must not end the campaign
        return Outcome("error", f"internal error, please report it: {type(error).__name__}: {error}")


def _verify(task: Task) -> Outcome:
    if task.version != versions()["optverify"]:
        raise InputError(f"the worker has optverify {versions()['optverify']}, the campaign {task.version}")
    network = _network(task.network, task.network_sha256)
    query = task.property if isinstance(task.property, Query) else load_property(task.property)
    if isinstance(task.property, str) and sha256(task.property) != task.property_sha256:
        raise InputError(f"{task.property} has changed since the campaign was started")
    with tempfile.TemporaryDirectory(prefix="optverify-") as folder:
        proof = Path(folder, "certificate")
        answer = verify(
            network,
            query,
            time_limit=task.time_limit,
            solver=task.solver,
            seed=task.seed,
            certificate=str(proof) if task.certificates else None,
        )
        # The bytes go home: only there is it decided where they are kept, whatever machine this is.
        certificate = proof.read_bytes() if answer.certified else None
    return Outcome(
        answer.verdict.value,
        answer.reason,
        answer.bound,
        answer.seconds,
        answer.cpu_seconds,
        answer.peak_mib,
        json.dumps(answer.to_dict(), allow_nan=False),
        certificate,
    )


@lru_cache(maxsize=2)
def _network(source: str | bytes, digest: str) -> Network:
    """Return the network of a task; the last ones are kept, as neighbours often share it."""
    network = pickle.loads(source) if isinstance(source, bytes) else load(source)
    assert isinstance(network, Network)
    if network.digest != digest:
        raise InputError(f"{source!r} has changed since the campaign was started")
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
