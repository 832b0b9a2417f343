"""A primal-dual interior-point method for the lifted relaxation, and for nothing else.

With w = (1, z), C for the objective, B_k = E_00 - E_kk for the box and A_j = sym(p_j q_j') for the products,

    (P)  min <C, X>   over X positive semidefinite, X_00 = 1, <B_k, X> >= 0, <A_j, X> >= 0 or = 0
    (D)  max gamma    over S = C - sum_i y_i A_i - gamma E_00 positive semidefinite, y_i >= 0 on inequalities

where y = (box, products) and A_i stands for B_k too. What makes it fast is that no product joins two inputs: S is an
:class:`~optverify.solvers.arrow.Arrow`, Z = S^-1 costs (order of the head)^2 times the order, and X is needed and
kept on the arrow's pattern only, standing for its completion of largest determinant, whose inverse is an arrow too:
on the central path X = mu Z.

Every iterate is feasible for (D), so each one has a bound; (P) becomes feasible on the way.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from optverify.formulations.lifted import Lifted
from optverify.interval import Array
from optverify.solvers import INTERIOR_POINT
from optverify.solvers.arrow import Arrow, Completed, sandwich
from optverify.solvers.solution import Status

TOLERANCE = 1e-7
"""Relative gap at which the method ends..."""

FEASIBLE = 1e-6
"""... if (P) is satisfied to this; its objective counts as a value of the relaxation from here on as well."""

START_BOX, START_PRODUCTS, START_SLACK = 0.3, 0.1, 0.3
"""Multipliers and least slacks at the start, the objective's largest coefficient being 1."""

AHEAD = 1e-2
"""The iterate that another run starts from is the first with so small a mu: later ones are too near the boundary."""

SHIFT = 1e-3
"""Least shift of the box's multipliers that makes another objective's S positive definite."""

MISLED = 0.2
"""A direction that gets less far than this says nothing about second order."""

CENTRING = 0.9
"""The share of mu that is kept by a step whose purpose is to come near the central path."""

SHORTEST = 1e-3
"""Steps shorter than this are no progress."""

REGULAR = (0.0, 1e-14, 1e-12, 1e-10, 1e-8)
"""What is added to the unit diagonal of the Schur complement until it has a Cholesky factor."""


@dataclass(frozen=True, eq=False)
class LiftedSolution:
    """What a solver left. Every number is a claim: :mod:`optverify.safe.lifted` makes bounds of it.

    Parameters
    ----------
    status : Status
        Why it stopped.
    message : str
    bound : float
        Claimed by the multipliers: feasible for (D) but for rounding.
    objective : float
        Of the last X; claims to be above the relaxation's optimum where `residual` is small.
    residual : float
        Largest violation in (P).
    box, products : (N,), (m,) float64
        Multipliers delta and y behind `bound`.
    point : (N,) float64
        Minimiser of their Lagrangian.
    moments : (1 + N, 1 + H) float64
        Columns of X for 1 and the hidden variables.
    iterations : int
    seconds : float
        Wall-clock time.
    solver : str
    start : object or None
        What another run may start from; opaque.
    """

    status: Status
    message: str
    bound: float
    objective: float
    residual: float
    box: Array
    products: Array
    point: Array
    moments: Array
    iterations: int
    seconds: float
    solver: str = INTERIOR_POINT
    start: object = field(default=None, repr=False)


