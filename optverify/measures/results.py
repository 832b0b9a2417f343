"""The answers of `safe_box` and `dual_box`: frozen data with text, JSON and HTML forms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import inf, log
from typing import Any, Literal

import numpy as np

from optverify.interval import round_down, round_up
from optverify.measures.brackets import Radius, exactly, given
from optverify.region import Box
from optverify.report import html, text
from optverify.semantics import REAL, named
from optverify.witness import Witness

Side = Literal["lower", "upper"]

DIGITS = 9
"""Decimals of at most so many characters are printed as they are."""


@dataclass(frozen=True)
class Face:
    """What became of a face.

    Parameters
    ----------
    axis : int
        Number of the input.
    side : "lower" or "upper"
    position : Fraction
    slack : float
        How far it was moved after the box that the search began with; 0 where it was not, for whatever reason.
    stop : str
        "domain"; "counterexample": an unsafe point lies in the box whose face is one step further; "fixed";
        "undecided".
    witness : Witness or None
        That point, replayed in exact arithmetic.
    """

    axis: int
    side: Side
    position: Fraction
    slack: float
    stop: Literal["domain", "counterexample", "fixed", "undecided"]
    witness: Witness | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "axis": self.axis,
            "side": self.side,
            "position": str(self.position),
            "slack": self.slack,
            "stop": self.stop,
            "witness": None if self.witness is None else self.witness.to_dict(),
        }


@dataclass(frozen=True)
class SafeBox:
    """The answer of :func:`safe_box`: no point of `box` is unsafe.

    Parameters
    ----------
    box : Box
        Exact.
    x : tuple of Fraction
    faces : tuple of Face
        The lower and the upper face of each input in turn.
    apothem : float
        Least distance of x from a face that is not on the border of the domain nor fixed; inf if all are.
    radius : Radius or None
        The l-inf radius that the box was grown from.
    step : float
    complete : bool
        Whether each face was stopped by the domain or by a counterexample: the box is maximal to within `step`.
    reason : str
    seconds : float
    question : str
    domain : Box
    network : str
    certified : bool or None
        Whether a proof for the box was written and accepted by the checker.
    semantics : str
    versions : mapping
    """

    box: Box
    x: tuple[Fraction, ...]
    faces: tuple[Face, ...]
    apothem: float
    radius: Radius | None
    step: float
    complete: bool
    reason: str
    seconds: float
    question: str
    domain: Box
    network: str
    certified: bool | None = None
    semantics: str = REAL.name
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def edges(self) -> tuple[float, ...]:
        """Lengths of the edges, rounded down."""
        return tuple(round_down(b - a) for a, b in zip(self.box.lower, self.box.upper, strict=True))

    @property
    def diameter(self) -> float:
        """The longest edge, rounded down: the diameter in the l-inf norm."""
        return max(self.edges)

    @property
    def log_volume(self) -> float:
        """Natural logarithm of the volume in the inputs that are not fixed, but for rounding; -inf if an edge is 0."""
        fixed = {face.axis for face in self.faces if face.stop == "fixed"}
        edges = [edge for axis, edge in enumerate(self.edges) if axis not in fixed]
        return sum(map(log, edges)) if all(edges) else -inf

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as JSON-ready values (infinite numbers become None)."""
        values: dict[str, Any] = {
            **exactly(self.box),
            "x": [str(v) for v in self.x],
            "apothem": self.apothem,
            "edges": list(self.edges),
            "diameter": self.diameter,
            "log_volume": self.log_volume,
            "faces": [face.to_dict() for face in self.faces],
            "radius": None if self.radius is None else self.radius.to_dict(),
            **_record(self),
        }
        return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in values.items()}

    def _rows(self) -> dict[str, str]:
        count = {
            stop: sum(face.stop == stop for face in self.faces) for stop in dict.fromkeys(f.stop for f in self.faces)
        }
        rows = {
            "proved": f"no point of the box is unsafe ({self.question})",
            "box": _inside(self.box),
            **given(self.x, self.domain),
            "apothem": text.rounded_down(self.apothem),
            "diameter": f"at least {text.rounded_down(self.diameter)} (longest edge)",
            "log volume": f"about {text.number(self.log_volume)}",
            "faces": ", ".join(
                f"{n} stopped by {stop}" if stop != "fixed" else f"{n} fixed" for stop, n in count.items()
            ),
            "step": f"{self.step:.6g}: a counterexample is no further than this beyond a face that it stops",
            "reason": self.reason,
        }
        if self.radius is not None:
            rows["grown from"] = repr(self.radius)
        if self.certified is not None:
            rows["certificate"] = text.certified(self.certified)
        return rows | _last(self)

    def __str__(self) -> str:
        return text.card("safe box" + (", maximal" if self.complete else ""), self._rows())

    def __repr__(self) -> str:
        return f"<SafeBox: apothem {self.apothem:.6g}, log volume {self.log_volume:.6g}, {self.reason}>"

    def _repr_html_(self) -> str:
        return html.card("safe box", self._rows(), details={"network SHA-256": self.network, **self.versions})


