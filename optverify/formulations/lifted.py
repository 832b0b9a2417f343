"""The lifted relaxation: products of affine forms, from which semidefinite programs and their bounds are made.

Variables z in [-1, 1]^N stand for what is not determined by something else: the inputs, x = centre + radius z, and
what leaves the unstable neurons, a = radius (1 + z) with radius = u / 2. Inactive neurons are 0, active ones and
passed-through coordinates are substituted. With w = (1, z) every condition is a product of two affine forms of w,

    p_j(w) q_j(w) + sum_k d_jk (1 - z_k^2)  >=  -e_j      (or: of absolute value <= e_j, for an equation),

beside the box itself, 1 - z_k^2 >= 0. Replacing w w' by a positive semidefinite X with X_00 = 1 gives the relaxation.

The numbers e_j are what makes floats honest. A pre-activation is a form f(w) whose coefficients were computed in
floating point; its true value on a trace of the network differs from f by at most rho, for which
:class:`_Forms` keeps a bound. The forms are then *given* exactly, and e_j is what rho can do to product j.
``docs/sdp.md`` has the argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array

from optverify.errors import InputError, ShapeError
from optverify.formulations.encoder import Objective, Weighted
from optverify.formulations.program import Block
from optverify.formulations.triangle import chord
from optverify.interval import INFLATE, TINY, Array, Interval, dot_error, up
from optverify.network import Affine, Network, frozen
from optverify.preactivation import Bounds, layer_inputs

Index = NDArray[np.intp]

NEGLIGIBLE = 1e-12
"""A neuron of which one side is smaller than this times the other counts as stable..."""

VANISHING = 2.0**-500
"""... and so does one with a side smaller than this..."""

NOISE = 1e3
"""... or than so many times what its form may be off. What that makes the forms of later layers off is bounded too."""


@dataclass(frozen=True, eq=False)
class Ball:
    """The points within a Euclidean distance of a centre.

    Parameters
    ----------
    centre : (n_inputs,) float64
    radius : float
    """

    centre: Array
    radius: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "centre", frozen(self.centre, np.float64, "centre", (np.size(self.centre),)))
        if not (np.isfinite(self.centre).all() and 0 <= self.radius < np.inf):
            raise InputError("a ball needs a finite centre and a finite radius that is not negative")


@dataclass(frozen=True, eq=False)
class Lifted:
    """Products of affine forms that hold on every trace of a network, and an objective.

    The basis of all forms is U(w) = (w, forms' w), w = (1, hidden variables, inputs).

    Parameters
    ----------
    hidden : int
        Variables that are not inputs come first: H of them.
    centre, radius : (N,) float64
        The quantity behind a variable is centre + radius z.
    variables : mapping from name to Block
        ``tau``, ``a[k]``, ``x``: runs of variables.
    neurons : mapping from name to (p,) int
        For ``a[k]`` and ``x``, and for the rows ``active[k]`` and ``inactive[k]``, which coordinates.
    forms : (1 + N, K) float64
        Columns are affine forms of w: pre-activations, divided by powers of two.
    left : (1 + H, m) csc_array
        Factors p_j: forms of 1 and hidden variables only.
    right : (1 + N + K, m) csc_array
        Factors q_j over the basis.
    radial : (N, m) csc_array
        The d_jk >= 0; zero but for balls.
    equality : (m,) bool
    error : (m,) float64
        The e_j >= 0.
    rows : mapping from name to Block
        Runs of products.
    cost : (1 + N,) float64
        The objective is cost . w, but for
    cost_error : float
    """

    hidden: int
    centre: Array
    radius: Array
    variables: Mapping[str, Block]
    neurons: Mapping[str, Index]
    forms: Array
    left: Any
    right: Any
    radial: Any
    equality: NDArray[np.bool_]
    error: Array
    rows: Mapping[str, Block]
    cost: Array
    cost_error: float

    @property
    def n_variables(self) -> int:
        """N."""
        return self.radius.size

    @property
    def n_products(self) -> int:
        """m: products beside the box."""
        return self.error.size

    def with_products(self, name: str, left: Any, right: Any, error: Array) -> Lifted:
        """Return the same with further inequalities.

        Parameters
        ----------
        name : str
        left, right : (1 + H, r), (1 + N + K, r) csc_array
        error : (r,) float64
        """
        size = self.n_products
        return replace(
            self,
            left=_columns(self.left, left),
            right=_columns(self.right, right),
            radial=_columns(self.radial, csc_array((self.n_variables, error.size))),
            equality=np.concatenate([self.equality, np.zeros(error.size, bool)]),
            error=np.concatenate([self.error, error]),
            rows={**self.rows, name: Block(size, size + error.size)},
        )

    def __repr__(self) -> str:
        return (
            f"<Lifted: {self.hidden} hidden variables, {self.n_variables - self.hidden} inputs, "
            f"{self.n_products} products>"
        )


def _columns(first: Any, second: Any) -> Any:
    """Put the columns of two sparse matrices side by side."""
    return csc_array(
        (
            np.concatenate([first.data, second.data]),
            np.concatenate([first.indices, second.indices]),
            np.concatenate([first.indptr, first.indptr[-1] + second.indptr[1:]]),
        ),
        shape=(first.shape[0], first.shape[1] + second.shape[1]),
    )


def lifted(
    network: Network, region: Interval, bounds: Bounds, objective: Objective, ball: Ball | None = None
) -> Lifted:
    """Build the lifted relaxation.

    Symbols
        y : what enters an unstable neuron, a : what leaves it, l < 0 < u its bounds; s a power of two near u - l.

    Products, for each unstable neuron::

        (a - y) / s >= 0,    a (a - y) = 0,    (chord(y) - a) / s >= 0,    u a - a^2 >= 0  (the box)

    a >= 0 follows from the box. A neuron that a split fixes, l = 0 or u = 0, has y >= 0 or y <= 0. With
    :class:`~optverify.formulations.encoder.Largest`, a variable tau between the bounds of the largest output has
    tau - t_i >= 0. A ball has rho^2 - |x - centre|^2 >= 0.

    Kind
        Relaxation, at least as tight as the triangle's; exact for few neurons only.

    Size
        n inputs that matter and p unstable neurons: a matrix of order 1 + n + p, n + 4 p conditions.

    Parameters
    ----------
    network : Network
    region : Interval, ends of shape (n_inputs,)
        Contains the region, for instance ``Box.outward``.
    bounds : Bounds, ends of shape (n_k,)
        Proved on the region.
    objective : Weighted or Largest
    ball : Ball, optional
        The region is its intersection with the box.

    Raises
    ------
    ShapeError
        Sizes disagree.
    InputError
        Some interval is empty, or numbers overflow: no finite relaxation.

    References
    ----------
    Raghunathan, Steinhardt, Liang, "Semidefinite relaxations for certifying robustness to adversarial examples",
    NeurIPS 2018, eq. 4 to 8; the chord: Batten, Kouvaros, Lomuscio, Zheng, IJCAI 2021, eq. 13.
    """
    if region.shape != (network.n_inputs,):
        raise ShapeError(f"the region has shape {region.shape}, expected ({network.n_inputs},)")
    if len(bounds.layers) != len(network.relus):
        raise ShapeError(f"bounds for {len(bounds.layers)} Relu layers, the network has {len(network.relus)}")
    if region.empty.any() or bounds.empty.any():
        raise InputError("the region or the bounds are empty: no point is left, there is nothing to solve")
    if ball is not None and ball.centre.shape != region.shape:
        raise ShapeError(f"the ball has {ball.centre.size} coordinates, the network {network.n_inputs} inputs")
    with np.errstate(all="ignore"):
        found = _Builder(network, region, bounds, objective).build(ball)
    parts = (found.forms, found.left.data, found.right.data, found.error, found.cost, found.radius, found.centre)
    if not all(np.isfinite(part).all() for part in parts) or not np.isfinite(found.cost_error):
        raise InputError("the lifted relaxation needs finite bounds: numbers overflow")
    return found


@dataclass(frozen=True, eq=False)
class _Forms:
    """Values of a layer as affine forms of w, with what they may be off on a trace.

    Parameters
    ----------
    rows : (width, 1 + N) float64
    error : (width,) float64
    """

    rows: Array
    error: Array

    @property
    def size(self) -> Array:
        """Bounds on the absolute value: |z| <= 1."""
        return np.asarray((np.abs(self.rows).sum(axis=1) + self.error) * INFLATE)

    def affine(self, layer: Affine) -> _Forms:
        """Go through an affine layer.

        With |a - E w| <= e: |W'a + b' - fl(W E) w| <= |W| e + slack (|W| |a| + |b|) + absolute + (what fl has lost),
        and the last is at most dot_error(n + 1) |W| |E| summed over the columns, because |w| <= 1.
        """
        rows = np.asarray(layer.weight @ self.rows)
        rows[:, 0] += layer.bias
        reach = np.asarray(layer.size @ self.size) + np.abs(layer.bias)
        lost = (dot_error(layer.shape[1] + 1) + layer.slack) * reach * INFLATE + layer.absolute
        underflow = TINY * layer.shape[1] * self.rows.shape[1]
        return _Forms(rows, (np.asarray(layer.size @ self.error) + lost) * INFLATE + underflow)


class _Builder:
    """Walks through the network and collects variables, forms and products."""

    def __init__(self, network: Network, region: Interval, bounds: Bounds, objective: Objective) -> None:
        self.network, self.bounds = network, bounds
        self.values = layer_inputs(network, region, bounds)
        self.objective = _single(objective, network.n_outputs)
        # All that could need a variable; those that turn out to need none are dropped in the end.
        unstable = [np.flatnonzero(mask) for mask in bounds.unstable(network)]
        inputs = np.flatnonzero(region.lower < region.upper)
        runs = {} if isinstance(self.objective, Weighted) else {"tau": np.zeros(1, np.intp)}
        runs |= {f"a[{k}]": neurons for k, neurons in enumerate(unstable)} | {"x": inputs}
        ends = np.cumsum([0, *(run.size for run in runs.values())]).tolist()
        self.neurons = runs
        self.variables = {name: Block(a, b) for name, a, b in zip(runs, ends[:-1], ends[1:], strict=True)}
        self.size, self.hidden = ends[-1], ends[-2]
        self.centre, self.radius = np.zeros(self.size), np.zeros(self.size)
        self.forms: list[Array] = []
        self.n_forms = 0
        self.left = _Columns()
        self.right = _Columns()
        self.radial = _Columns()
        self.equality: list[NDArray[np.bool_]] = []
        self.error: list[Array] = []
        self.rows: dict[str, Block] = {}
        self.fixed: dict[str, Index] = {}
        self.current = self._inputs(region, inputs)

    def build(self, ball: Ball | None) -> Lifted:
        """Return what the network gives."""
        x = self.current
        relu = 0
        for position, layer in enumerate(self.network.layers):
            if isinstance(layer, Affine):
                self.current = self.current.affine(layer)
            else:
                self.current = self._relu(relu, layer.mask, self.values[position])
                relu += 1
        cost, cost_error = self._cost()
        if ball is not None:
            self._ball(ball, x)
        return self._assembled(cost, cost_error)

    def _assembled(self, cost: Array, cost_error: float) -> Lifted:
        """Put it together without the variables that occur nowhere."""
        n = 1 + self.size
        forms = np.concatenate([np.zeros((0, n)), *self.forms]).T
        left, right = self.left.matrix(n), self.right.matrix(n + self.n_forms)
        radial = self.radial.matrix(n)
        used = forms.any(axis=1) | (cost != 0)
        for part in (left, right, radial):
            used[part.indices[part.indices < n]] = True
        used[0] = True
        kept = np.flatnonzero(used[1:])
        ends = np.cumsum([0, *(used[1:][block.indices].sum() for block in self.variables.values())]).tolist()
        hidden = int(used[1 : 1 + self.hidden].sum())
        return Lifted(
            hidden=hidden,
            centre=self.centre[kept],
            radius=self.radius[kept],
            variables={name: Block(a, b) for name, a, b in zip(self.variables, ends[:-1], ends[1:], strict=True)},
            neurons={name: run[used[1:][self.variables[name].indices]] for name, run in self.neurons.items()}
            | self.fixed,
            forms=forms[used],
            left=csc_array(left[used][: 1 + hidden]),
            right=csc_array(right[np.concatenate([used, np.ones(self.n_forms, bool)])]),
            radial=csc_array(radial[used][1:]),
            equality=np.concatenate([np.zeros(0, bool), *self.equality]),
            error=np.concatenate([np.zeros(0), *self.error]),
            rows=self.rows,
            cost=cost[used],
            cost_error=cost_error,
        )

    def _inputs(self, region: Interval, inputs: Index) -> _Forms:
        """Contain the region in centre + radius z; an interval that is a point is a constant."""
        centre = np.where(region.lower < region.upper, 0.5 * region.lower + 0.5 * region.upper, region.lower)
        radius = up(np.maximum(up(centre - region.lower), up(region.upper - centre)))
        x = self.variables["x"].indices
        self.centre[x], self.radius[x] = centre[inputs], radius[inputs]
        rows = np.zeros((centre.size, 1 + self.size))
        rows[:, 0] = centre
        rows[inputs, np.arange(1 + self.hidden, 1 + self.size)] = radius[inputs]
        return _Forms(rows, np.zeros(centre.size))

    def _relu(self, k: int, mask: NDArray[np.bool_], z: Interval) -> _Forms:
        """Substitute what is stable, and give each unstable neuron a variable and its products."""
        y, neurons = self.current, self.neurons[f"a[{k}]"]
        variable = np.arange(self.size)[self.variables[f"a[{k}]"].indices]
        keep = ~_nearly_stable(z, y.error)[neurons]
        if (noisy := neurons[~keep & ~_nearly_stable(z, np.zeros(mask.size))[neurons]]).size:
            self.fixed[f"noisy[{k}]"] = noisy
        neurons, variable = neurons[keep], variable[keep]
        # One that is nearly stable counts as stable: relu(y) is in [0, u], relu(y) - y in [0, -l].
        inactive = mask & (z.lower < 0) & (z.upper <= -z.lower)
        rows = np.where(inactive[:, None], 0.0, y.rows)
        error = np.where(
            inactive, np.maximum(z.upper, 0.0), up(y.error + np.where(mask, np.maximum(-z.lower, 0.0), 0.0))
        )
        error[neurons] = 0.0
        lower, upper = z.lower[neurons], z.upper[neurons]
        # a = r + r z runs through [0, u].
        r = 0.5 * upper
        self.centre[variable] = self.radius[variable] = r
        rows[neurons] = 0.0
        rows[neurons, 0] = rows[neurons, 1 + variable] = r

        scale = power_of_two(np.maximum(-lower, upper))
        f, rho = self._form(_Forms(y.rows[neurons], y.error[neurons]), scale)
        one, zero, a = np.ones(neurons.size), np.zeros(neurons.size, np.intp), 1 + variable
        height = r / scale
        above = ((zero, height), (a, height), (f, -one))
        self._product(f"above[{k}]", ((zero, one),), above, rho)
        # 0 <= 1 + z <= 2
        self._product(f"relu[{k}]", ((zero, one), (a, one)), above, up(2 * rho), equality=True)
        # a <= slope y + offset. The one constant of the form is rounded up.
        slope, offset = chord(lower, upper)
        constant = up(up(offset / scale) - height) + TINY
        chords = ((zero, constant), (a, -height), (f, slope))
        self._product(f"chord[{k}]", ((zero, one),), chords, up(slope * rho) + TINY)

        # A split is not implied by the forms of the layers below, unlike all bounds that were computed from them.
        # Within the noise it says nothing; two Relu in a row have such ends.
        clear = (z.lower < z.upper) & (z.magnitude() > NOISE * y.error)
        for name, fixed, sign in (("active", z.lower == 0, 1.0), ("inactive", z.upper == 0, -1.0)):
            index = np.flatnonzero(mask & fixed & clear)
            if index.size:
                self.fixed[f"{name}[{k}]"] = index
                part = _Forms(y.rows[index], y.error[index])
                f, rho = self._form(part, power_of_two(z.magnitude()[index]))
                one, zero = np.ones(index.size), np.zeros(index.size, np.intp)
                self._product(f"{name}[{k}]", ((zero, one),), ((f, sign * one),), rho)
        return _Forms(rows, error)

    def _cost(self) -> tuple[Array, float]:
        """Return the objective as a form and what it may be off."""
        t = self.current
        if isinstance(self.objective, Weighted):
            c = self.objective.c
            cost = c @ t.rows
            cost[0] += self.objective.c0
            size = np.abs(c) @ t.size + abs(self.objective.c0)
            off = np.abs(c) @ t.error + dot_error(c.size + 1) * size
            return cost, float(up(off * INFLATE + TINY * self.size * (1 + c.size)))
        group = np.array(self.objective.group)
        outputs = self.values[-1].take(group)
        low, high = outputs.lower.max(), outputs.upper.max()
        centre = 0.5 * low + 0.5 * high
        radius = up(np.maximum(up(centre - low), up(high - centre)))
        self.centre[0], self.radius[0] = centre, radius
        scale = np.full(group.size, largest_scale(outputs))
        f, rho = self._form(_Forms(t.rows[group], t.error[group]), scale)
        one, zero = np.ones(group.size), np.zeros(group.size, np.intp)
        largest = ((zero, centre / scale), (zero + 1, radius / scale), (f, -one))
        self._product("largest", ((zero, one),), largest, rho + TINY)
        cost = np.zeros(1 + self.size)
        cost[0], cost[1] = centre, radius
        return cost, 0.0

    def _ball(self, ball: Ball, x: _Forms) -> None:
        """Add sum r_i^2 (1 - z_i^2) + (rho^2 - sum r_i^2 - sum s_i^2 - 2 sum r_i s_i z_i) >= 0, s = c - centre."""
        shift = x.rows[:, 0] - ball.centre
        inputs, block = self.neurons["x"], self.variables["x"]
        r = self.radius[block.indices]
        row = np.zeros((1, 1 + self.size))
        row[0, 0] = ball.radius**2 - (r**2).sum() - (shift**2).sum()
        row[0, 1 + self.hidden :] = -2.0 * r * shift[inputs]
        size = ball.radius**2 + 2 * (r**2).sum() + (np.abs(shift) @ np.abs(shift)) + 2 * np.abs(row).sum()
        # A few roundings in each term, as many additions as there are terms.
        error = np.array([(dot_error(shift.size + r.size + 8) * size + TINY * (shift.size + 8)) * INFLATE])
        scale = power_of_two(np.array([max(size, 1.0)]))
        f, rho = self._form(_Forms(row, error), scale)
        one, zero = np.ones(1), np.zeros(1, np.intp)
        weights = tuple((np.array([i]), np.array([w])) for i, w in enumerate(r**2 / scale, start=1 + block.start))
        self._product("ball", ((zero, one),), ((f, one),), rho, radial=weights)

    def _form(self, forms: _Forms, scale: Array) -> tuple[Index, Array]:
        """Append forms divided by powers of two; return their places in the basis and what they may be off."""
        place = 1 + self.size + self.n_forms + np.arange(scale.size)
        self.forms.append(forms.rows / scale[:, None])
        self.n_forms += scale.size
        return place, up(forms.error / scale) + TINY * (1 + self.size)

    def _product(
        self,
        name: str,
        left: tuple[tuple[Index, Array], ...],
        right: tuple[tuple[Index, Array], ...],
        error: Array,
        *,
        equality: bool = False,
        radial: tuple[tuple[Index, Array], ...] = (),
    ) -> None:
        """Append a block of products; each factor is a sum of (element of the basis, coefficient), column by column."""
        start = sum(part.size for part in self.error)
        self.rows[name] = Block(start, start + error.size)
        self.left.append(error.size, left)
        self.right.append(error.size, right)
        self.radial.append(error.size, radial)
        self.equality.append(np.full(error.size, equality))
        self.error.append(error)


class _Columns:
    """Columns of a sparse matrix, block after block."""

    def __init__(self) -> None:
        self.width = 0
        self.entries: list[tuple[Index, Index, Array]] = []

    def append(self, width: int, terms: tuple[tuple[Index, Array], ...]) -> None:
        """Append columns; each term has an entry in every one of them."""
        column = self.width + np.arange(width)
        self.entries += [(row, column, value) for row, value in terms]
        self.width += width

    def matrix(self, height: int) -> Any:
        """Return the matrix."""
        none = np.zeros(0, np.intp)
        row, column, value = (
            np.concatenate(parts) for parts in zip((none, none, np.zeros(0)), *self.entries, strict=True)
        )
        return csc_array((value, (row, column)), shape=(height, self.width))


def _nearly_stable(z: Interval, error: Array) -> NDArray[np.bool_]:
    """Tell which neurons are not worth a variable: one side is negligible beside the other, or within the noise.

    Their products would be badly scaled or say nothing, and no bound would gain.
    """
    low, high = np.maximum(-z.lower, 0.0), np.maximum(z.upper, 0.0)
    least = np.maximum(NEGLIGIBLE * np.maximum(low, high), VANISHING)
    return np.asarray(np.minimum(low, high) <= np.maximum(least, NOISE * error))


def _single(objective: Objective, n_outputs: int) -> Objective:
    """Check an objective; the largest of one output is that output."""
    if isinstance(objective, Weighted):
        if objective.c.shape != (n_outputs,):
            raise ShapeError(f"the objective has {objective.c.size} coefficients, the network {n_outputs} outputs")
        return objective
    group = np.array(objective.group, dtype=np.intp)
    if not group.size or np.unique(group).size != group.size or group.min() < 0 or group.max() >= n_outputs:
        raise ShapeError(f"group {objective.group} must name different outputs of 0..{n_outputs - 1}, at least one")
    return Weighted(np.eye(n_outputs)[group[0]]) if group.size == 1 else objective


def largest_scale(outputs: Interval) -> float:
    """Return what the rows tau >= t_i are divided by, given the enclosures of the t_i."""
    return float(power_of_two(np.maximum(np.abs(outputs.lower.max()), np.abs(outputs.upper.max()))))


def power_of_two(size: Array) -> Array:
    """Return a power of two near each number, within the range where dividing by it is harmless."""
    return np.asarray(np.ldexp(1.0, np.clip(np.frexp(size)[1], -900, 900)))