def solve_lifted(
    lifted: Lifted,
    *,
    stop_above: float = np.inf,
    stop_below: float = -np.inf,
    time_limit: float | None = None,
    max_iterations: int = 100,
    start: LiftedSolution | None = None,
) -> LiftedSolution:
    """Solve a lifted relaxation.

    Parameters
    ----------
    lifted : Lifted
    stop_above : float
        End as soon as the bound is above this: the question is answered.
    stop_below : float
        End as soon as (P) has a point whose objective is below this: the relaxation cannot answer the question.
    time_limit : float, seconds, optional
    max_iterations : int
    start : LiftedSolution, optional
        Of the same conditions but for the last ones of either, and any objective; others are passed over.

    Notes
    -----
    The HKM direction (Helmberg, Rendl, Vanderbei, Wolkowicz, SIAM J. Optim. 6, 1996) with X as a completion (Fukuda,
    Kojima, Murota, Nakata, SIAM J. Optim. 11, 2001) and Mehrotra's predictor and corrector (SIAM J. Optim. 2, 1992).
    The bound of an iterate is gamma + 1 / Z_00: the largest gamma for its multipliers.
    """
    started = time.monotonic()
    deadline = np.inf if time_limit is None else started + time_limit
    with np.errstate(all="ignore"):
        # In units of the objective's largest coefficient, and without its constant.
        scale = float(np.abs(lifted.cost[1:]).max(initial=0.0)) or 1.0
        constant = float(lifted.cost[0])
        A = Operator(lifted)
        C = A.linear(np.concatenate([[0.0], lifted.cost[1:] / scale]))
        run = _start(A, C) if start is None else _restart(A, C, start.start)
        if run is None:
            return _nothing(lifted)
        best = early = run
        status, message, residual, iterations = Status.LIMIT, f"{max_iterations} iterations", np.inf, 0
        for _ in range(max_iterations):
            iterations += 1
            mu = run.mu
            early = run if early.mu > AHEAD else early
            residual = run.residual()
            bound, objective = constant + scale * run.bound, constant + scale * run.X.arrow.dot(C)
            best = run if run.bound > best.bound else best
            if bound > stop_above:
                message = f"the bound is above {stop_above:g}"
                break
            if residual <= FEASIBLE and objective < stop_below:
                message = f"the relaxation has a value below {stop_below:g}"
                break
            if mu * run.order <= TOLERANCE * (1.0 + abs(bound) / scale) and residual <= FEASIBLE:
                status, message = Status.OPTIMAL, ""
                break
            if time.monotonic() > deadline:
                message = f"time limit of {time_limit:g} s"
                break

            newton = _Newton.of(run, mu)
            after = None if newton is None else _step(run, newton, C)
            if after is None:
                status, message = Status.INACCURATE, "no further progress"
                break
            run = after
        return LiftedSolution(
            status=status,
            message=message,
            bound=constant + scale * best.bound,
            objective=constant + scale * run.X.arrow.dot(C),
            residual=residual,
            box=scale * best.y[: A.N],
            products=scale * best.y[A.N :],
            point=best.Z.columns[1:, 0] / best.Z.core[0, 0],
            moments=run.X.columns,
            iterations=iterations,
            seconds=time.monotonic() - started,
            start=early,
        )


def _nothing(lifted: Lifted) -> LiftedSolution:
    n, h = lifted.n_variables, lifted.hidden
    zeros, moments = np.zeros(n), np.eye(1 + n, 1 + h)
    message = "numbers too large to start from"
    return LiftedSolution(
        Status.FAILED, message, -np.inf, np.nan, np.inf, zeros, np.zeros(lifted.n_products), zeros, moments, 0, 0.0
    )


def _start(A: Operator, C: Arrow) -> _Iterate | None:
    """Return strictly feasible multipliers, and X = diag(1, 1/3, ..., 1/3): uniformly distributed points of the box.

    None if numbers overflow.
    """
    y = np.where(A.inequality, START_PRODUCTS, 0.0)
    y[: A.N] = START_BOX
    gamma = -1.0 - 2.0 * START_BOX * A.N
    # A large diagonal outweighs everything else.
    while (Z := (S := C - A.adjoint(y, gamma)).inverse()) is None:
        y[: A.N] *= 2.0
        gamma *= 2.0
        if not np.isfinite(gamma):
            return None
    third = np.full(A.N, 1.0 / 3.0)
    X = Arrow(np.diag(np.concatenate([[1.0], third[: A.h - 1]])), np.zeros((A.N + 1 - A.h, A.h)), third[A.h - 1 :])
    completed = X.completion()
    assert completed is not None
    s = np.maximum(A.apply(X)[A.inequality], START_SLACK)
    return _Iterate(A, completed, s, y, gamma, S, Z)


def _restart(A: Operator, C: Arrow, like: object) -> _Iterate | None:
    """Return X as another run had it early, and its multipliers moved until they are feasible.

    X is near the central path of (P), which does not change with the objective; with further conditions it leaves some
    of them violated, as X of :func:`_start` does. In (D) a shift of the box's multipliers makes S positive definite.
    """
    if not (isinstance(like, _Iterate) and (like.A.N, like.A.h) == (A.N, A.h)):
        return _start(A, C)
    same = min(A.inequality.size, like.y.size)
    if not np.array_equal(A.inequality[:same], like.A.inequality[:same]):
        return _start(A, C)
    s = np.maximum(A.apply(like.X.arrow)[A.inequality], START_SLACK)
    y = np.zeros(A.inequality.size)
    y[A.inequality] = like.mu / s
    slacks = int(A.inequality[:same].sum())
    s[:slacks], y[:same] = like.s[:slacks], like.y[:same]
    shift, Z = 0.5 * SHIFT, None
    while Z is None and shift < START_BOX:
        shift *= 2.0
        moved, gamma = y.copy(), like.gamma - 2.0 * shift * A.N
        moved[: A.N] += shift
        Z = (S := C - A.adjoint(moved, gamma)).inverse()
    return _start(A, C) if Z is None else _Iterate(A, like.X, s, moved, gamma, S, Z)


