"""The answers of `verify` and `bound`: frozen data with text, JSON and HTML forms."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import cache
from importlib import metadata
from typing import Any, Literal

import numpy as np

from optverify.report import html, text
from optverify.semantics import REAL, named
from optverify.witness import Replay, Witness


class Verdict(StrEnum):
    """The answer to a query."""

    VERIFIED = "verified"
    """No case is reachable: proved."""
    FALSIFIED = "falsified"
    """A case is reached: the witness was replayed in exact arithmetic."""
    UNKNOWN = "unknown"
    """Neither; `reason` says why."""


@dataclass(frozen=True)
class Certificate:
    """What was written as a certificate.

    Parameters
    ----------
    bytes, nodes, leaves : int
        Size of the file and of the tree in it; a counterexample has no tree.
    write_seconds, check_seconds : float
        Processor time to make it small and write it; to read it back and check it.
    """

    bytes: int
    nodes: int
    leaves: int
    write_seconds: float
    check_seconds: float

    def _repr_html_(self) -> str:
        rows = {"size": f"{self.bytes} bytes", "tree": f"{self.nodes} nodes, {self.leaves} leaves"}
        rows["processor time"] = f"{self.write_seconds:.2f} s to write, {self.check_seconds:.2f} s to check"
        return html.card("Certificate", rows)


@dataclass(frozen=True)
class Verification:
    """The answer of :func:`verify`.

    Parameters
    ----------
    verdict : Verdict
    reason : str
        Why, in a sentence.
    claim_text : str
        The property in words.
    bound : float or None
        Rigorous: on every point of every region, each case has some row (left side of ``... <= 0``) of at
        least this value. Positive proves the property. None where nothing was bounded.
    claim : float or None
        What a mixed-integer solver says that the least such value is, where it was asked and ended in time: not
        a proof of anything.
    witness : Witness or None
        With FALSIFIED: a point of the region that violates the property, in exact arithmetic.
    near_miss : Witness or None
        With UNKNOWN: the point that came nearest, if it violates the property to within 1e-4.
    replay : tuple of Replay
        What other runtimes compute at the witness.
    certified : bool or None
        Whether a certificate was written and accepted by the checker; None if none was asked for.
    certificate : Certificate or None
        What was written.
    closed : float
        Share of the search that is proved, 0 to 1.
    nodes, programs : int
        Nodes bounded; linear programs solved.
    seconds, cpu_seconds : float
        Elapsed; processor time of all processes.
    peak_mib : float or None
        Largest memory of all processes together, in MiB: an upper bound.
    network, query : str
        Content digests (SHA-256).
    solver : str
    semantics : str
        Which arithmetic the answer is about: ``"real"``, or the name of a floating-point format.
    versions : mapping
    """

    verdict: Verdict
    reason: str
    claim_text: str
    bound: float | None
    claim: float | None
    witness: Witness | None
    near_miss: Witness | None
    replay: tuple[Replay, ...]
    certified: bool | None
    certificate: Certificate | None
    closed: float
    nodes: int
    programs: int
    seconds: float
    cpu_seconds: float
    peak_mib: float | None
    network: str
    query: str
    solver: str | None
    semantics: str = REAL.name
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def gap(self) -> float | None:
        """Claim minus bound, where both are known."""
        return None if self.bound is None or self.claim is None else self.claim - self.bound

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as JSON-ready values; exact numbers as strings."""
        return {
            "verdict": self.verdict.value,
            "reason": self.reason,
            "property": self.claim_text,
            "semantics": self.semantics,
            "statement": named(self.semantics).statement,
            "bound": self.bound,
            "claim": self.claim,
            "gap": self.gap,
            "witness": None if self.witness is None else self.witness.to_dict(),
            "near_miss": None if self.near_miss is None else self.near_miss.to_dict(),
            "replay": [entry.to_dict() for entry in self.replay],
            "certified": self.certified,
            "certificate": None if self.certificate is None else asdict(self.certificate),
            "closed": self.closed,
            "nodes": self.nodes,
            "programs": self.programs,
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "peak_mib": self.peak_mib,
            "network_sha256": self.network,
            "query_sha256": self.query,
            "solver": self.solver,
            "versions": dict(self.versions),
        }

    def _rows(self) -> dict[str, str]:
        rows = {
            "property": self.claim_text,
            "reason": self.reason,
            "semantics": named(self.semantics).statement,
            "bound (proved)": text.rounded_down(self.bound),
            "claim (solver)": text.number(self.claim),
        }
        point = self.witness or self.near_miss
        if point is not None:
            label = "witness" if self.witness else "near miss"
            rows[f"{label} x"] = ", ".join(map(text.exact, point.x_float()))
            rows[f"{label} y"] = ", ".join(map(text.number, point.y_float()))
            if self.witness is not None and self.witness.case is not None:
                rows["case"] = f"{self.witness.case} of the property is reached"
            if point.execution:
                rows["execution"] = point.execution
        for entry in self.replay:
            rows[f"replay, {entry.runtime}"] = str(entry)
        if self.certified is not None:
            rows["certificate"] = text.certified(self.certified)
        rows["search"] = f"{self.nodes} nodes, {self.programs} programs, {math.floor(1000 * self.closed) / 10}% closed"
        memory = "" if self.peak_mib is None else f", {self.peak_mib:.0f} MiB"
        rows["time"] = f"{self.seconds:.2f} s, {self.cpu_seconds:.2f} CPU s{memory}"
        return rows

    def __bool__(self) -> bool:
        raise TypeError("an answer has three values: ask for answer.verdict is Verdict.VERIFIED")

    def __str__(self) -> str:
        return text.card(self.verdict.value.upper(), self._rows())

    def __repr__(self) -> str:
        return f"<Verification: {self.verdict.value}, bound {text.rounded_down(self.bound)}, {self.reason}>"

    def _repr_html_(self) -> str:
        details = {"network SHA-256": self.network, "query SHA-256": self.query, **self.versions}
        return html.card(self.claim_text, self._rows(), self.verdict.value, details)


