"""What a campaign is asked, and what makes two questions the same."""

from __future__ import annotations

import csv
import hashlib
import json
import pickle
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from optverify.campaign.work import Distance, Task, sha256
from optverify.errors import InputError, OptverifyError, ParseError, expect
from optverify.io import load
from optverify.network import Network
from optverify.query import Query
from optverify.results import versions
from optverify.semantics import REAL, named
from optverify.solvers import LINEAR

COLUMNS = {
    "network": "network",
    "onnx": "network",
    "property": "property",
    "vnnlib": "property",
    "timeout": "timeout",
    "timeout_s": "timeout",
}
"""Names in a header; other columns are not read."""


@dataclass(frozen=True)
class Instance:
    """One question.

    Parameters
    ----------
    name : str
        For people; does not count for identity.
    network : str or Network
        A path, or the thing itself.
    property : str or Query or Distance
        A path, or the thing itself.
    time_limit : float, seconds, optional
    """

    name: str
    network: str | Network
    property: str | Query | Distance
    time_limit: float | None = None


@dataclass(frozen=True)
class Settings:
    """How every question of a campaign is answered.

    Parameters
    ----------
    solver : str or None
    seed : int
    certificates : bool
    semantics : str or None
        As in :func:`optverify.verify`.
    """

    solver: str | None = LINEAR
    seed: int = 0
    certificates: bool = False
    semantics: str | None = None

    @property
    def format(self) -> str:
        """The format that files are read in which do not say theirs; empty for the reals."""
        return named(self.semantics or REAL).format


@dataclass(frozen=True)
class Identified:
    """An instance with its identity.

    Parameters
    ----------
    instance : Instance
    task : Task
    key : str
        SHA-256 of the content of network and property, of the time limit, the settings and the version.
    problem : str
        Why there is nothing to run; empty where there is something.
    """

    instance: Instance
    task: Task
    key: str
    problem: str


class Identifier:
    """Gives instances their identity; each file is read once.

    A network counts by the content that was read, a property file by its bytes.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._networks: dict[str, tuple[str, str]] = {}
        self._pickled: dict[str, bytes] = {}

    def identify(self, instance: Instance) -> Identified:
        """Return an instance with its identity; wrong files are a problem of the instance and no error."""
        expect(Instance, instance=instance)
        network_sha256, problem = self._network(instance.network)
        property_sha256 = ""
        if not isinstance(instance.property, str):
            property_sha256 = instance.property.digest
        else:
            try:
                property_sha256 = sha256(instance.property)
            except OptverifyError as error:
                problem = problem or str(error)
        settings = {
            "network": network_sha256,
            "property": property_sha256,
            "time_limit": instance.time_limit,
            "version": versions()["optverify"],
            **asdict(self._settings),
        }
        if problem:
            settings["problem"] = problem
        task = Task(
            self._content(instance.network),
            instance.property,
            network_sha256,
            property_sha256,
            instance.time_limit,
            **asdict(self._settings),
            version=versions()["optverify"],
        )
        return Identified(instance, task, hashlib.sha256(json.dumps(settings).encode()).hexdigest(), problem)

    def _network(self, network: str | Network) -> tuple[str, str]:
        """Return the digest of a network, and what is wrong with it."""
        if isinstance(network, Network):
            return network.digest, ""
        if network not in self._networks:
            try:
                self._networks[network] = load(network, format=self._settings.format).digest, ""
            except OptverifyError as error:
                self._networks[network] = "", str(error)
            except Exception as error:  # what no reader expects is the end of an instance, not of the campaign
                self._networks[network] = "", f"{type(error).__name__}: {error}"
        return self._networks[network]

    def _content(self, network: str | Network) -> str | bytes:
        """Return what travels to a worker: the path, or the network without what was computed from it."""
        if isinstance(network, str):
            return network
        if network.digest not in self._pickled:
            self._pickled[network.digest] = pickle.dumps(network)
        return self._pickled[network.digest]


def read_instances(path: str, time_limit: float | None = None) -> list[Instance]:
    """Read a list of instances.

    Parameters
    ----------
    path : str
        A CSV file of ``network,property,timeout`` as competitions publish them, paths relative to it. A header is
        not needed; with one (``network`` or ``onnx``, ``property`` or ``vnnlib``, ``timeout`` or ``timeout_s``) the
        order is free and other columns are left out.
    time_limit : float, seconds, optional
        For every instance, instead of its own.

    Raises
    ------
    InputError, ParseError
        The file cannot be read; a line is wrong, which the message names.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as stream:
            lines = csv.reader(stream, strict=True)
            rows = [(lines.line_num, [cell.strip() for cell in row]) for row in lines if any(map(str.strip, row))]
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ParseError(str(error), path) from None
    columns = ["network", "property", "timeout"]
    if rows and {"network", "property"} <= {COLUMNS.get(cell.lower(), "") for cell in rows[0][1]}:
        columns = [COLUMNS.get(cell.lower(), "") for cell in rows.pop(0)[1]]
    if not rows:
        raise ParseError("no instances; expected lines of network,property,timeout", path)
    folder = Path(path).parent
    return [_instance(dict(zip(columns, cells, strict=False)), folder, path, line, time_limit) for line, cells in rows]


def _instance(cells: dict[str, str], folder: Path, path: str, line: int, time_limit: float | None) -> Instance:
    network, prop, timeout = (cells.get(name, "") for name in ("network", "property", "timeout"))
    if not network or not prop:
        raise ParseError("expected network,property,timeout", path, line)
    try:
        own = float(timeout) if timeout else None
    except ValueError:
        own = -1.0
    if own is not None and not 0 < own < float("inf"):
        raise ParseError(f"{timeout!r} is not a positive number of seconds", path, line)
    limit = own if time_limit is None else time_limit
    return Instance(f"{network} {prop}", str(folder / network), str(folder / prop), limit)


def distinct(instances: Sequence[Identified]) -> list[Identified]:
    """Return each question once."""
    return list({found.key: found for found in reversed(instances)}.values())[::-1]