def _step(run: _Iterate, newton: _Newton, C: Arrow) -> _Iterate | None:
    """Take one step of predictor and corrector; None if there is no progress."""
    # Predictor: straight to the optimum. How far it gets tells how much to centre.
    affine = newton.direction(sigma=0.0)
    alpha_p, alpha_d = run.lengths(affine, 0.97)
    mu_affine = max(run.complementarity(affine, alpha_p, alpha_d), 0.0)
    sigma = min(0.9, max(0.01, (mu_affine / newton.mu) ** 2))
    fraction = 0.8 + 0.18 * min(alpha_p, alpha_d)

    # Corrector: with the second-order term of the predictor; of a centred direction where the predictor leads nowhere.
    plain = newton.direction(sigma) if min(alpha_p, alpha_d) < MISLED else affine
    second = sandwich(run.X.derivative(plain.X), plain.S, run.Z)
    direction = newton.direction(sigma, second, plain.s * plain.y[run.A.inequality])
    alpha_p, alpha_d = run.lengths(direction, fraction)
    if min(alpha_p, alpha_d) < MISLED:
        # Safeguard: far from the central path that term can mislead too. Back to the path, if this gets further.
        centring = newton.direction(CENTRING)
        lengths = run.lengths(centring, fraction)
        if min(lengths) > min(alpha_p, alpha_d):
            direction, (alpha_p, alpha_d) = centring, lengths
    return None if max(alpha_p, alpha_d) < SHORTEST else run.moved(direction, alpha_p, alpha_d, C)


@dataclass(frozen=True, eq=False)
class _Direction:
    """A change of an iterate: X on the pattern, s, y, gamma and S = -sum y_i A_i - gamma E_00."""

    X: Arrow
    s: Array
    y: Array
    gamma: float
    S: Arrow


@dataclass(frozen=True, eq=False)
class _Iterate:
    """X and the slacks s of the inequalities in (P); y, gamma, S and Z = S^-1 of (D)."""

    A: Operator
    X: Completed
    s: Array
    y: Array
    gamma: float
    S: Arrow
    Z: Completed

    @property
    def bound(self) -> float:
        """The largest gamma that y allows."""
        return self.gamma + 1.0 / float(self.Z.core[0, 0])

    @property
    def order(self) -> int:
        """Number of complementarity conditions."""
        return 1 + self.A.N + self.s.size

    @cached_property
    def mu(self) -> float:
        """Complementarity here."""
        return self.complementarity()

    def complementarity(self, d: _Direction | None = None, alpha_p: float = 0.0, alpha_d: float = 0.0) -> float:
        """Return mu = (<X, S> + s.y) / order, here or after a step."""
        X, s, S, y = self.X.arrow, self.s, self.S, self.y[self.A.inequality]
        if d is not None:
            X, s, S = X + alpha_p * d.X, s + alpha_p * d.s, S + alpha_d * d.S
            y = y + alpha_d * d.y[self.A.inequality]
        return (X.dot(S) + float(s @ y)) / self.order

    def residual(self) -> float:
        """Return the largest violation of the equations of (P)."""
        X = self.X.arrow
        gap = self.A.apply(X)
        gap[self.A.inequality] -= self.s
        return float(max(np.abs(gap).max(initial=0.0), abs(1.0 - X.head[0, 0])))

    def lengths(self, d: _Direction, fraction: float) -> tuple[float, float]:
        """Return the step lengths in (P) and (D): a fraction of the way to the boundary, at most 1."""
        J = self.A.inequality
        primal = _longest(self.X.arrow, d.X, Arrow.is_completable, min(1.0 / fraction, _ratio(self.s, d.s)))
        dual = _longest(self.S, d.S, Arrow.is_positive, min(1.0 / fraction, _ratio(self.y[J], d.y[J])))
        return min(1.0, fraction * primal), min(1.0, fraction * dual)

    def moved(self, d: _Direction, alpha_p: float, alpha_d: float, C: Arrow) -> _Iterate | None:
        """Return the next iterate; None if rounding has made it leave the cone."""
        y, gamma = self.y + alpha_d * d.y, self.gamma + alpha_d * d.gamma
        S = C - self.A.adjoint(y, gamma)
        X, Z = (self.X.arrow + alpha_p * d.X).completion(), S.inverse()
        if X is None or Z is None:
            return None
        return _Iterate(self.A, X, self.s + alpha_p * d.s, y, gamma, S, Z)