@dataclass(frozen=True)
class BoundResult:
    """The answer of :func:`bound`: an interval that holds the optimum.

    Parameters
    ----------
    lower, upper : float
        Rigorous: lower <= optimum <= upper. In floating point, that over all executions at all points.
    claim : float or None
        What the solver says; not a proof of anything.
    point : tuple of float
        A point of the region (float64; rounded where the region's ends are no floats).
    attained : float
        Objective at the exact point, rounded to nearest: the end of the interval that the point attains
        (the upper end of a minimum, the lower end of a maximum).
    sense : "min" or "max"
    method : str
    solver : str or None
    complete : bool
        False where a limit or an interrupt ended the method early.
    reason : str
    nodes, programs : int
    seconds : float
    objective : str
    network : str
        Content digest.
    certified : bool or None
        Whether a proof of the bound was written and accepted by the checker; None if none was asked for.
    semantics : str
    versions : mapping
    """

    lower: float
    upper: float
    claim: float | None
    point: tuple[float, ...]
    attained: float
    sense: Literal["min", "max"]
    method: str
    solver: str | None
    complete: bool
    reason: str
    nodes: int
    programs: int
    seconds: float
    objective: str
    network: str
    certified: bool | None = None
    semantics: str = REAL.name
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def gap(self) -> float:
        """Upper minus lower."""
        return self.upper - self.lower

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as JSON-ready values (infinite numbers become None)."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        values["statement"] = named(self.semantics).statement
        values |= {"gap": self.gap, "point": list(self.point), "versions": dict(self.versions)}
        values["network_sha256"] = values.pop("network")
        return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in values.items()}

    def _rows(self) -> dict[str, str]:
        return {
            "proved": f"{text.exact(self.lower)} <= {self.sense} {self.objective} <= {text.exact(self.upper)}",
            "gap": text.number(self.gap),
            "claim (solver)": text.number(self.claim),
            "attained at": ", ".join(map(text.exact, self.point)),
            "method": f"{self.method}, solver {self.solver or 'none'}: {self.reason}",
            "semantics": named(self.semantics).statement,
            "search": f"{self.nodes} nodes, {self.programs} programs",
            "time": f"{self.seconds:.2f} s",
        } | ({} if self.certified is None else {"certificate": text.certified(self.certified)})

    def __str__(self) -> str:
        return text.card(f"{self.sense} {self.objective}", self._rows())

    def __repr__(self) -> str:
        return f"<Bound: {self.lower!r} <= {self.sense} {self.objective} <= {self.upper!r}, {self.method}>"

    def _repr_html_(self) -> str:
        return html.card(
            f"{self.sense} {self.objective}", self._rows(), details={"network SHA-256": self.network, **self.versions}
        )


