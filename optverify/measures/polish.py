"""Moving a counterexample to the nearest one on its linear piece of the network, and on to the pieces next to it.

A guess, as all that finds points is; the caller replays what comes out.
"""

from __future__ import annotations

import time
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optverify import solvers
from optverify.formulations.program import Block, Cone, Program
from optverify.interval import Array, times
from optverify.measures.nearest import reached, shortened
from optverify.network import Affine, Network
from optverify.norms import Cut
from optverify.query import Goal
from optverify.search.attack import forward, group_values
from optverify.solvers import CONIC, LINEAR

PIECES = 12
"""Most programs that one point is worth."""

SECONDS = 10.0
"""That a program may take."""

VIOLATED = 1e-9
"""Rows that are violated by less, relative to their right-hand side, are left out of a program."""

LEAST_SCALE = 2.0**-500
"""Balls of order 2 with a smaller radius, in units of the centre or of 1, are enlarged in programs."""

Signs = list[NDArray[np.bool_]]


def polished(goal: Goal, ball: Cut, point: Array, deadline: float = inf) -> Array:
    """Return a counterexample that is not further from the centre than a given one.

    Parameters
    ----------
    goal : Goal
        The point reaches a group.
    ball : Cut
        Its norm (for "0" the point comes back), centre and box count.
    point : (n,) float64
    deadline : float, seconds of ``time.monotonic``
        What is found by then comes back.
    """
    if ball.norm == "0":
        return point
    with np.errstate(all="ignore"):
        return _polished(goal, ball, point, deadline)


def _polished(goal: Goal, ball: Cut, point: Array, deadline: float) -> Array:
    passed = forward(goal.network, point[None])
    rows = goal.groups[int(group_values(goal, passed[-1][0]).argmin())]
    best, known = point, float(ball.lengths(point))
    pressed = np.zeros(sum(int(mask.sum()) for mask in goal.network.masks), bool)
    todo = [[passed[k][0] > 0 for k in goal.network.relus]]
    seen: set[bytes] = set()
    while todo and len(seen) < PIECES and (left := deadline - time.monotonic()) > 0:
        signs = todo.pop()
        key = b"".join(np.packbits(s).tobytes() for s in signs)
        if key in seen:
            continue
        seen.add(key)
        found = _on_piece(goal.network, ball, rows, signs, known, pressed, min(left, SECONDS))
        if found is None:
            continue
        x, pressing = found
        size = float(ball.lengths(x))
        if not size < known * (1 - 1e-9):
            continue
        # Where the program stops at a neuron's 0, the next piece begins.
        todo += [_flipped(signs, k, j) for k, j in reversed(pressing[:PIECES])]
        if not reached(goal, x):  # by rounding: a little further out it is one
            x = ball.centre + (1 + 1e-9) * (x - ball.centre)
        if reached(goal, x):
            best, known = x, size
    return np.asarray(shortened(goal, ball, best[None])[0])


def _flipped(signs: Signs, relu: int, index: int) -> Signs:
    changed = [s.copy() for s in signs]
    changed[relu][index] ^= True
    return changed


def _on_piece(
    network: Network,
    ball: Cut,
    group: tuple[int, ...],
    signs: Signs,
    known: float,
    pressed: NDArray[np.bool_],
    seconds: float,
) -> tuple[Array, list[tuple[int, int]]] | None:
    """Return the nearest point of a linear piece that reaches a group, None if none is within the known distance.

    With it come the neurons that keep it from coming nearer, those that press most first. Few of the rows of a piece
    ever do: they are added as they are violated, and `pressed` learns them for the next piece.
    """
    A, b, where, forms, constants = _piece(network, signs, group)
    rows = np.vstack([A, forms])
    right = np.concatenate([b, -constants]) - rows @ ball.centre
    if not (np.isfinite(rows).all() and np.isfinite(right).all() and np.isfinite(known) and known > 0):
        return None
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        kept = np.append(np.flatnonzero(pressed), np.arange(len(b), len(right)))
        program = _nearest(ball, rows[kept], right[kept], known)
        solution = solvers.get(CONIC if ball.norm == "2" else LINEAR).solve(program, time_limit=left)
        if solution.primal is None or solution.dual is None:
            return None
        d = solution.primal[: ball.centre.size]
        violated = ~pressed & (A @ d > right[: len(b)] + VIOLATED * (np.abs(right[: len(b)]) + known))
        if not violated.any():
            x = np.clip(ball.centre + d, ball.box.lower, ball.box.upper)
            pressure = np.abs(solution.dual[: len(kept) - len(group)])
            order = np.argsort(-pressure)
            return x, [where[kept[i]] for i in order.tolist() if pressure[i] > 1e-9]
        pressed |= violated
    return None


