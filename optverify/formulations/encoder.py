"""Network, region and bounds into rows and columns: what all explicit formulations share.

Columns (named blocks of the program):

==========  ==================================================================================
``x``       inputs, within the region
``z[k]``    what enters the k-th Relu, all coordinates, within the given bounds
``a[k]``    what leaves it, unstable neurons only: active and passed coordinates are their z, inactive are 0
``h[i]``    what leaves the i-th Affine where another Affine follows; bounds do not bind
``t``       the network's outputs; bounds do not bind
``tau``     with :class:`Largest`: an upper bound on all t_i of the group; bounds do not bind
==========  ==================================================================================

Rows: ``affine[i]`` holds the equations z - W a = b of the i-th Affine. A row that is known only
within its slack and absolute error becomes two inequalities |z - W a - b| <= E in ``affine[i]+`` and ``affine[i]-``.
``copy[j]`` equates a block with the values before layer j where no Affine stands between (a Relu on the
inputs, after a Relu, or at the end). ``largest`` holds t_i <= tau. Everything else comes from the
formulation.

Every number that goes into a row is a weight, a bias or a bound as it is, or is rounded outward; so every
true forward trace satisfies every row exactly, over the reals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optverify.errors import InputError, ShapeError
from optverify.formulations.program import Block, Cone, Program
from optverify.interval import INFLATE, TINY, Array, Interval, dot_error, times, up
from optverify.network import Affine, Network, Relu, frozen
from optverify.preactivation import Bounds, layer_inputs
from optverify.query import Goal

Index = NDArray[np.intp]

ABSENT = -1
"""Stands for a column where a coordinate is the constant 0."""


@dataclass(frozen=True, eq=False)
class Weighted:
    """Minimise c . t + c0 over the network's outputs t.

    Parameters
    ----------
    c : (n_outputs,) float64
    c0 : float
    """

    c: Array
    c0: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "c", frozen(self.c, np.float64, "c", (np.size(self.c),)))


@dataclass(frozen=True)
class Largest:
    """Minimise max t_i over a group of the network's outputs: above 0, no point has them all <= 0.

    Parameters
    ----------
    group : tuple of int
        At least one, none twice.
    """

    group: tuple[int, ...]


Objective = Weighted | Largest


def objective_of(goal: Goal, group: int) -> Objective:
    """Return the objective whose minimum is positive if and only if the group cannot be reached."""
    rows = goal.groups[group]
    if len(rows) == 1:
        return Weighted(np.eye(goal.network.n_outputs)[rows[0]])
    return Largest(rows)


@dataclass(frozen=True, eq=False)
class Multipliers:
    """A dual solution in the letters of the bound formula (``docs/duality.md``).

    Parameters
    ----------
    g : tuple of (m_i,) float64, one per Affine of the network
        Multipliers of W a + b - z = 0.
    mu : (r,) float64
        Weights of the group for :class:`Largest`, the single number 1 for :class:`Weighted`.
    """

    g: tuple[Array, ...]
    mu: Array


@dataclass(frozen=True, eq=False)
class Unstable:
    """The neurons of one Relu that need rows.

    Parameters
    ----------
    layer : int
        Which Relu, counted from the input side.
    z, a : (p,) int
        Their columns.
    lower, upper : (p,) float64
        l < 0 < u.
    """

    layer: int
    z: Index
    a: Index
    lower: Array
    upper: Array


@dataclass(eq=False)
class Assembly:
    """Columns and rows on their way to a :class:`Program`; grows, then becomes one."""

    _lower: list[Array] = field(default_factory=list)
    _upper: list[Array] = field(default_factory=list)
    _integer: list[NDArray[np.bool_]] = field(default_factory=list)
    _variables: dict[str, Block] = field(default_factory=dict)
    _entries: list[tuple[Index, Index, Array]] = field(default_factory=list)
    _right: list[Array] = field(default_factory=list)
    _rows: dict[str, Block] = field(default_factory=dict)
    n_columns: int = 0
    n_rows: int = 0

    def columns(self, name: str, lower: Array, upper: Array, *, integer: bool = False) -> Index:
        """Append a named block of variables and return their indices."""
        start, size = self.n_columns, lower.size
        self.n_columns += size
        self._variables[name] = Block(start, start + size)
        self._lower.append(lower)
        self._upper.append(upper)
        self._integer.append(np.full(size, integer))
        return np.arange(start, start + size)

    def rows(self, name: str, cone: Cone, right: Array, *entries: tuple[Index, Index, Array]) -> None:
        """Append a named block of rows.

        Parameters
        ----------
        name : str
        cone : Cone
        right : (p,) float64
        entries : triples (row within the block, column, coefficient) of equal length
            Each (row, column) at most once: sums would be rounded. Columns :data:`ABSENT` are left out.
        """
        for row, column, value in entries:
            keep = column != ABSENT
            self._entries.append((row[keep] + self.n_rows, column[keep], value[keep]))
        self._rows[name] = Block(self.n_rows, self.n_rows + right.size, cone)
        self._right.append(right)
        self.n_rows += right.size

    def program(self, c: Array, c0: float, name: str) -> Program:
        """Return what has been assembled."""
        from scipy.sparse import csc_array

        row, column, value = (np.concatenate(parts) for parts in zip(*self._entries, strict=True))
        return Program(
            c=c,
            A=csc_array((value, (row, column)), shape=(self.n_rows, self.n_columns)),
            b=np.concatenate(self._right),
            rows=self._rows,
            lower=np.concatenate(self._lower),
            upper=np.concatenate(self._upper),
            c0=c0,
            integer=np.concatenate(self._integer),
            variables=self._variables,
            name=name,
        )


def encode(
    network: Network,
    region: Interval,
    bounds: Bounds,
    objective: Objective,
    relax: Callable[[Assembly, Unstable], None],
    name: str,
) -> Program:
    """Encode everything but the unstable neurons, and let `relax` add the rows of those.

    Parameters
    ----------
    network : Network
    region : Interval, ends of shape (n_inputs,)
        Contains the region, for instance ``Box.outward``.
    bounds : Bounds, ends of shape (n_k,)
        Hold on the region. Relu layers beyond those given are bounded by interval arithmetic.
    objective : Weighted or Largest
    relax : callable
        Called with the assembly and the unstable neurons of each Relu that has some.
    name : str

    Returns
    -------
    Program
        Its optimum is at most the minimum of the objective over the region. Variables are bounded unless
        interval arithmetic overflows.

    Raises
    ------
    ShapeError
        Sizes disagree, or the group names an output twice or one that does not exist.
    InputError
        Some interval is empty (no point is left: nothing to solve) or a coefficient is not finite.
    """
    if region.shape != (network.n_inputs,):
        raise ShapeError(f"the region has shape {region.shape}, expected ({network.n_inputs},)")
    for z, k in zip(bounds.layers, network.relus, strict=False):
        if z.shape != (network.sizes[k],):
            raise ShapeError(f"bounds of shape {z.shape} for layer {k}, expected ({network.sizes[k]},)")
    if region.empty.any() or bounds.empty.any():
        raise InputError("the region or the bounds are empty: no point is left, there is nothing to solve")
    values = layer_inputs(network, region, bounds)
    assembly = Assembly()
    current = assembly.columns("x", region.lower, region.upper)
    relu = 0
    for step in _steps(network):
        if isinstance(step, _Step):
            box = values[step.leaves] if step.name.startswith("z") else _aside(values[step.leaves])
            column = assembly.columns(step.name, box.lower, box.upper)
            _equate(assembly, step, current, column, values[step.enters])
            current = column
        else:
            position, mask = step
            z = values[position]
            active, unstable = z.lower >= 0, (z.lower < 0) & (z.upper > 0)
            neurons = np.flatnonzero(mask & unstable)
            after = np.where(mask & ~active, ABSENT, current)
            low, high = z.lower[neurons], z.upper[neurons]
            after[neurons] = assembly.columns(f"a[{relu}]", np.zeros(neurons.size), high)
            if neurons.size:
                relax(assembly, Unstable(relu, current[neurons], after[neurons], low, high))
            current = after
            relu += 1
    cost, c0 = _cost(assembly, objective, current, values[-1])
    return assembly.program(cost, c0, name)


def _aside(box: Interval) -> Interval:
    """Return bounds for variables that the rows bound already: finite, but out of the way.

    A bound that is active takes part in the dual solution, and what it takes is missing from the multipliers
    g and mu. Those of h, t and tau follow from the rows, so nothing is lost by setting them wider.
    """
    margin = 1.0 + box.magnitude()
    with np.errstate(over="ignore", invalid="ignore"):
        lower, upper = box.lower - margin, box.upper + margin
    finite = np.isfinite(lower) & np.isfinite(upper)
    return Interval(np.where(finite, lower, box.lower), np.where(finite, upper, box.upper))


@dataclass(frozen=True, eq=False)
class _Step:
    """One block of linear rows: an Affine of the network, or a copy.

    `name` is that of its columns, `rows` that of its rows; `enters` and `leaves` are positions in the list
    of :func:`layer_inputs`.
    """

    name: str
    rows: str
    enters: int
    leaves: int
    affine: Affine | None


def _steps(network: Network) -> Iterator[_Step | tuple[int, NDArray[np.bool_]]]:
    """Yield the linear steps, and position and mask of each Relu once its z stands in columns of its own."""
    relu = affine = 0
    fresh = False  # whether the current values are columns that no Relu has been applied to yet
    last = len(network.layers) - 1
    for position, layer in enumerate(network.layers):
        if isinstance(layer, Relu):
            if not fresh:
                yield _Step(f"z[{relu}]", f"copy[{position}]", position, position, None)
            yield position, layer.mask
            relu, fresh = relu + 1, False
            continue
        following = network.layers[position + 1] if position < last else None
        name = "t" if following is None else f"z[{relu}]" if isinstance(following, Relu) else f"h[{affine}]"
        yield _Step(name, f"affine[{affine}]", position, position + 1, layer)
        affine, fresh = affine + 1, True
    if isinstance(network.layers[-1], Relu):
        yield _Step("t", f"copy[{last + 1}]", last + 1, last + 1, None)


def _equate(assembly: Assembly, step: _Step, before: Index, after: Index, entering: Interval) -> None:
    """Append after - W before = b, with room for the error of loose rows."""
    size = after.size
    if step.affine is None:
        index = np.arange(size)
        one = np.ones(size)
        assembly.rows(step.rows, Cone.ZERO, np.zeros(size), (index, after, one), (index, before, -one))
        return
    layer = step.affine
    csr = layer.csr
    row = np.repeat(np.arange(size), np.diff(csr.indptr))
    column = before[csr.indices]
    bias = layer.bias
    if not layer.loose.any():
        index = np.arange(size)
        assembly.rows(step.rows, Cone.ZERO, bias, (index, after, np.ones(size)), (row, column, -csr.data))
        return
    exact, loose = np.flatnonzero(~layer.loose), np.flatnonzero(layer.loose)
    with np.errstate(over="ignore", invalid="ignore"):
        error = loose_error(layer, entering)[loose]
        above, below = up(bias[loose] + error), up(error - bias[loose])
    # Where the error overflows the rows say nothing; they stay, without coefficients, to keep the layout.
    known = np.isfinite(above) & np.isfinite(below)
    above, below = np.where(known, above, 0.0), np.where(known, below, 0.0)
    for suffix, rows, used, cone, right, sign in (
        ("", exact, exact, Cone.ZERO, bias[exact], 1.0),
        ("+", loose, loose[known], Cone.NONNEG, above, 1.0),
        ("-", loose, loose[known], Cone.NONNEG, below, -1.0),
    ):
        place = np.full(size, ABSENT)
        place[used] = np.searchsorted(rows, used)
        keep = place[row] != ABSENT
        assembly.rows(
            step.rows + suffix,
            cone,
            right,
            (place[used], after[used], np.full(used.size, sign)),
            (place[row[keep]], column[keep], -sign * csr.data[keep]),
        )


def loose_error(layer: Affine, entering: Interval) -> Array:
    """Return a bound on how far a loose row may be from W a + b, slack (|W| |a| + |b|) + absolute, rounded up.

    Parameters
    ----------
    layer : Affine
    entering : Interval, ends of shape (n,)
        Contains a.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        reach = times(entering.magnitude(), layer.size) + np.abs(layer.bias)
        reach = (reach * (1.0 + dot_error(layer.shape[1] + 1)) + TINY * layer.shape[1]) * INFLATE
        error = np.where(layer.slack > 0, up(layer.slack * reach) + TINY, 0.0)
        return np.where(layer.absolute > 0, up(error + layer.absolute), error)


