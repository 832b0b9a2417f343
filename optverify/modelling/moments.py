"""The lifted relaxation with explicit variables: a linear relaxation and a matrix P of products, P = w w' relaxed.

w = (1, zeta), and zeta_k in [-1, 1] is a variable of the program, an input or what leaves an unstable neuron, moved and
scaled: v = c + r zeta. On a trace of the network P = w w' satisfies, beside the rows of the linear relaxation,

    P semidefinite,  P_00 = 1,  P_kk <= 1,  v = c + r P_0k,  a (a - z) = 0

where a product of two forms of w is linear in P. Coefficients are worked out in rationals and rounded outward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import frexp

import numpy as np

from optverify.errors import InputError
from optverify.expressions import Linear, Variable
from optverify.formulations.program import Block, Cone, Program
from optverify.interval import up
from optverify.modelling.forms import above, combination
from optverify.network import Affine, Network, Relu
from optverify.preactivation import Bounds
from optverify.query import MIN_NORMAL


@dataclass(frozen=True, eq=False)
class _Scaled:
    """A variable of the program as c + r zeta."""

    column: int
    centre: float
    radius: float


def with_moments(network: Network, bounds: Bounds, program: Program) -> Program:
    """Add the matrix of products to a linear relaxation; that it is semidefinite is for the modelling layer to say.

    Symbols
        P : lower triangle by columns, order 1 + n + p for n inputs that vary and p unstable neurons.

    Equations
        Those of this module. With the rows of the triangle relaxation they are those of
        :func:`optverify.formulations.lifted.lifted`.

    Parameters
    ----------
    network : Network
        Without slack.
    bounds : Bounds, ends of shape (n_k,)
    program : Program
        That ``triangle`` made of these.

    Raises
    ------
    InputError
        The network has coefficients with slack, or a variable has no finite bounds.

    References
    ----------
    Raghunathan, Steinhardt, Liang, "Semidefinite relaxations for certifying robustness to adversarial examples",
    NeurIPS 2018, eq. 4 to 8.
    """
    from scipy.sparse import csc_array

    if network.has_slack:
        raise InputError("the lifted model needs a network whose coefficients floats hold; use triangle or bigm")
    scaled = [_scaled(program, j) for j in _columns(program, "x") if program.lower[j] < program.upper[j]]
    for k in range(len(network.relus)):
        half = [0.5 * float(program.upper[j]) for j in _columns(program, f"a[{k}]")]
        scaled += [_Scaled(j, r, r) for j, r in zip(_columns(program, f"a[{k}]"), half, strict=True)]
    if not all(np.isfinite([v.centre, v.radius]).all() and v.radius >= MIN_NORMAL for v in scaled):
        raise InputError("the lifted model needs finite bounds: numbers overflow or underflow")
    place = {v.column: 1 + i for i, v in enumerate(scaled)}
    first, order = program.n_variables, 1 + len(scaled)

    def product(i: int, k: int) -> int:
        low, high = min(i, k), max(i, k)
        return first + low * order - low * (low - 1) // 2 + high - low

    size = order * (order + 1) // 2
    diagonal = [product(i, i) - first for i in range(order)]
    lower, upper = np.full(size, -1.0), np.ones(size)
    lower[diagonal], lower[0] = 0.0, 1.0
    lower, upper = np.concatenate([program.lower, lower]), np.concatenate([program.upper, upper])

    entries: list[tuple[int, int, float]] = []
    right: list[float] = []
    rows = dict(program.rows)

    def close(name: str, start: int, cone: Cone) -> None:
        rows[name] = Block(program.n_rows + start, program.n_rows + len(right), cone)

    def row(form: dict[int, float], constant: float) -> None:
        """Append s = constant + form."""
        entries.extend((program.n_rows + len(right), j, -value) for j, value in form.items())
        right.append(constant)

    for i, v in enumerate(scaled, start=1):
        row({v.column: -1.0, product(0, i): v.radius}, v.centre)
    close("moments", 0, Cone.ZERO)
    start = len(right)
    names = ["P"] * (first + size)
    for j, z in _entering(network, bounds, program, place, scaled):
        # (1 + zeta_m) (a - z) / s = 0, s a power of two.
        m, r = place[j], Fraction(scaled[place[j] - 1].radius)
        q = (Linear({("X", m): r}, r) - z) * Fraction(2) ** -frexp(float(r))[1]
        terms: dict[Variable, Fraction] = {}
        for i, a in [(0, q.constant), *((i, a) for (_, i), a in q.terms.items())]:
            for k in (0, m):
                at: Variable = ("X", product(i, k))
                terms[at] = terms.get(at, Fraction(0)) + a
        for sign in (1, -1):
            row(*above(sign * Linear(terms), lower.tolist(), upper.tolist(), names))
    close("relu", start, Cone.NONNEG)
    old = program.A.tocoo()
    at_row, at_column = (np.array([entry[k] for entry in entries], np.intp) for k in (0, 1))
    return replace(
        program,
        c=np.concatenate([program.c, np.zeros(size)]),
        A=csc_array(
            (
                np.concatenate([old.data, [value for _, _, value in entries]]),
                (np.concatenate([old.coords[0], at_row]), np.concatenate([old.coords[1], at_column])),
            ),
            shape=(program.n_rows + len(right), first + size),
        ),
        b=np.concatenate([program.b, right]),
        rows=rows,
        lower=lower,
        upper=upper,
        integer=None,
        variables={**program.variables, "P": Block(first, first + size)},
    )


def _columns(program: Program, name: str) -> Sequence[int]:
    block = program.variables[name]
    return range(block.start, block.stop)


def _scaled(program: Program, j: int) -> _Scaled:
    low, high = float(program.lower[j]), float(program.upper[j])
    centre = 0.5 * low + 0.5 * high
    return _Scaled(j, centre, float(up(max(up(centre - low), up(high - centre)))))


def _entering(
    network: Network, bounds: Bounds, program: Program, place: dict[int, int], scaled: Sequence[_Scaled]
) -> list[tuple[int, Linear]]:
    """Return, for each unstable neuron, its column and what enters it as a form of zeta, exactly."""

    def form(j: int) -> Linear:
        if j not in place:
            return Linear({}, Fraction(float(program.lower[j])))
        v = scaled[place[j] - 1]
        return Linear({("X", place[j]): Fraction(v.radius)}, Fraction(v.centre))

    found = []
    values = [form(j) for j in _columns(program, "x")]
    relu = 0
    for layer in network.layers:
        if isinstance(layer, Affine):
            csr = layer.csr
            spans = [slice(a, b) for a, b in zip(csr.indptr[:-1], csr.indptr[1:], strict=True)]
            values = [
                combination((Fraction(w), values[i]) for w, i in zip(csr.data[s].tolist(), csr.indices[s], strict=True))
                + Fraction(b)
                for s, b in zip(spans, layer.bias.tolist(), strict=True)
            ]
            continue
        assert isinstance(layer, Relu)
        z, columns = bounds.layers[relu], iter(_columns(program, f"a[{relu}]"))
        unstable = layer.mask & (z.lower < 0) & (z.upper > 0)
        after = []
        for i, value in enumerate(values):
            if unstable[i]:
                j = next(columns)
                found.append((j, value))
                after.append(form(j))
            else:
                after.append(value if not layer.mask[i] or z.lower[i] >= 0 else Linear({}))
        values, relu = after, relu + 1
    return found
