"""An interior-point method for the lifted relaxation."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from optverify.formulations.lifted import Lifted
from optverify.interval import Array
from optverify.solvers.arrow import Arrow, Completed, sandwich
from optverify.solvers.solution import Status


@dataclass(frozen=True, eq=False)
class Interior:
    status: Status
    box: Array
    products: Array
    bound: float
    objective: float
    residual: float
    X: Completed
    point: Array
    iterations: int
    seconds: float
    cpu: float = 0.0


class Operator:
    """y -> sum y_i A_i and its adjoint: box, then products, then the entry X_00."""

    def __init__(self, lifted: Lifted) -> None:
        self.h = 1 + lifted.hidden
        self.N, self.m = lifted.n_variables, lifted.n_products
        n = 1 + self.N
        self.P, self.Q = lifted.left, lifted.right
        self.PT = self.P.T.tocsr()
        self.forms, self.radial = lifted.forms, lifted.radial
        used = np.flatnonzero(np.diff(self.Q.tocsr().indptr))
        plain = used[used < n]
        self.U = np.concatenate([np.eye(n)[:, plain], self.forms[:, used[used >= n] - n]], axis=1)
        self.QT = self.Q.tocsr()[used].T.tocsr()
        self.inequality = np.concatenate([np.ones(self.N, bool), ~lifted.equality])

    def adjoint(self, y: Array, gamma: float) -> Arrow:
        h, n = self.h, 1 + self.N
        box, products = y[: self.N] + self.radial @ y[self.N :], y[self.N :]
        W = ((self.P * products) @ self.Q.T).toarray()
        W = W[:, :n] + W[:, n:] @ self.forms.T
        head = 0.5 * (W[:, :h] + W[:, :h].T)
        head[0, 0] += gamma + box.sum()
        head[np.arange(1, h), np.arange(1, h)] -= box[: h - 1]
        return Arrow(head, 0.5 * W[:, h:].T, -box[h - 1 :])

    def apply(self, X: Arrow) -> Array:
        h = self.h
        diagonal = np.concatenate([np.diag(X.head), X.tail])
        box = diagonal[0] - diagonal[1:]
        top = np.concatenate([X.head, X.border.T], axis=1)
        products = (self.PT.multiply((self.QT @ (top @ self.U).T).T.T if False else (self.QT @ (self.U.T @ top.T)))).sum(axis=1)
        return np.concatenate([box, np.asarray(products).ravel() + self.radial.T @ box])

    def gram(self, X: Completed, Z: Completed) -> Array:
        """tr(A_i X A_j Z), symmetrised by the two factors of each."""
        N, m, h = self.N, self.m, self.h
        parts = []
        for R in (X, Z):
            RU = R @ self.U
            RP = (self.PT @ R.columns.T).T
            RQ = (self.QT @ RU.T).T
            PP = self.PT @ RP[:h]
            PQ = self.PT @ RQ[:h]
            QQ = self.QT @ (self.U.T @ RQ)
            parts.append((RP, RQ, PP, PQ, QQ))
        (XP, XQ, XPP, XPQ, XQQ), (ZP, ZQ, ZPP, ZPQ, ZQQ) = parts
        M = np.empty((N + m + 1, N + m + 1))
        E = X.dense * Z.dense
        C = 0.5 * (XP * ZQ + XQ * ZP)
        b, p = slice(0, N), slice(N, N + m)
        M[b, b] = E[1:, 1:] - E[0, 1:] - E[1:, 0][:, None] + E[0, 0]
        M[b, p] = C[0] - C[1:]
        pp = M[p, p]
        np.multiply(XPQ.T, ZPQ, out=pp)
        pp += XPQ * ZPQ.T
        pp += XQQ * ZPP
        pp += XPP * ZQQ
        pp *= 0.25
        M[-1, b] = E[0, 0] - E[0, 1:]
        M[-1, p] = C[0]
        M[-1, -1] = E[0, 0]
        if self.radial.nnz:
            D = self.radial.toarray()
            M[p, p] += D.T @ M[b, p] + M[b, p].T @ D + D.T @ M[b, b] @ D
            M[b, p] += M[b, b] @ D
            M[-1, p] += M[-1, b] @ D
        M[p, b] = M[b, p].T
        M[:-1, -1] = M[-1, :-1]
        return M


def longest(start: Any, change: Any, positive: Any, limit: float) -> float:
    if positive(start + limit * change):
        return limit
    low, high = 0.0, limit
    for _ in range(12):
        middle = 0.5 * (low + high)
        if positive(start + middle * change):
            low = middle
        else:
            high = middle
        if high - low < 0.01 * high:
            break
    return low


def ratio(x: Array, dx: Array) -> float:
    falling = dx < 0
    return float(np.min(-x[falling] / dx[falling], initial=np.inf))


def solve(lifted: Lifted, stop_above: float = np.inf, stop_below: float = -np.inf, tolerance: float = 1e-7,
          max_iterations: int = 80, verbose: bool = False) -> Interior:
    t0, c0 = time.monotonic(), time.process_time()
    A = Operator(lifted)
    N, m, h = A.N, A.m, A.h
    scale = np.abs(lifted.cost[1:]).max(initial=0.0) or 1.0
    c = lifted.cost / scale
    offset, c = c[0], np.concatenate([[0.0], c[1:]])
    head = np.zeros((h, h)); head[0] += c[:h] / 2; head[:, 0] += c[:h] / 2
    border = np.zeros((N + 1 - h, h)); border[:, 0] = c[h:] / 2
    C = Arrow(head, border, np.zeros(N + 1 - h))
    I = A.inequality
    y = np.where(I, 0.1, 0.0)
    y[:N] = 1.0
    gamma = -2.0 * N
    while not (S := C - A.adjoint(y, gamma)).is_positive():
        y[:N] *= 2; gamma *= 2
    X = Arrow(np.diag(np.r_[1.0, np.full(h - 1, 1 / 3)]), np.zeros((N + 1 - h, h)), np.full(N + 1 - h, 1 / 3)).completion()
    s = np.maximum(A.apply(X.arrow), 0.3)[I]
    nu = 1 + N + I.sum()
    best = (-np.inf, y)
    status = Status.LIMIT
    for it in range(max_iterations):
        Z = S.inverse()
        Xa = X.arrow
        AX, AZ = A.apply(Xa), A.apply(Z.arrow)
        mu = (Xa.dot(S) + s @ y[I]) / nu
        r = -AX; r[I] += s
        residual = max(np.abs(r).max(initial=0.0), abs(1 - Xa.head[0, 0]))
        objective = Xa.dot(C)
        bound = gamma + 1 / Z.core[0, 0]
        if bound > best[0]:
            best = (bound, y.copy())
        if verbose:
            print(f"{it:2d} bound {(bound+offset)*scale:.8f} primal {(objective+offset)*scale:.8f} res {residual:.1e} mu {mu:.1e} cpu {time.process_time()-c0:.2f}")
        if (bound + offset) * scale > stop_above or residual < 1e-6 and (objective + offset) * scale < stop_below:
            break
        if mu * nu < tolerance * (1 + abs(bound + offset)) and residual < 1e-5:
            status = Status.OPTIMAL
            break
        M = A.gram(X, Z)
        index = np.flatnonzero(I)
        M[index, index] += s / y[I]
        d = 1 / np.sqrt(np.diag(M))
        M *= d; M *= d[:, None]
        for reg in (0.0, 1e-14, 1e-12, 1e-10, 1e-8):
            try:
                K = M.copy(); K[np.diag_indices(len(K))] += reg
                K = cho_factor(K, lower=True, overwrite_a=True, check_finite=False)
                break
            except LinAlgError:
                continue
        def system(b):
            b = d * b
            x = cho_solve(K, b, check_finite=False)
            x += cho_solve(K, b - M @ x, check_finite=False)
            return d * x
        def direction(sigma, second=None, second_s=None):
            rhs = np.append(-sigma * mu * AZ, 1 - sigma * mu * Z.core[0, 0])
            rhs[index] += sigma * mu / y[I]
            if second is not None:
                rhs[:-1] += A.apply(second); rhs[-1] += second.head[0, 0]
                rhs[index] -= second_s / y[I]
            x = system(rhs)
            dy, dgamma = x[:-1], x[-1]
            dS = -1.0 * A.adjoint(dy, dgamma)
            dX = sigma * mu * Z.arrow - Xa - sandwich(X, dS, Z)
            ds = sigma * mu / y[I] - s - s / y[I] * dy[I]
            if second is not None:
                dX = dX - second
                ds = ds - second_s / y[I]
            return dy, dgamma, dS, dX, ds
        def steps(D, f):
            dy, dgamma, dS, dX, ds = D
            ap = longest(Xa, dX, Arrow.is_completable, min(1 / f, ratio(s, ds)))
            ad = longest(S, dS, Arrow.is_positive, min(1 / f, ratio(y[I], dy[I])))
            return min(1.0, f * ap), min(1.0, f * ad)
        D = direction(0.0)
        ap, ad = steps(D, 0.97)
        dy, dgamma, dS, dX, ds = D
        mua = ((Xa + ap * dX).dot(S + ad * dS) + (s + ap * ds) @ (y[I] + ad * dy[I])) / nu
        am = min(ap, ad)
        sigma = min(0.9, max(0.01, (max(mua, 0) / mu) ** max(1.0, 3 * am * am)))
        second = sandwich(X.derivative(dX), dS, Z)
        f = 0.9 + 0.08 * am
        D = direction(sigma, second, ds * dy[I])
        ap, ad = steps(D, f)
        if min(ap, ad) < 0.4:
            cand = [(min(ap, ad), ap, ad, D)]
            for s2 in (max(sigma, 0.3), 0.6):
                D2 = direction(s2); a2, b2 = steps(D2, f)
                cand.append((min(a2, b2) * (1 - s2 / 2), a2, b2, D2))
            _, ap, ad, D = max(cand, key=lambda t: t[0])
        if verbose: print('    ', round(am,3), round(sigma,4), round(ap,3), round(ad,3), reg)
        if max(ap, ad) < 1e-7:
            status = Status.INACCURATE
            break
        dy, dgamma, dS, dX, ds = D
        Xn = (Xa + ap * dX)
        Xn = Arrow((Xn.head + Xn.head.T) / 2, Xn.border, Xn.tail).completion()
        y = y + ad * dy; gamma += ad * dgamma; s = s + ap * ds
        S = C - A.adjoint(y, gamma)
        X = Xn
    return Interior(status, best[1][:N] * scale, best[1][N:] * scale, (best[0] + offset) * scale, (objective + offset) * scale,
                    residual, X, Z.columns[1:, 0] / Z.core[0, 0], it, time.monotonic() - t0, time.process_time() - c0)
