"""The answer of `radius`, and a line of its diary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import inf
from typing import Any

import numpy as np

from optverify.norms import Norm
from optverify.region import SHOWN, Box
from optverify.report import html, text
from optverify.semantics import REAL, named
from optverify.witness import Witness

WHOLE = "no input of the domain is a counterexample"


def exactly(box: Box) -> dict[str, list[str]]:
    """Return the ends of a box as JSON-ready fractions: a rounded box is not the one that was proved."""
    return {"lower": [str(v) for v in box.lower], "upper": [str(v) for v in box.upper]}


def given(x: Sequence[Fraction] | None, domain: Box) -> dict[str, str]:
    """Return rows of text that say what an answer is about."""
    same = len(set(domain.lower)) == len(set(domain.upper)) == 1
    ends = (
        f"all inputs in [{text.rational(domain.lower[0])}, {text.rational(domain.upper[0])}]" if same else str(domain)
    )
    if x is None:
        return {"domain": ends}
    more = f", and {len(x) - SHOWN} more" if len(x) > SHOWN else ""
    return {"x": ", ".join(map(text.rational, x[:SHOWN])) + more, "domain": ends}


@dataclass(frozen=True)
class Radius:
    """The answer of :func:`radius`: lower <= radius <= upper.

    Parameters
    ----------
    lower : float
        Proved: no point of the domain within this distance of x is a counterexample; for "0", none at less than this
        distance. inf: none at all.
    upper : float
        The distance of the counterexample, rounded up; inf where none was found.
    norm : Norm
        For "0" the distance is the number of inputs that differ.
    label : int or None
        The class of x; None where the question is another property.
    witness : Witness or None
        The counterexample, exact, replayed in exact arithmetic.
    lower_from, upper_from : str
        Where the two ends come from.
    reason : str
        Why the bracket is no narrower.
    complete : bool
        Whether the gap that was asked for is reached.
    nodes, programs : int
    seconds, cpu_seconds : float
    question : str
        In words.
    x : tuple of Fraction
    domain : Box
        Where inputs live.
    network : str
        Content digest.
    solver : str or None
    certified : bool or None
        Whether a proof of the lower end was written and accepted by the checker; None if none was asked for.
    claim : float or None
        What a mixed-integer solver says that the radius is: no bound. inf: it says that there is no counterexample;
        None: it was not asked, or did not end.
    semantics : str
    versions : mapping
    """

    lower: float
    upper: float
    norm: Norm
    label: int | None
    witness: Witness | None
    lower_from: str
    upper_from: str
    reason: str
    complete: bool
    nodes: int
    programs: int
    seconds: float
    cpu_seconds: float
    question: str
    x: tuple[Fraction, ...]
    domain: Box
    network: str
    solver: str | None
    certified: bool | None = None
    claim: float | None = None
    semantics: str = REAL.name
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def gap(self) -> float:
        """(upper - lower) / upper; 0 where both are the same, also where both are infinite."""
        if self.lower == self.upper:
            return 0.0
        return (self.upper - self.lower) / self.upper if self.upper < inf else inf

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as JSON-ready values (infinite numbers become None)."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        values |= {"gap": self.gap, "witness": None if self.witness is None else self.witness.to_dict()}
        values |= {"x": [str(v) for v in self.x], "domain": exactly(self.domain)}
        values["versions"] = dict(self.versions)
        values["network_sha256"] = values.pop("network")
        return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in values.items()}

    def _title(self) -> str:
        return f"l-{self.norm} radius, {self.question}"

    def _rows(self) -> dict[str, str]:
        ends = f"{text.exact(self.lower)} <= radius <= {text.exact(self.upper)}"
        if self.lower == inf:
            ends = WHOLE
        sign = "<" if self.norm == "0" or not self.lower else "<="
        rows = {
            "proved": ends,
            **given(self.x, self.domain),
            "gap": f"{self.gap:.3g} of the upper end",
            "lower end": f"{self.lower_from}: no counterexample at a distance {sign} {text.exact(self.lower)}",
            "upper end": self.upper_from,
        }
        if self.witness is not None:
            rows["counterexample"] = ", ".join(map(text.exact, self.witness.x_float()))
            rows["its outputs"] = ", ".join(map(text.number, self.witness.y_float()))
        if self.claim is not None:
            rows["claim (solver)"] = text.number(self.claim) if self.claim < inf else "there is no counterexample"
        if self.certified is not None:
            rows["certificate"] = text.certified(self.certified)
        return rows | {
            "reason": self.reason,
            "semantics": named(self.semantics).statement,
            "search": f"{self.nodes} nodes, {self.programs} programs",
            "time": f"{self.seconds:.2f} s, {self.cpu_seconds:.2f} CPU s",
        }

    def __str__(self) -> str:
        return text.card(self._title(), self._rows())

    def __repr__(self) -> str:
        return f"<Radius: {self.lower!r} <= l-{self.norm} radius <= {self.upper!r}, {self.reason}>"

    def _repr_html_(self) -> str:
        return html.card(self._title(), self._rows(), details={"network SHA-256": self.network, **self.versions})


@dataclass(frozen=True)
class Bracket:
    """A line of the diary of :func:`radius`.

    Parameters
    ----------
    lower, upper : float
        Both hold already.
    nodes : int
    seconds : float
    """

    lower: float
    upper: float
    nodes: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"radius in [{text.rounded_down(self.lower)}, {self.upper:.6g}], {self.nodes} nodes, {self.seconds:.0f} s"
        )