@dataclass(frozen=True)
class DualBox:
    """The answer of :func:`dual_box`.

    Parameters
    ----------
    outer : Box or None
        Proved: holds every point of the class in the domain. None: the class has no point there.
    inner : Box or None
        The smallest box around the points that were found: the smallest dual box lies between the two.
    faces : tuple of Face
        Of the outer box; the witness is a point of the class within one step of the face.
    step : float
    complete : bool
        Whether each face of the outer box is within `step` of a point of the class, or on the domain's border.
    reason : str
    seconds : float
    question : str
    domain : Box
    network : str
    certified : bool or None
        Whether certificates of all faces were written and accepted by the checker.
    semantics : str
    versions : mapping
    """

    outer: Box | None
    inner: Box | None
    faces: tuple[Face, ...]
    step: float
    complete: bool
    reason: str
    seconds: float
    question: str
    domain: Box
    network: str
    certified: bool | None = None
    semantics: str = REAL.name
    versions: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as JSON-ready values."""
        return {
            "outer": None if self.outer is None else exactly(self.outer),
            "inner": None if self.inner is None else exactly(self.inner),
            "faces": [face.to_dict() for face in self.faces],
            **_record(self),
        }

    def _rows(self) -> dict[str, str]:
        rows = {"class": self.question, "reason": self.reason}
        if self.certified is not None:
            rows["certificates"] = text.certified(self.certified)
        if self.outer is None:
            return {"proved": "the domain holds no point of the class", **rows}
        return {
            **given(None, self.domain),
            "proved": f"every point of the class in the domain lies in {_around(self.outer)}",
            "step": f"{self.step:.6g}: the smallest such box is no smaller than this on each side"
            + ("" if self.complete else ", but for undecided faces"),
            **rows,
            **_last(self),
        }

    def __str__(self) -> str:
        return text.card("dual box", self._rows())

    def __repr__(self) -> str:
        return f"<DualBox: {self.question}, {self.reason}>"

    def _repr_html_(self) -> str:
        return html.card("dual box", self._rows(), details={"network SHA-256": self.network, **self.versions})


def _inside(box: Box) -> str:
    """Print a box with few digits and nothing that is not in it; a side that is too short for that with all digits."""
    sides = []
    for a, b in zip(box.lower, box.upper, strict=True):
        low, high = _short(a) or text.rounded_up(round_up(a)), _short(b) or text.rounded_down(round_down(b))
        if float(low) > float(high):
            low, high = text.rational(a), text.rational(b)
        sides.append(f"[{low}, {high}]")
    return "; ".join(sides)


def _around(box: Box) -> str:
    """Print a box with few digits and everything that is in it."""
    sides = []
    for a, b in zip(box.lower, box.upper, strict=True):
        low, high = _short(a) or text.rounded_down(round_down(a)), _short(b) or text.rounded_up(round_up(b))
        sides.append(f"[{low}, {high}]")
    return "; ".join(sides)


def _short(value: Fraction) -> str:
    """Return a decimal of few digits, if the number is one exactly."""
    shown = text.rational(value)
    return shown if len(shown) <= DIGITS and "/" not in shown and Fraction(shown) == value else ""


def _last(answer: SafeBox | DualBox) -> dict[str, str]:
    return {"semantics": named(answer.semantics).statement, "time": f"{answer.seconds:.2f} s"}


def _record(answer: SafeBox | DualBox) -> dict[str, Any]:
    """Return what both answers write as JSON beside their boxes."""
    return {
        "step": answer.step,
        "complete": answer.complete,
        "reason": answer.reason,
        "seconds": answer.seconds,
        "question": answer.question,
        "domain": exactly(answer.domain),
        "network_sha256": answer.network,
        "certified": answer.certified,
        "semantics": answer.semantics,
        "versions": dict(answer.versions),
    }