def _cost(assembly: Assembly, objective: Objective, t: Index, outputs: Interval) -> tuple[Array, float]:
    """Append what the objective needs and return its coefficients over all columns."""
    if isinstance(objective, Weighted):
        if objective.c.shape != t.shape:
            raise ShapeError(f"the objective has {objective.c.size} coefficients, the network {t.size} outputs")
        cost = np.zeros(assembly.n_columns)
        cost[t] = objective.c
        return cost, objective.c0
    group = np.array(objective.group, dtype=np.intp)
    if not group.size or np.unique(group).size != group.size or group.min() < 0 or group.max() >= t.size:
        raise ShapeError(f"group {objective.group} must name different outputs of 0..{t.size - 1}, at least one")
    # At a minimum tau is the largest t_i, hence between the largest lower and the largest upper bound.
    box = _aside(Interval(outputs.lower[group].max(keepdims=True), outputs.upper[group].max(keepdims=True)))
    tau = assembly.columns("tau", box.lower, box.upper)
    index, one = np.arange(group.size), np.ones(group.size)
    tau_column = np.repeat(tau, group.size)
    assembly.rows("largest", Cone.NONNEG, np.zeros(group.size), (index, t[group], one), (index, tau_column, -one))
    cost = np.zeros(assembly.n_columns)
    cost[tau] = 1.0
    return cost, 0.0


