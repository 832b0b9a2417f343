"""Where inputs live: boxes and balls, exactly."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from optverify.errors import InputError, ShapeError
from optverify.expressions import Number, rational
from optverify.interval import Interval, nearest, round_down, round_up
from optverify.norms import Cut, Norm, length
from optverify.report import text

SHOWN = 8
"""Inputs that the description of a region lists."""


@dataclass(frozen=True)
class Box:
    """A product of closed intervals, with exact rational ends.

    Parameters
    ----------
    lower, upper : sequences of n numbers
        Read exactly (see :mod:`optverify.expressions`).

    Raises
    ------
    InputError
        An end is NaN, infinite or beyond the float64 range, or an interval is reversed; the message names
        the input.
    ShapeError
        The two sequences differ in length or are empty.
    """

    lower: tuple[Fraction, ...]
    upper: tuple[Fraction, ...]

    def __post_init__(self) -> None:
        lower, upper = (tuple(rational(v) for v in flattened(ends)) for ends in (self.lower, self.upper))
        if len(lower) != len(upper) or not lower:
            raise ShapeError(
                f"a box needs as many lower as upper bounds and at least one; got {len(lower)}, {len(upper)}"
            )
        for i, (a, b) in enumerate(zip(lower, upper, strict=True)):
            if a > b:
                raise InputError(f"reversed bounds of input {i}: lower {nearest(a):.17g} > upper {nearest(b):.17g}")
            if not (np.isfinite(round_down(a)) and np.isfinite(round_up(b))):
                raise InputError(f"input {i} has no bounds within the float64 range")
        object.__setattr__(self, "lower", lower)
        object.__setattr__(self, "upper", upper)

    @classmethod
    def around(cls, x: ArrayLike, eps: Number | Sequence[Number], clip: tuple[Number, Number] | None = None) -> Box:
        """Return the l-inf ball of radius `eps` about `x`, cut by `clip`.

        Parameters
        ----------
        x : (n,) numbers
        eps : number, or (n,) numbers
        clip : pair of numbers or None
            Domain of every input; (0, 1) suits images. None, the default, does not cut.

        Raises
        ------
        InputError
            `eps` is negative, or `x` lies outside `clip`.
        """
        centre = [rational(v) for v in flattened(x)]
        radii = [rational(v) for v in flattened(eps)]
        if len(radii) == 1:
            radii *= len(centre)
        if len(radii) != len(centre):
            raise ShapeError(f"eps has {len(radii)} values, x has {len(centre)}")
        if min(radii) < 0:
            raise InputError("eps must not be negative")
        lower = [c - r for c, r in zip(centre, radii, strict=True)]
        upper = [c + r for c, r in zip(centre, radii, strict=True)]
        if clip is not None:
            low, high = rational(clip[0]), rational(clip[1])
            outside = [i for i, c in enumerate(centre) if not low <= c <= high]
            if outside:
                raise InputError(
                    f"input {outside[0]} of x lies outside clip = ({clip[0]}, {clip[1]}); pass clip=None not to cut"
                )
            lower, upper = [max(v, low) for v in lower], [min(v, high) for v in upper]
        return Box(tuple(lower), tuple(upper))

    def __str__(self) -> str:
        sides = list(zip(self.lower, self.upper, strict=True))
        ends = [f"X_{i} in [{text.rational(a)}, {text.rational(b)}]" for i, (a, b) in enumerate(sides[:SHOWN])]
        return ", ".join(ends) + (f", and {len(sides) - SHOWN} more" if len(sides) > SHOWN else "")

    @property
    def size(self) -> int:
        """Number of inputs n."""
        return len(self.lower)

    @cached_property
    def outward(self) -> Interval:
        """The smallest box of float64 numbers around this one, ends of shape (n,)."""
        return Interval(np.array([round_down(v) for v in self.lower]), np.array([round_up(v) for v in self.upper]))

    def contains(self, x: Sequence[Fraction]) -> bool:
        """Tell exactly whether a point lies in the box."""
        return len(x) == self.size and all(a <= v <= b for a, v, b in zip(self.lower, x, self.upper, strict=True))

    def clamp(self, x: Iterable[Number]) -> list[Fraction]:
        """Return the nearest point of the box, exactly."""
        return [min(max(rational(v), a), b) for a, v, b in zip(self.lower, x, self.upper, strict=True)]


@dataclass(frozen=True)
class Ball(Box):
    """The points of a box within a distance of a centre.

    Certificates of radii are about balls; `verify` and the other questions take boxes.

    Parameters
    ----------
    lower, upper : sequences of n numbers
    norm : "2", "1" or "0"
        "0" counts the inputs that differ.
    centre : sequence of n numbers
    radius : number

    Raises
    ------
    InputError, ShapeError
        As for a box; the centre has another size, the radius is negative, or there is no such norm.
    """

    norm: Norm
    centre: tuple[Fraction, ...]
    radius: Fraction

    def __post_init__(self) -> None:
        super().__post_init__()
        centre, radius = tuple(rational(v) for v in flattened(self.centre)), rational(self.radius)
        if len(centre) != self.size:
            raise ShapeError(f"the centre has {len(centre)} values, the box {self.size} inputs")
        if self.norm not in ("2", "1", "0"):
            raise InputError(f"a ball is of the norm 2, 1 or 0, not {self.norm!r}: for inf, take Box.around")
        if radius < 0:
            raise InputError("the radius of a ball must not be negative")
        if not all(np.isfinite(nearest(v)) for v in (*centre, radius)):
            raise InputError("the centre or the radius of a ball is beyond the float64 range")
        object.__setattr__(self, "centre", centre)
        object.__setattr__(self, "radius", radius)

    @classmethod
    def of(cls, box: Box, norm: Norm, centre: Sequence[Number], radius: Number) -> Ball:
        """Return the part of a box that is in a ball, with the box as small as the ball allows."""
        x, r = [rational(v) for v in flattened(centre)], rational(radius)
        if norm == "0" or len(x) != box.size:
            return cls(box.lower, box.upper, norm, tuple(x), r)
        lower = [max(a, v - r) for a, v in zip(box.lower, x, strict=True)]
        upper = [min(b, v + r) for b, v in zip(box.upper, x, strict=True)]
        return cls(tuple(lower), tuple(upper), norm, tuple(x), r)

    def __str__(self) -> str:
        return f"{super().__str__()}, within {text.rational(self.radius)} of a point in the norm {self.norm}"

    @cached_property
    def outward(self) -> Cut:
        """The smallest box around the box, cut by a ball that is as much larger as its centre is rounded."""
        box, centre = super().outward, np.array([nearest(v) for v in self.centre])
        off = length(self.norm, [v - Fraction(c) for v, c in zip(self.centre, centre.tolist(), strict=True)])
        radius = self.radius if self.norm == "0" else self.radius + Fraction(off)
        return Cut(box.lower, box.upper, self.norm, centre, round_up(radius))

    def contains(self, x: Sequence[Fraction]) -> bool:
        """Tell exactly whether a point lies in the box and in the ball."""
        if not super().contains(x):
            return False
        d = [abs(v - c) for v, c in zip(x, self.centre, strict=True)]
        if self.norm == "0":
            return sum(v != 0 for v in d) <= self.radius
        return sum(d) <= self.radius if self.norm == "1" else sum(v * v for v in d) <= self.radius**2


def boxes_only(regions: Iterable[Box]) -> None:
    """Refuse balls.

    Raises
    ------
    InputError
    """
    if any(isinstance(region, Ball) for region in regions):
        raise InputError("this is a question about boxes, and a region is a ball: ask for the radius instead")


def flattened(values: object) -> list[Number]:
    """Return one number, or those of a sequence or array of any shape, as they are."""
    if isinstance(values, int | float | str | Fraction):
        return [values]
    if isinstance(values, list | tuple) and values and not isinstance(values[0], list | tuple | np.ndarray):
        return list(values)
    try:
        # As objects: a nested list of ints and floats must not become floats.
        return list(np.asarray(values, dtype=object).ravel().tolist())
    except ValueError:
        raise ShapeError("nested lists must be rectangular") from None