@dataclass(frozen=True, eq=False)
class _Newton:
    """The linearised conditions at an iterate, ready for several right sides.

    ::

        <A_i, X + dX> = s_i + ds_i  (or 0),      X_00 + dX_00 = 1,      dS = -sum dy_i A_i - dgamma E_00
        X + dX + sym(X dS Z)  = sigma mu Z - (second order)
        s_i y_i + y_i ds_i + s_i dy_i  = sigma mu - (second order)

    Eliminating dX and ds leaves M (dy, dgamma) = r with M_ij = tr(A_i X A_j Z), plus s_i / y_i on the diagonal.
    """

    run: _Iterate
    mu: float
    M: Array
    scaling: Array
    factor: tuple[Array, bool]
    AZ: Array

    @classmethod
    def of(cls, run: _Iterate, mu: float) -> _Newton | None:
        """Form and factorise the Schur complement, scaled to a unit diagonal; None if that fails."""
        J = np.flatnonzero(run.A.inequality)
        M = run.A.gram(run.X, run.Z)
        M[J, J] += run.s / run.y[J]
        scaling = 1.0 / np.sqrt(M.diagonal())
        M *= scaling
        M *= scaling[:, None]
        for more in REGULAR:
            try:
                regular = M + more * np.eye(len(M)) if more else M
                factor = cho_factor(regular, lower=True, check_finite=False)
            except LinAlgError:
                continue
            return cls(run, mu, M, scaling, factor, run.A.apply(run.Z.arrow))
        return None

    def direction(self, sigma: float, second: Arrow | None = None, second_s: Array | float = 0.0) -> _Direction:
        """Return the direction towards sigma mu, with second-order terms if given."""
        run, A = self.run, self.run.A
        J = A.inequality
        y, target = run.y[J], sigma * self.mu
        r = np.append(-target * self.AZ, 1.0 - target * run.Z.core[0, 0])
        r[:-1][J] += (target - second_s) / y
        if second is not None:
            r[:-1] += A.apply(second)
            r[-1] += second.head[0, 0]
        # One step of iterative refinement: M is nearly singular towards the end.
        r *= self.scaling
        x = cho_solve(self.factor, r, check_finite=False)
        x += cho_solve(self.factor, r - self.M @ x, check_finite=False)
        x *= self.scaling
        dy, dgamma = x[:-1], float(x[-1])
        dS = -1.0 * A.adjoint(dy, dgamma)
        dX = target * run.Z.arrow - run.X.arrow - sandwich(run.X, dS, run.Z)
        ds = (target - second_s) / y - run.s - run.s / y * dy[J]
        return _Direction(dX if second is None else dX - second, ds, dy, dgamma, dS)


def _longest(start: Arrow, change: Arrow, inside: Callable[[Arrow], bool], limit: float) -> float:
    """Return how far one can go, at most `limit`, to within a hundredth; nothing is known to be outside below it."""
    if inside(start + limit * change):
        return limit
    low, high = 0.0, limit
    while high - low > 0.01 * high and high > SHORTEST:
        middle = 0.5 * (low + high)
        if inside(start + middle * change):
            low = middle
        else:
            high = middle
    return low


def _ratio(x: Array, dx: Array) -> float:
    """Return how far one can go before an entry becomes 0."""
    falling = dx < 0
    return float(np.min(-x[falling] / dx[falling], initial=np.inf))


