"""Any multipliers of a lifted relaxation in, a rigorous lower bound on the objective out.

On every trace of the network (see :mod:`optverify.formulations.lifted`), for any y with y_j >= 0 on inequalities,

    objective(z)  >=  objective(z) - sum_j y_j (p_j q_j + sum_k d_jk (1 - z_k^2)) - sum_j |y_j| e_j
                  >=  m + g.z + z'H z - lost

where m, g and H are computed in floating point and `lost` bounds what that has lost for |z| <= 1. From here on H is
given. Multipliers delta >= 0 of the box, 1 - z_k^2 >= 0, move weight from m to the diagonal: with H_delta = H +
diag(delta) *proved* positive definite the quadratic is convex, and is bounded by its tangent at any point z~, minimised
over the box:

    objective(z)  >=  m - sum delta - z~'H_delta z~ - |g + 2 H_delta z~|_1 - lost.

With H = 0 this is the bound of a linear program. ``docs/sdp.md`` has the argument, step by step.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import fsum, inf, nextafter

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from optverify.formulations.lifted import Lifted
from optverify.interval import INFLATE, TINY, Array, dot_error, up
from optverify.safe.psd import proved_positive_definite

LEAST = 2.0**-800
"""Least shift: no smaller diagonal is proved positive."""

SHIFTS = 8
"""How often a shift is enlarged before giving up."""


@dataclass(frozen=True, eq=False)
class Proved:
    """A rigorous bound and what proves it.

    Parameters
    ----------
    lower : float
        -inf where nothing is proved.
    products : (m,) float64
        y: not negative on inequalities.
    box : (N,) float64
        delta, shift included.
    point : (N,) float64
        z~.
    """

    lower: float
    products: Array
    box: Array
    point: Array


@dataclass(frozen=True, eq=False)
class Quadratic:
    """m + g.z + z'H z with what it may be above the Lagrangian for |z| <= 1.

    Parameters
    ----------
    m : float
    g : (N,) float64
    H : (N, N) float64, symmetric
    lost : float
    """

    m: float
    g: Array
    H: Array
    lost: float


def safe_bound(lifted: Lifted, products: Array | None, box: Array | None = None, point: Array | None = None) -> Proved:
    """Return a proved lower bound on the objective of a lifted relaxation.

    Parameters
    ----------
    lifted : Lifted
    products : (m,) float64 or None
        Advice: y. NaN, infinities and wrong signs count as 0, as does a vector of another size or None.
    box : (N,) float64 or None
        Advice: delta, likewise. It is enlarged where the quadratic is not convex.
    point : (N,) float64 or None
        Advice: z~, in or near the box; Newton's method looks for a better one.
    """
    y = _usable(products, lifted.n_products)
    y = np.where(lifted.equality, y, np.maximum(y, 0.0))
    delta = np.maximum(_usable(box, lifted.n_variables), 0.0)
    z = _usable(point, lifted.n_variables)
    with np.errstate(all="ignore"):
        form = lagrangian(lifted, y)
        if not (np.isfinite(form.H).all() and np.isfinite(form.g).all() and np.isfinite(form.m + form.lost)):
            return Proved(-inf, y, delta, z)
        H, delta = _convex(form.H, delta)
        if H is None:
            return Proved(-inf, y, delta, z)
        # Any point will do: the one that was proposed, and the best of the box. Which is better depends on rounding.
        tried = [(tangent(form, H, delta, at), at) for at in (z, least(H, form.g, z))]
        lower, z = max(tried, key=lambda pair: pair[0])
        return Proved(lower, y, delta, z)


def convex_bound(lifted: Lifted, products: Array, box: Array) -> float:
    """Return a proved lower bound on the objective by given multipliers, of which none is improved.

    The quadratic is bounded at its least point without regard to the box, as the exact checker does, so that both come
    to the same number but for rounding.

    Parameters
    ----------
    lifted : Lifted
    products : (m,) float64
        y, likewise.
    box : (N,) float64
        delta, likewise.

    Returns
    -------
    float
        -inf where the quadratic is not proved convex.
    """
    y = _usable(products, lifted.n_products)
    y, delta = np.where(lifted.equality, y, np.maximum(y, 0.0)), np.maximum(_usable(box, lifted.n_variables), 0.0)
    with np.errstate(all="ignore"):
        form = lagrangian(lifted, y)
        H = form.H + np.diag(delta)
        if not (np.isfinite(H).all() and np.isfinite(form.g).all() and np.isfinite(form.m + form.lost)):
            return -inf
        curved = H.any(axis=0)
        part = H[np.ix_(curved, curved)]
        if not proved_positive_definite(part):
            return -inf
        z = np.zeros(len(H))
        z[curved] = np.linalg.solve(part, -0.5 * form.g[curved])
        added = np.maximum(up(H.diagonal() - form.H.diagonal()), 0.0)
        return tangent(form, H, added, z)


def _usable(values: Array | None, size: int) -> Array:
    """Return a vector of the right size without NaN and infinities."""
    if values is None or np.shape(values) != (size,):
        return np.zeros(size)
    return np.nan_to_num(np.asarray(values, np.float64), nan=0.0, posinf=0.0, neginf=0.0)


def lagrangian(lifted: Lifted, y: Array) -> Quadratic:
    """Form objective - sum_j y_j (p_j q_j + radial_j) with a bound on what rounding has lost, and the e_j.

    Each entry of the matrix is a sum of at most `terms` products of floats, in some nesting; so it is off by at most
    dot_error(terms) times the same sum of absolute values, and for |w| <= 1 the sum of all these is at most
    sum_j |y_j| |p_j|_1 |q_j|_1, |.|_1 the sum of a form's absolute coefficients (by the triangle inequality).
    """
    n, h = 1 + lifted.n_variables, 1 + lifted.hidden
    left, right = lifted.left, lifted.right
    W = ((left * y) @ right.T).toarray()
    W = W[:, :n] + W[:, n:] @ lifted.forms.T
    # W is the upper part of the matrix; below stands nothing.
    curvature = np.zeros((n, n))
    curvature[:h] = W
    curvature = 0.5 * (curvature + curvature.T)
    radial = lifted.radial @ y
    m = lifted.cost[0] - (curvature[0, 0] + radial.sum())
    g = lifted.cost[1:] - 2.0 * curvature[0, 1:]
    H = -curvature[1:, 1:]
    H[np.diag_indices(n - 1)] += radial

    size = np.abs(lifted.forms).sum(axis=0)
    per_left = np.asarray(abs(left).sum(axis=0)).ravel()
    per_right = abs(right).T @ np.concatenate([np.ones(n), size])
    weights = np.asarray(abs(lifted.radial).sum(axis=0)).ravel()
    total = np.abs(y) @ (per_left * per_right + 2.0 * weights) + np.abs(lifted.cost).sum()
    longest = int(np.diff(left.tocsr().indptr).max(initial=0)) + lifted.forms.shape[1] + n
    lost = dot_error(longest + 16) * total + np.abs(y) @ lifted.error + lifted.cost_error
    underflow = TINY * (n + size.size + y.size) ** 2 * (1.0 + size.max(initial=1.0))
    return Quadratic(float(m), g, H, float(up(lost * INFLATE + underflow)))


def _convex(H: Array, delta: Array) -> tuple[Array | None, Array]:
    """Add delta to the diagonal, and more where that is needed; return a proved positive definite matrix."""
    index = np.diag_indices(len(H))
    more = np.zeros(len(H))
    for attempt in range(SHIFTS):
        shifted = H.copy()
        shifted[index] += delta + more
        if proved_positive_definite(shifted):
            # What was really added, rounded up.
            return shifted, np.maximum(up(shifted[index] - H[index]), 0.0)
        more = 4.0 * more if attempt else _shift(H, delta)
    return None, delta


def _shift(H: Array, delta: Array) -> Array:
    """Return what makes a symmetric matrix diagonally dominate its negative part, and a little more."""
    matrix = H + np.diag(delta)
    if not np.isfinite(matrix).all():
        return np.full(len(H), inf)
    value, vectors = np.linalg.eigh(matrix)
    negative = vectors[:, value < 0]
    part = (negative * -value[value < 0]) @ negative.T
    floor = 2.0 * dot_error(len(H)) * np.abs(value).sum() + LEAST
    return np.asarray(np.abs(part).sum(axis=1) * (1.0 + 1e-12) + floor)


def least(H: Array, g: Array, start: Array, steps: int = 50) -> Array:
    """Minimise g.z + z'H z over [-1, 1]^N approximately, by projected Newton steps on the free coordinates.

    Such a step, cut off at the box, may lead upward, or hardly downward. Then as much of it is made as the box allows.
    """
    z = np.clip(start, -1.0, 1.0)
    value = float(g @ z + z @ (H @ z))
    tolerance = 1e-13 * (1.0 + np.abs(g).max(initial=0.0))
    for _ in range(steps):
        G = g + 2.0 * (H @ z)
        free = ~(((z <= -1.0) & (G > 0)) | ((z >= 1.0) & (G < 0)))
        if np.abs(G[free]).max(initial=0.0) <= tolerance:
            break
        move = _newton(H, G, free)
        if move is None:
            break
        length, hoped = 1.0, -0.5 * float(G @ move)
        found = inf
        while length > 1e-3 and not value - found > 0.01 * length * hoped:
            new = np.clip(z + length * move, -1.0, 1.0)
            found = float(g @ new + new @ (H @ new))
            length *= 0.5
        if not value - found > 0.01 * length * hoped:
            new = _as_far_as_possible(H, G, free, z)
            found = float(g @ new + new @ (H @ new))
            if not found < value:
                break
        z, value = new, found
    return z


def _newton(H: Array, G: Array, free: NDArray[np.bool_]) -> Array | None:
    """Return the step to the least point when only some coordinates move; None if there is none."""
    move = np.zeros_like(G)
    try:
        factor = cho_factor(2.0 * H[np.ix_(free, free)], lower=True, check_finite=False)
    except np.linalg.LinAlgError:
        return None
    move[free] = -cho_solve(factor, G[free], check_finite=False)
    return move


def _as_far_as_possible(H: Array, G: Array, free: NDArray[np.bool_], z: Array) -> Array:
    """Go towards the least point of the free coordinates until one reaches its end; those that are there stay."""
    free = free.copy()
    while free.any():
        move = _newton(H, G, free)
        if move is None:
            break
        blocked = free & (((z >= 1.0) & (move > 0)) | ((z <= -1.0) & (move < 0)))
        if not blocked.any():
            room = np.where(move > 0, 1.0 - z, 1.0 + z) / np.where(move == 0, 1.0, np.abs(move))
            length = min(1.0, room[free & (move != 0)].min(initial=1.0))
            return np.clip(np.where(free & (room <= length), np.sign(move), z + length * move), -1.0, 1.0)
        free &= ~blocked
    return z


def tangent(form: Quadratic, H: Array, delta: Array, z: Array) -> float:
    """Return m - sum delta - z'H z - |g + 2 H z|_1 - lost, rounded down, for a positive semidefinite H.

    H = form.H + diag(delta).

    The computed H z is off by at most e = dot_error(N) |H| |z|, hence z'(H z) by |z|.e, and the gradient by 2 e, beside
    their own rounding.
    """
    n = z.size
    Hz = H @ z
    e = (dot_error(n) * (np.abs(H) @ np.abs(z)) + TINY * n * (1.0 + np.abs(z).sum())) * INFLATE
    gradient = form.g + 2.0 * Hz
    slope = up(up(np.abs(gradient)) + 2.0 * e * INFLATE)
    square = up(up(z * Hz) + np.abs(z) * e * INFLATE)
    parts = np.concatenate([[form.m, -form.lost], -slope, -delta, -up(square + TINY)])
    if not np.isfinite(parts).all():
        return -inf
    try:
        return nextafter(fsum(parts.tolist()) - TINY, -inf)
    except OverflowError:
        return -inf