@dataclass(frozen=True)
class ModelBound:
    """The answer of :func:`safe_bound`: how far the optimum of a model can be at most.

    Parameters
    ----------
    bound : float
        Rigorous: no point of the model is below it (`sense` min) or above it (max). inf, for a maximum -inf: the model
        has no point at all; the other infinity: nothing is proved.
    sense : "min" or "max"
    claim : float or None
        What a solver says the optimum is: the model's own solver if there was one. Not a proof of anything.
    advice : str
        Whose multipliers are behind the bound.
    reason : str
        The solver's words, or why nothing is proved.
    variables, rows : int
        Of the model as it was read; conditions on one variable are its bounds, not rows.
    programs, iterations : int
        That were solved for the bound, and what the solver needed for them; 0 where the model's own solver had left
        multipliers.
    tree : object or None
        What :func:`safe_bound` starts from, asked about a similar model; opaque, and left out of pickles.
    """

    bound: float
    sense: Literal["min", "max"]
    claim: float | None
    advice: str
    reason: str
    variables: int
    rows: int
    programs: int = 0
    iterations: int = 0
    tree: Any = field(default=None, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "tree": None}  # it holds what only its solver can read

    @property
    def infeasible(self) -> bool:
        """Whether it is proved that the model has no point."""
        return self.bound == (math.inf if self.sense == "min" else -math.inf)

    @property
    def gap(self) -> float | None:
        """How far the bound is from the claim; None without a claim."""
        if self.claim is None:
            return None
        return self.claim - self.bound if self.sense == "min" else self.bound - self.claim

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as JSON-ready values (infinite numbers become None)."""
        values = {**self.__getstate__(), "gap": self.gap, "infeasible": self.infeasible}
        del values["tree"]
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}

    def _title(self) -> str:
        return "minimum of the model" if self.sense == "min" else "maximum of the model"

    def _rows(self) -> dict[str, str]:
        relation = ">=" if self.sense == "min" else "<="
        proved = "no point satisfies the model" if self.infeasible else f"{relation} {text.exact(self.bound)}"
        return {
            "proved": proved,
            "claim (solver)": text.number(self.claim),
            "multipliers": f"{self.advice}: {self.reason}" if self.reason else self.advice,
            "model": f"{self.variables} variables, {self.rows} rows",
        }

    def __str__(self) -> str:
        return text.card(self._title(), self._rows())

    def __repr__(self) -> str:
        return f"<ModelBound: {self.sense} {'>=' if self.sense == 'min' else '<='} {self.bound!r}>"

    def _repr_html_(self) -> str:
        return html.card(self._title(), self._rows())


@cache
def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    found = {"python": platform.python_version()}
    for package in ("optverify", "numpy", "scipy", "highspy"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


@cache
def machine() -> str:
    """Return the processor and the system, as far as they tell."""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    except OSError:  # not Linux
        pass
    return f"{name}, {os.cpu_count()} cores, {platform.system()}"
