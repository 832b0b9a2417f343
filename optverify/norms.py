"""Boxes cut by balls of the norms inf, 2, 1 and 0: exact lengths, least values of linear forms, nearest points.

With d = x - centre, lo <= d <= hi and any m >= 0, every point of the ball of radius R in the box has

    "1"    c . d  >=  sum_i min over d_i of (c_i d_i + m |d_i|)  -  m R
    "2"    c . d  >=  sum_i min over d_i of (c_i d_i + m d_i^2)  -  m R^2

by weak duality, with equality for the best m; for "0" (at most R entries of d are not 0), c . d >= - the sum of the R
largest of max(-c_i lo_i, -c_i hi_i). m is advice; the right-hand side is evaluated with a bound on its rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import isqrt
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from optverify.errors import InputError
from optverify.interval import INFLATE, TINY, UNIT, Array, Interval, dot_error, down, round_up, up

Norm = Literal["inf", "2", "1", "0"]

NORMS: tuple[Norm, ...] = get_args(Norm)


def norm_of(name: object) -> Norm:
    """Read a norm: one of :data:`NORMS`, or the numbers inf, 2, 1, 0.

    Raises
    ------
    InputError
    """
    text = f"{name:g}" if isinstance(name, int | float) else str(name)
    for norm in NORMS:
        if text == norm:
            return norm
    raise InputError(f"unknown norm {name!r}; choose from {', '.join(NORMS)}")


def length(norm: Norm, d: Sequence[Fraction]) -> float:
    """Return the length of an exact vector, rounded up; exact for "0"."""
    if norm == "0":
        return float(sum(v != 0 for v in d))
    sizes = [abs(v) for v in d]
    if norm == "inf":
        return round_up(max(sizes))
    return round_up(sum(sizes, Fraction(0)) if norm == "1" else _root(sum((v * v for v in sizes), Fraction(0))))


def _root(value: Fraction) -> Fraction:
    """Return a rational that is not below the square root, and above it by less than one part in 2**64."""
    if not value:
        return value
    n, d = value.numerator, value.denominator
    shift = max(0, 80 - (n * d).bit_length() // 2)
    return Fraction(isqrt((n * d) << (2 * shift)) + 1, d << shift)


@dataclass(frozen=True, eq=False)
class Cut(Interval):
    """A box cut by a ball, or several with the same ball.

    Parameters
    ----------
    lower, upper : (n,) or (B, n) float64
        The box. It should contain the centre: else what is said of it holds, but is weak.
    norm : Norm
    centre : (n,) float64
    radius : float
        Not less than the true one plus the distance of `centre` from the true centre.
    weights : (n,) float64, optional
        For "inf": the length of d is max_i |d_i| / weights_i; 1 by default.
    """

    norm: Norm
    centre: Array
    radius: float
    weights: Array | None = None

    @property
    def box(self) -> Interval:
        """The box alone."""
        return Interval(self.lower, self.upper)

    @property
    def outer(self) -> Interval:
        """The smallest box around it, rounded outward."""
        if self.norm == "0":
            return self.box
        with np.errstate(over="ignore"):
            reach = self.radius if self.weights is None else up(self.radius * self.weights)
            ends = Interval(down(self.centre - reach), up(self.centre + reach))
        return self.box.intersect(ends)

    @property
    def outside(self) -> NDArray[np.bool_]:
        """Which boxes are wholly outside of the ball for certain; for the norms "2", "1" and "0".

        Of "0", where nothing says how far off `centre` is, inputs count that differ from its neighbours as well.
        """
        with np.errstate(all="ignore"):
            if self.norm == "0":
                differ = (self.lower > up(self.centre)) | (self.upper < down(self.centre))
                return np.asarray(differ.sum(axis=-1) > self.radius)
            away = np.maximum(np.maximum(down(self.lower - self.centre), down(self.centre - self.upper)), 0.0)
            size = away.sum(axis=-1) if self.norm == "1" else np.sqrt((away * away).sum(axis=-1))
            lost = dot_error(2 * self.centre.size) * size + 2.0**-500 * self.centre.size
            return np.asarray(down(size - lost) > self.radius)

    def within(self, radius: float) -> Cut:
        """Return the same box cut by the ball of another radius."""
        return replace(self, radius=radius)

    def over(self, box: Interval) -> Cut:
        """Return other boxes cut by the same ball."""
        return replace(self, lower=box.lower, upper=box.upper)

    def take(self, index: Any) -> Cut:
        """Index the leading axes of the boxes."""
        return self.over(self.box.take(index))

    def lengths(self, x: Array) -> Array:
        """Return the distances of points, (..., n), from the centre, in floating point."""
        order = {"inf": np.inf, "2": 2, "1": 1, "0": 0}[self.norm]
        with np.errstate(over="ignore"):
            d = x - self.centre if self.weights is None else (x - self.centre) / self.weights
            return np.asarray(np.linalg.norm(d, ord=order, axis=-1))

    def least(self, c: Array) -> Array:
        """Bound linear forms c . x from below, rigorously.

        Parameters
        ----------
        c : (..., n) or, of B boxes, (B, r, n) float64

        Returns
        -------
        (...) or (B, r) float64
            -inf where it overflows.
        """
        with np.errstate(all="ignore"):
            hull, x = self.outer, self.centre
            lo, hi = down(hull.lower - x), up(hull.upper - x)
            if lo.ndim > 1:
                lo, hi = lo[:, None, :], hi[:, None, :]
            reach = np.maximum(np.abs(lo), np.abs(hi))
            terms = 4 * c.shape[-1] + 16
            # What the centre's part, the split and the sums may have lost is at most terms * u * size.
            size = (np.abs(c) * (np.abs(x) + 4 * reach)).sum(axis=-1)
            if self.norm == "0":
                gain = np.sort(np.maximum(np.maximum(-c * lo, -c * hi), 0.0), axis=-1)
                most = int(min(self.radius, c.shape[-1]))
                value = c @ x - gain[..., c.shape[-1] - most :].sum(axis=-1)
            elif self.norm == "inf":
                value = c @ x + np.minimum(c * lo, c * hi).sum(axis=-1)
            elif self.norm == "1":
                m = self._price(np.abs(c), *self._reach(c, lo, hi))[..., None]
                near = np.clip(0.0, lo, hi)
                ends = np.minimum(c * lo + m * np.abs(lo), c * hi + m * np.abs(hi))
                paid = m[..., 0] * self.radius
                value = c @ x + np.minimum(ends, c * near + m * np.abs(near)).sum(axis=-1) - paid
                size = size + (m * reach).sum(axis=-1) + 2 * paid
            else:
                m, d = self._best(c, lo, hi)
                # In this order nothing that underflows is multiplied by more than |d| or the radius. That d is no more
                # than nearly the minimiser matters as the square of its rounding.
                paid = m[..., 0] * self.radius * self.radius
                value = c @ x + (c * d + m * d * d).sum(axis=-1) - paid
                size = size + (m * d * d).sum(axis=-1) + 2 * paid
            total = (np.abs(x) + reach).sum(axis=-1)
            lost = terms * UNIT * size * INFLATE + TINY * (1.0 + total + self.radius)
            if self.norm == "0":
                # No radius covers how far off `centre` is: by |x| u, which `terms` has room for, or by underflow.
                lost = lost + 2.0**-1074 * np.abs(c).sum(axis=-1)
            value = down(down(value) - up(lost))
            return np.where(np.isfinite(value), value, -np.inf)

    def _best(self, c: Array, lo: Array, hi: Array) -> tuple[Array, Array]:
        """Return m, with a last axis of one, and the minimisers d for "2"."""
        m = self._price(np.abs(c), *self._reach(c, lo, hi))[..., None]
        return m, np.where(m > 0, np.clip(-c / (2 * m), lo, hi), np.where(c > 0, lo, hi))

    @staticmethod
    def _reach(c: Array, lo: Array, hi: Array) -> tuple[Array, Array]:
        """Return how far inputs are from the centre at least, and at most where c . x falls."""
        near = np.maximum(np.maximum(lo, -hi), 0.0)
        return np.broadcast_to(near, c.shape), np.maximum(np.where(c > 0, -lo, hi), near)

    def _price(self, size: Array, near: Array, far: Array) -> Array:
        """Return what a unit of the radius ("1") or of its square ("2") is worth: the best m, to within rounding."""
        if self.norm == "1":
            order = np.argsort(-size, axis=-1)
            spent = np.cumsum(np.take_along_axis(far - near, order, axis=-1), axis=-1)
            enough = near.sum(axis=-1, keepdims=True) + spent >= self.radius
            last = np.take_along_axis(order, enough.argmax(axis=-1)[..., None], axis=-1)
            price = np.take_along_axis(size, last, axis=-1)[..., 0]
            return np.asarray(np.where(enough.any(axis=-1), price, 0.0))
        # Squares neither overflow nor vanish where the largest coefficient and the radius are the units.
        unit, reach = np.maximum(size.max(axis=-1, keepdims=True), 2.0**-1022), self.radius or 1.0
        size, near, far = size / unit, near / reach, far / reach
        # d^2 is t size^2 from t = (near / size)^2 on, up to (far / size)^2; m is 1 / (2 sqrt t) where that uses up R^2.
        square = np.maximum(size * size, 1e-300)
        t = np.concatenate([near * near / square, far * far / square], axis=-1)
        order = np.argsort(t, axis=-1)
        t = np.take_along_axis(t, order, axis=-1)
        slope, fixed = (
            np.take_along_axis(np.concatenate(parts, axis=-1), order, axis=-1)
            for parts in ((square, -square), (-near * near, far * far))
        )
        slope, fixed = (np.cumsum(a, axis=-1) - a for a in (slope, fixed))
        missing = float(self.radius > 0) - (near * near).sum(axis=-1, keepdims=True) - fixed
        enough = slope * t >= missing
        first = enough.argmax(axis=-1)[..., None]
        found, rest, rise = (np.take_along_axis(a, first, axis=-1)[..., 0] for a in (t, missing, slope))
        root = np.sqrt(np.maximum(np.where(rise > 0, rest / rise, found), 1e-300))
        return np.asarray(np.where(enough.any(axis=-1), 0.5 / root * (unit[..., 0] / reach), 0.0))

    def lowest(self, c: Array) -> Array:
        """Return the points where c . x is least, of one box or of the box of each row; advice.

        Parameters
        ----------
        c : (B, n) float64

        Returns
        -------
        (B, n) float64
        """
        with np.errstate(all="ignore"):
            lo, hi = self.outer.lower - self.centre, self.outer.upper - self.centre
            if self.norm == "2":
                return np.asarray(self.centre + np.nan_to_num(self._best(c, lo, hi)[1]))
            size, extent = np.abs(c), np.where(c > 0, -lo, hi)
            if self.norm == "inf":
                move = extent
            else:
                cost = extent if self.norm == "1" else np.ones_like(extent)
                order = np.argsort(-(size if self.norm == "1" else size * extent), axis=-1)
                ranked = np.take_along_axis(cost, order, axis=-1)
                left = self.radius - (np.cumsum(ranked, axis=-1) - ranked)
                share = np.empty_like(extent)
                np.put_along_axis(share, order, np.clip(left / np.maximum(ranked, 1e-300), 0.0, 1.0), axis=-1)
                move = share * extent if self.norm == "1" else np.floor(share) * extent
            return np.asarray(self.centre - np.sign(c) * np.nan_to_num(move))

    def nearest(self, c: Array, k: Array) -> Array:
        """Return the points of the box with c . x + k <= 0 that are nearest to the centre; advice.

        Parameters
        ----------
        c : (B, n) float64
        k : (B,) float64

        Returns
        -------
        (B, n) float64
            The centre where it is such a point; where there is none, the corner with the least value.
        """
        with np.errstate(all="ignore"):
            missing = np.maximum(c @ self.centre + k, 0.0)
            size, extent = np.abs(c), np.where(c > 0, self.centre - self.box.lower, self.box.upper - self.centre)
            gain = size * extent
            if self.norm in ("1", "0"):
                order = np.argsort(-(size if self.norm == "1" else gain), axis=-1)
                ranked = np.take_along_axis(gain, order, axis=-1)
                before = np.cumsum(ranked, axis=-1) - ranked
                part = np.clip((missing[:, None] - before) / np.maximum(ranked, 1e-300), 0.0, 1.0)
                share = np.empty_like(part)
                np.put_along_axis(share, order, part, axis=-1)
                move = share * extent
            elif self.norm == "inf":
                w = np.ones_like(extent) if self.weights is None else self.weights
                move = np.minimum(_level(extent / w, gain, size * w, missing)[:, None] * w, extent)
            else:
                s = _level(extent / np.maximum(size, 1e-300), gain, size**2, missing)
                move = np.where(np.isfinite(s)[:, None], np.minimum(s[:, None] * size, extent), extent)
            x = self.centre - np.sign(c) * np.nan_to_num(move)
            return np.asarray(np.clip(x, self.box.lower, self.box.upper))

    def distance(self, c: Array, k: Array) -> Array:
        """Bound the distance of {x in the ball : c . x + k <= 0} from the centre from below, rigorously.

        Parameters
        ----------
        c : (B, n) float64
        k : (B,) float64

        Returns
        -------
        (B,) float64
            Where no point of the ball is in the half-space, its radius: nothing is said of what lies outside.
        """
        found = self.lengths(self.nearest(c, k))
        known = np.zeros(len(c))
        with np.errstate(all="ignore"):
            for i in range(len(c)):
                if k[i] + self.least(c[i]) > 0:
                    known[i] = self.radius
                    continue
                guess = found[i] - 1 if self.norm == "0" else found[i] * (1.0 - 2.0**-30)
                if 0 < guess < self.radius and down(k[i] + self.within(float(guess)).least(c[i])) > 0:
                    known[i] = guess
        return known


def _level(ends: Array, full: Array, slope: Array, wanted: Array) -> Array:
    """Solve sum_i (full_i if ends_i <= s else slope_i s) = wanted for s, row by row; inf if there is none."""
    order = np.argsort(ends, axis=-1)
    e, f, w = (np.take_along_axis(np.broadcast_to(a, ends.shape), order, axis=-1) for a in (ends, full, slope))
    done = np.cumsum(f, axis=-1) - f  # of the entries before
    left = np.cumsum(w[..., ::-1], axis=-1)[..., ::-1]
    reached = done + left * e >= wanted[..., None]
    first = reached.argmax(axis=-1)[..., None]
    rest = (wanted[..., None] - np.take_along_axis(done, first, -1)) / np.take_along_axis(left, first, -1)
    s = np.maximum(rest, 0.0)[..., 0]
    return np.asarray(np.where(reached.any(axis=-1), s, np.inf))