def _nearest(ball: Cut, rows: Array, right: Array, known: float) -> Program:
    """Minimise the length of d = x - centre subject to rows . d <= right."""
    from scipy.sparse import block_array, csr_array, eye_array

    n = ball.centre.size
    # |d_i| <= t, |d_i| <= s_i or (d_i / known)^2 <= s_i.
    low, high = ball.box.lower - ball.centre, ball.box.upper - ball.centre
    weights = np.ones(n) if ball.weights is None else ball.weights
    low, high = np.maximum(low, -known * weights), np.minimum(high, known * weights)
    more, matrix, blocks = (1 if ball.norm == "inf" else n), None, {}  # type: int, Any, dict[str, Block]
    if ball.norm == "2":
        squares, cones, blocks = squared(np.zeros(n), known, n, len(rows))
        matrix, right = block_array([[csr_array(rows), None], [squares[0], squares[1]]]), np.concatenate([right, cones])
    else:
        one: Any = weights[:, None] if ball.norm == "inf" else eye_array(n)
        matrix = block_array([[csr_array(rows), None], [eye_array(n), -one], [-eye_array(n), -one]])
        blocks = {"size": Block(len(rows), len(rows) + 2 * n, Cone.NONNEG)}
        right = np.concatenate([right, np.zeros(2 * n)])
    return Program(
        np.concatenate([np.zeros(n), np.ones(more)]),
        csr_array(matrix),
        right,
        {"piece": Block(0, len(rows), Cone.NONNEG), **blocks},
        np.concatenate([low, np.zeros(more)]),
        np.concatenate([high, np.full(more, 1.0 if ball.norm == "2" else known)]),
        name="nearest point of a piece",
    )


def _piece(
    network: Network, signs: Signs, group: tuple[int, ...]
) -> tuple[Array, Array, list[tuple[int, int]], Array, Array]:
    """Return A, b with A x <= b on the piece, whose neuron each row is, and the group's rows as linear forms."""
    n = network.n_inputs
    M, d = np.eye(n), np.zeros(n)
    A, b, where, relu = [np.zeros((0, n))], [np.zeros(0)], [], 0
    for layer in network.layers:
        if isinstance(layer, Affine):
            M, d = times(M.T, layer.weight).T, times(d[None], layer.weight)[0] + layer.bias
            continue
        index = np.flatnonzero(layer.mask)
        sign = np.where(signs[relu][index], -1.0, 1.0)
        A.append(sign[:, None] * M[index])
        b.append(-sign * d[index])
        where += [(relu, int(j)) for j in index]
        keep = ~layer.mask | signs[relu]
        M, d, relu = np.where(keep[:, None], M, 0.0), np.where(keep, d, 0.0), relu + 1
    return np.vstack(A), np.concatenate(b), where, M[list(group)], d[list(group)]


def squared(centre: Array, scale: float, width: int, start: int) -> tuple[tuple[Any, Any], Array, dict[str, Block]]:
    """Return rows for ((x_i - centre_i) / scale)^2 <= s_i: a second-order cone taken apart into cones of order 2.

    Parameters
    ----------
    centre : (n,) float64
    scale : float
        Where it is so small that numbers would overflow, a larger one is taken.
    width : int
        Of the columns before s, the first of which are x.
    start : int
        Number of the first row.

    Returns
    -------
    (3 n, width) and (3 n, n) csr_array
        On the columns before, and on s.
    (3 n,) float64
        The right-hand side.
    dict
        The blocks: the lower triangle of [[1, d_i], [d_i, s_i]] by columns, off-diagonals times sqrt 2.
    """
    from scipy.sparse import csr_array

    n = centre.size
    scale = max(scale, LEAST_SCALE, LEAST_SCALE * float(np.abs(centre).max(initial=0.0)))
    place, turn = 3 * np.arange(n), -np.sqrt(2.0) / scale
    on_x = csr_array((np.full(n, turn), (place + 1, np.arange(n))), shape=(3 * n, width))
    on_s = csr_array((-np.ones(n), (place + 2, np.arange(n))), shape=(3 * n, n))
    right = np.zeros(3 * n)
    right[place], right[place + 1] = 1.0, turn * centre
    blocks = {f"square[{i}]": Block(start + 3 * i, start + 3 * i + 3, Cone.PSD) for i in range(n)}
    return (on_x, on_s), right, blocks