class Operator:
    """The map y, gamma -> sum y_i A_i + gamma E_00, its adjoint and its Schur complement.

    Parameters
    ----------
    lifted : Lifted

    Attributes
    ----------
    N, m, h : int
        Variables, products, order of the arrow's head.
    inequality : (N + m,) bool
    """

    def __init__(self, lifted: Lifted) -> None:
        self.N, self.m, self.h = lifted.n_variables, lifted.n_products, 1 + lifted.hidden
        self.inequality: NDArray[np.bool_] = np.concatenate([np.ones(self.N, bool), ~lifted.equality])
        self._left, self._right, self._radial = lifted.left, lifted.right, lifted.radial
        self._forms = lifted.forms
        # Of the basis, products use the head, the forms and rarely an input: q = U times a column of Q.
        n = 1 + self.N
        used = np.flatnonzero(np.diff(lifted.right.tocsr().indptr))
        plain, forms = used[used < n], used[used >= n] - n
        self._U = np.concatenate([np.eye(n)[:, plain], lifted.forms[:, forms]], axis=1)
        self._Q = lifted.right.tocsr()[used].T.tocsr()
        self._P = lifted.left.T.tocsr()

    def linear(self, c: Array) -> Arrow:
        """Return the matrix of a linear objective: <C, w w'> = c.w."""
        h = self.h
        head, border = np.zeros((h, h)), np.zeros((self.N + 1 - h, h))
        head[0] += 0.5 * c[:h]
        head[:, 0] += 0.5 * c[:h]
        border[:, 0] = 0.5 * c[h:]
        return Arrow(head, border, np.zeros(len(border)))

    def adjoint(self, y: Array, gamma: float) -> Arrow:
        """Return sum y_i A_i + gamma E_00."""
        h, n = self.h, 1 + self.N
        products = y[self.N :]
        box = y[: self.N] + self._radial @ products
        W = ((self._left * products) @ self._right.T).toarray()
        W = W[:, :n] + W[:, n:] @ self._forms.T
        head = 0.5 * (W[:, :h] + W[:, :h].T)
        head[0, 0] += gamma + box.sum()
        index = np.arange(1, h)
        head[index, index] -= box[: h - 1]
        return Arrow(head, 0.5 * W[:, h:].T, -box[h - 1 :])

    def apply(self, X: Arrow) -> Array:
        """Return <A_i, X> for all i."""
        diagonal = np.concatenate([X.head.diagonal(), X.tail])
        box = diagonal[0] - diagonal[1:]
        XQ = self._Q @ (np.concatenate([X.head, X.border]).T @ self._U).T
        products = np.asarray(self._P.multiply(XQ).sum(axis=1)).ravel()
        return np.concatenate([box, products + self._radial.T @ box])

    def gram(self, X: Completed, Z: Completed) -> Array:
        """Return tr(A_i X A_j Z) for all i and j, the last of them E_00.

        For products, with A = (p q' + q p') / 2, that is a quarter of
        (q_i'X p_j)(p_i'Z q_j) + (q_i'X q_j)(p_i'Z p_j) + (p_i'X p_j)(q_i'Z q_j) + (p_i'X q_j)(q_i'Z p_j).
        """
        N, m, h = self.N, self.m, self.h - 1
        XP, XQ, pXp, pXq, qXq = self._forms_in(X)
        ZP, ZQ, pZp, pZq, qZq = self._forms_in(Z)
        M = np.empty((N + m + 1, N + m + 1))
        box, products = slice(0, N), slice(N, N + m)
        # E_kl = tr(E_kk X E_ll Z) = X_kl Z_kl; its tail is most of the work.
        E = X.columns * Z.columns
        tail = X.corner
        tail *= Z.corner
        M[:h, :h], M[h:N, :h], M[:h, h:N], M[h:N, h:N] = E[1 : 1 + h, 1:], E[1 + h :, 1:], E[1 + h :, 1:].T, tail
        M[box, box] -= E[1:, 0]
        M[box, box] += (E[0, 0] - E[1:, 0])[:, None]
        M[-1, box] = E[0, 0] - E[1:, 0]
        M[-1, -1] = E[0, 0]
        mixed = 0.5 * (XP * ZQ + XQ * ZP)  # tr(E_kk X A_j Z)
        np.subtract(mixed[0], mixed[1:], out=M[box, products])
        M[-1, products] = mixed[0]
        M[products, products] = 0.25 * (pXq.T * pZq + qXq * pZp + pXp * qZq + pXq * pZq.T)
        if self._radial.nnz:
            D = self._radial.toarray()
            cross = D.T @ M[box, products]
            M[products, products] += cross + cross.T + D.T @ M[box, box] @ D
            M[box, products] += M[box, box] @ D
            M[-1, products] += M[-1, box] @ D
        M[products, box] = M[box, products].T
        M[:-1, -1] = M[-1, :-1]
        return M

    def _forms_in(self, R: Completed) -> tuple[Array, Array, Array, Array, Array]:
        """Return R P, R Q, P'R P, P'R Q and Q'R Q, the p_j and q_j being the columns of P and Q."""
        h = self.h
        RP = (self._P @ R.columns.T).T
        RQ = (self._Q @ (R @ self._U).T).T
        return RP, RQ, self._P @ RP[:h], self._P @ RQ[:h], self._Q @ (self._U.T @ RQ)