def read_multipliers(network: Network, program: Program, dual: Array | None) -> Multipliers | None:
    """Read the multipliers g and mu off a dual solution of a program that :func:`encode` made.

    Parameters
    ----------
    network : Network
        That the program encodes.
    program : Program
    dual : (m,) float64 or None
        A solver's ``Solution.dual`` or ``ray``.

    Returns
    -------
    Multipliers or None
        None if there is no dual, or one of another size. Always finite: NaN and infinities become 0.
    """
    y = _finite(dual, program.n_rows)
    if y is None:
        return None
    affines = [layer for layer in network.layers if isinstance(layer, Affine)]
    g = []
    for i, layer in enumerate(affines):
        # The row z - W a = b has dual y; the formula adds g (W a + b - z): g = -y.
        exact = ~layer.loose
        values = np.zeros(layer.shape[0])
        values[exact] = -y[program.rows[f"affine[{i}]"].indices]
        if not exact.all():
            rows = program.rows
            values[~exact] = y[rows[f"affine[{i}]-"].indices] - y[rows[f"affine[{i}]+"].indices]
        g.append(np.nan_to_num(values, posinf=0.0, neginf=0.0))
    mu = np.maximum(y[program.rows["largest"].indices], 0.0) if "largest" in program.rows else np.ones(1)
    return Multipliers(tuple(g), mu)


def read_input(program: Program, primal: Array | None) -> Array | None:
    """Return the network input of a solver's point, clamped to the region; None if there is no usable point.

    Parameters
    ----------
    program : Program
        That :func:`encode` made.
    primal : (n,) float64 or None
        A solver's ``Solution.primal``.

    Returns
    -------
    (n_inputs,) float64 or None
    """
    point = _finite(primal, program.n_variables)
    if point is None:
        return None
    x = program.variables["x"].indices
    return np.clip(point[x], program.lower[x], program.upper[x])


def _finite(values: Any, size: int) -> Array | None:
    """Return a solver's vector with NaN and infinities as 0, or None if it has another shape."""
    if values is None or np.shape(values) != (size,):
        return None
    return np.nan_to_num(np.asarray(values, np.float64), nan=0.0, posinf=0.0, neginf=0.0)
