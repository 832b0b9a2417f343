"""The triangle relaxation in inputs and unstable neurons only: smaller by an order of magnitude, and advice.

Everything else is substituted, so that the rows are products of weights, rounded to nearest: unlike those of the
registered formulations they are not valid for the network to the last digit, and the program's own bound means
nothing. Its duals are multipliers of the one bound formula, which is all that is taken from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from optverify.formulations.program import Block, Cone, Program
from optverify.interval import Array, Interval, times
from optverify.network import Affine, Network
from optverify.preactivation import Bounds
from optverify.proof import NeuronSplit


class _Sides(NamedTuple):
    """What the bounds of a Relu's input say of its neurons, (n_k,) bool each.

    `active` and `inactive` are those that a bound of exactly 0, which a split leaves, holds on one side; `off` are all
    that are 0 on the region.
    """

    unstable: NDArray[np.bool_]
    active: NDArray[np.bool_]
    inactive: NDArray[np.bool_]
    off: NDArray[np.bool_]

    @classmethod
    def of(cls, mask: NDArray[np.bool_], z: Interval) -> _Sides:
        off = mask & (z.upper <= 0) & (z.lower < 0)
        active = mask & (z.lower == 0) & (z.upper > 0)
        return cls(mask & (z.lower < 0) & (z.upper > 0), active, off & (z.upper == 0), off)


@dataclass(frozen=True, eq=False)
class Reduced:
    """The program and what its numbers mean.

    Parameters
    ----------
    program : Program
        Minimises the largest of the rows over ``x``, the unstable neurons ``a[k]`` and, with several rows, ``tau``.
    network : Network
    rows : tuple of int
    sides : tuple, one per Relu
    slopes : tuple of (p_k,) float64
        Of the chords.
    entering : tuple of ((p_k, width) float64, (p_k,) float64)
        What enters the unstable neurons is the first times (x, a), plus the second.
    """

    program: Program
    network: Network
    rows: tuple[int, ...]
    sides: tuple[_Sides, ...]
    slopes: tuple[Array, ...]
    entering: tuple[tuple[Array, Array], ...]

    def multipliers(self, dual: Array | None, *, ray: bool = False) -> tuple[Array, tuple[Array, ...]] | None:
        """Read weights of the rows and multipliers g off a dual solution, or off a ray that says that no point is left.

        Parameters
        ----------
        dual : (m,) float64 or None

        Returns
        -------
        (rows,) float64 and one (n_k,) float64 per Relu, or None if there is no usable vector
            NaN stands for the CROWN rule. With y1, y2 the duals of the two rows of an unstable neuron,
            g = y1 - s y2; with y that of a split, g = v - y where z >= 0 and g = y where z <= 0, v being the
            coefficient that meets it.
        """
        blocks = self.program.rows
        if dual is None or dual.shape != (self.program.n_rows,):
            return None
        y = np.maximum(np.nan_to_num(dual, nan=0.0, posinf=0.0, neginf=0.0), 0.0)
        mu = np.zeros(len(self.rows)) if ray else y[blocks["largest"].indices] if "largest" in blocks else np.ones(1)
        v = np.zeros(self.network.n_outputs)
        v[list(self.rows)] = mu
        found: list[Array] = []
        relu = len(self.sides)
        with np.errstate(all="ignore"):
            for layer in reversed(self.network.layers):
                if isinstance(layer, Affine):
                    v = times(v[None], layer.weight.T)[0]
                    continue
                relu -= 1
                sides, g = self.sides[relu], np.full(v.size, np.nan)
                chord = self.slopes[relu] * y[blocks[f"chord[{relu}]"].indices]
                g[sides.unstable] = y[blocks[f"above[{relu}]"].indices] - chord
                g[sides.active] = v[sides.active] - y[blocks[f"active[{relu}]"].indices]
                g[sides.inactive] = y[blocks[f"inactive[{relu}]"].indices]
                found.append(g)
                v = np.where(np.isnan(g), np.where(sides.off, 0.0, v), g)
        return mu, tuple(reversed(found))

    def worst_neuron(self, primal: Array) -> NeuronSplit | None:
        """Return the unstable neuron where a - relu(z) is largest at a point, None if all agree."""
        best, split = 0.0, None
        for relu, (sides, (M, d)) in enumerate(zip(self.sides, self.entering, strict=True)):
            a = primal[self.program.variables[f"a[{relu}]"].indices]
            if a.size:
                excess = np.nan_to_num(a - np.maximum(M @ primal[: M.shape[1]] + d, 0.0))
                if excess.max() > best:
                    best = float(excess.max())
                    split = NeuronSplit(relu, int(np.flatnonzero(sides.unstable)[excess.argmax()]))
        return split


def reduced(network: Network, region: Interval, bounds: Bounds, rows: Sequence[int]) -> Reduced:
    """Build the program that minimises the largest of some outputs.

    Symbols
        z = M (x, a) + d : what enters an unstable neuron; l < 0 < u its bounds; s = u / (u - l).

    Equations, for each unstable neuron ``z - a <= 0`` and ``a - s z <= -s l``, 0 <= a <= u; ``-z <= 0`` for a neuron
    with l = 0 and ``z <= 0`` for one with u = 0; for several outputs ``t_i - tau <= 0``.

    Parameters
    ----------
    network : Network
    region : Interval, ends of shape (n_inputs,)
    bounds : Bounds, ends of shape (n_k,)
    rows : sequence of int
        Outputs.
    """
    n, counts = network.n_inputs, [int(u.sum()) for u in bounds.unstable(network)]
    width = n + sum(counts)
    column, relu = n, 0
    M, d = np.zeros((n, width)), np.zeros(n)
    M[:, :n] = np.eye(n)
    highest, variables = [region.upper], {"x": Block(0, n)}
    blocks: list[tuple[str, Array, Array]] = []
    found: list[_Sides] = []
    slopes: list[Array] = []
    entering: list[tuple[Array, Array]] = []
    with np.errstate(all="ignore"):
        for layer in network.layers:
            if isinstance(layer, Affine):
                before = M[:, :column].T
                M = np.zeros((layer.shape[0], width))
                M[:, :column] = times(before, layer.weight).T
                d = times(d[None], layer.weight)[0] + layer.bias
                continue
            z = bounds.layers[relu]
            sides = _Sides.of(layer.mask, z)
            low, high, Z, e = z.lower[sides.unstable], z.upper[sides.unstable], M[sides.unstable], d[sides.unstable]
            s = high / (high - low)
            a = np.zeros_like(Z)
            a[np.arange(s.size), np.arange(column, column + s.size)] = 1.0
            blocks += [(f"above[{relu}]", Z - a, -e), (f"chord[{relu}]", a - s[:, None] * Z, s * (e - low))]
            blocks += [(f"active[{relu}]", -M[sides.active], d[sides.active])]
            blocks += [(f"inactive[{relu}]", M[sides.inactive], -d[sides.inactive])]
            M, d = np.where((sides.unstable | sides.off)[:, None], 0.0, M), np.where(sides.unstable | sides.off, 0.0, d)
            M[sides.unstable] = a
            variables[f"a[{relu}]"] = Block(column, column + s.size)
            highest.append(high)
            found.append(sides)
            slopes.append(s)
            entering.append((Z, e))
            column, relu = column + s.size, relu + 1
    program = _assemble(region.lower, np.concatenate(highest), blocks, M[list(rows)], d[list(rows)], variables)
    return Reduced(program, network, tuple(rows), tuple(found), tuple(slopes), tuple(entering))


def _assemble(
    lowest: Array, upper: Array, blocks: list[tuple[str, Array, Array]], T: Array, t: Array, variables: dict[str, Block]
) -> Program:
    """Put the blocks of rows on top of each other; rows with numbers that overflowed come to say nothing."""
    width = T.shape[1]
    lower = np.concatenate([lowest, np.zeros(width - lowest.size)])
    cost, c0 = T[0], float(t[0])
    if len(t) > 1:
        blocks = [(name, np.hstack([A, np.zeros((len(A), 1))]), b) for name, A, b in blocks]
        blocks.append(("largest", np.hstack([T, -np.ones((len(T), 1))]), -t))
        cost, c0 = np.eye(1, width + 1, width)[0], 0.0
        lower, upper = np.append(lower, -np.inf), np.append(upper, np.inf)
        variables = {**variables, "tau": Block(width, width + 1)}
    A = np.vstack([np.zeros((0, cost.size)), *(A for _, A, _ in blocks)])
    b = np.concatenate([np.zeros(0), *(b for _, _, b in blocks)])
    bad = ~(np.isfinite(A).all(axis=1) & np.isfinite(b))
    A[bad], b[bad] = 0.0, 0.0
    names, position = {}, 0
    for name, rows, _ in blocks:
        names[name] = Block(position, position + len(rows), Cone.NONNEG)
        position += len(rows)
    if not (np.isfinite(cost).all() and np.isfinite(c0)):
        cost, c0 = np.zeros(cost.size), 0.0
    return Program(cost, A, b, names, lower, upper, c0, variables=variables, name="triangle, reduced")
