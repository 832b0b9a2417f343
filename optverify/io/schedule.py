"""From a graph of coordinates to a sequence of layers.

A reader describes a network as a growing list of coordinates: the inputs, then rows (affine in earlier
coordinates) and rectified coordinates. Every coordinate has a place in time: its *depth*, the number of
Relu layers below it, and its *step*, the number of Affine layers since the last of them. Both are as
small as they can be, so parallel branches share layers. Layers are then laid out in this order, each
carrying along what is still needed later and dropping the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optverify.errors import InputError
from optverify.interval import Array
from optverify.io.sparse import csr, stack
from optverify.network import Affine, Layer, Relu

Ids = NDArray[np.int64]

ZERO = -1
"""The coordinate that is always 0 (padding): rows drop it, so it never takes part."""

STEPS = 2**32
"""A place in time is ``depth * STEPS + step``."""

LARGEST = 2**24
"""More coordinates than this are refused: far above what can be verified, and a sign of a damaged file."""

MOST_TERMS = 2**28
"""A sparse step with more terms than this is refused; it would need several gigabytes."""

DENSE_SHARE = 0.25
"""Matrices with at least this share of nonzeros are stored dense ..."""

DENSE_SIZE = 4096
"""... and those with no more entries than this too."""


@dataclass(frozen=True, eq=False)
class Rows:
    """The coordinates first, first + 1, ... are ``weight @ values[columns] + bias``.

    Parameters
    ----------
    first : int
    weight : (m, k) float64, dense or csr_array; or (m,), a diagonal
    columns : (k,) int
        Distinct coordinates, none of them :data:`ZERO`.
    bias, roundings, slack : (m,) arrays
        As in :class:`optverify.network.Affine`.
    """

    first: int
    weight: Any
    columns: Ids
    bias: Array
    roundings: NDArray[np.int64]
    slack: Array

    @property
    def stop(self) -> int:
        """One past the last coordinate."""
        return self.first + self.bias.size

    @property
    def rounded(self) -> NDArray[np.bool_]:
        """Which rows two evaluations of may differ, so that none may be written twice."""
        return np.asarray((self.roundings > 0) | (self.slack > 0))

    def reads(self, rows: NDArray[np.int64]) -> Ids:
        """Return the coordinates that some of the rows read; a stored zero counts as read."""
        if self.weight.ndim == 1:
            return self.columns[rows]
        if isinstance(self.weight, np.ndarray) or rows.size == self.bias.size:
            return self.columns
        used: NDArray[np.int64] = np.unique(self.weight[rows].indices)
        return self.columns[used]

    def select(self, rows: NDArray[np.int64]) -> tuple[Any, Ids]:
        """Return the weight and the columns of some rows, in any order and also repeatedly."""
        weight = self.weight
        if weight.ndim == 1:
            if len(set(rows.tolist())) == rows.size:
                return weight[rows], self.columns[rows]
            weight = csr(weight)
        whole = np.array_equal(rows, np.arange(self.bias.size))
        return weight if whole else weight[rows], self.columns


@dataclass(frozen=True, eq=False)
class Rectified:
    """The coordinates first, first + 1, ... are ``max(values[sources], 0)``."""

    first: int
    sources: Ids

    @property
    def stop(self) -> int:
        """One past the last coordinate."""
        return self.first + self.sources.size


def check_terms(count: int) -> None:
    """Refuse a step that is too large, before it is made.

    Raises
    ------
    InputError
        There are more than :data:`MOST_TERMS` terms.
    """
    if count > MOST_TERMS:
        raise InputError(f"one step with {count} products is too large; at most {MOST_TERMS} are supported")


class Graph:
    """All coordinates of a network under construction.

    Parameters
    ----------
    n_inputs : int
        The coordinates 0, ..., n_inputs - 1.

    Raises
    ------
    InputError
        Something is added beyond :data:`LARGEST` coordinates.
    """

    def __init__(self, n_inputs: int) -> None:
        self.n_inputs = n_inputs
        self.operations: list[Rows | Rectified] = []
        self.size = n_inputs
        self._time = np.zeros(max(2 * n_inputs, 1024), np.int64)
        self._operation = np.full(self._time.size, -1, np.int64)

    @property
    def time(self) -> NDArray[np.int64]:
        """Place in time of each coordinate."""
        return self._time[: self.size]

    @property
    def operation(self) -> NDArray[np.int64]:
        """Position in `operations` of what computes each coordinate; -1 for inputs."""
        return self._operation[: self.size]

    def rows(self, weight: Any, columns: Ids, bias: Array, roundings: NDArray[np.int64], slack: Array) -> Ids:
        """Add rows; see :class:`Rows`."""
        time = int(self.time[columns].max()) + 1 if columns.size else 1
        self.operations.append(Rows(self.size, weight, columns, bias, roundings, slack))
        return self._append(np.full(bias.size, time))

    def rectified(self, sources: Ids) -> Ids:
        """Add the rectified values of distinct coordinates."""
        self.operations.append(Rectified(self.size, sources))
        return self._append((self.time[sources] // STEPS + 1) * STEPS)

    def _append(self, time: NDArray[np.int64]) -> Ids:
        start, stop = self.size, self.size + time.size
        if stop > LARGEST:
            raise InputError(f"the network has more than {LARGEST} intermediate values, which is too large")
        if stop > self._time.size:
            grown = max(2 * self._time.size, stop)
            self._time, self._operation = np.resize(self._time, grown), np.resize(self._operation, grown)
        self._time[start:stop] = time
        self._operation[start:stop] = len(self.operations) - 1
        self.size = stop
        return np.arange(start, stop)


def layers(graph: Graph, outputs: Ids) -> tuple[Layer, ...]:
    """Lay a graph out as layers.

    Parameters
    ----------
    graph : Graph
    outputs : (k,) int
        Coordinates that the last layer gives, in this order; repetitions and :data:`ZERO` are allowed.

    Returns
    -------
    tuple of Affine and Relu
        At least one.
    """
    use = _Use.of(graph, outputs)
    found: list[Layer] = []
    state = np.arange(graph.n_inputs)
    for depth, steps in enumerate(use.steps):
        last_gap = depth == len(use.steps) - 1
        before, after = (outputs, outputs) if last_gap else use.around_relu(depth, state if steps == 0 else None)
        for step in range(1, steps + 1):
            then = before if step == steps else use.alive(depth * STEPS + step)
            found.append(_affine(state, then, use.blocks.get(depth * STEPS + step, []), graph.size))
            state = then
        if not last_gap:
            found.append(Relu(before != after))
            state = after
    if not found or not np.array_equal(state, outputs):
        found.append(_affine(state, outputs, [], graph.size))
    return tuple(found)


@dataclass(frozen=True, eq=False)
class _Use:
    """Who needs which coordinate until when.

    Parameters
    ----------
    time : (N,) int
    until : (N,) int
        The last place in time whose layer reads the coordinate itself; -1 for dead coordinates.
    rectified : (N,) int
        The live coordinate that is this one rectified, or -1.
    source : (N,) int
        The coordinate that this one is the rectified value of, or -1.
    steps : list of int
        Number of Affine layers before the first Relu layer, between the first and the second, and so on.
    blocks : dict
        Live rows by their place in time.
    """

    time: NDArray[np.int64]
    until: NDArray[np.int64]
    rectified: Ids
    source: Ids
    steps: list[int]
    blocks: dict[int, list[Rows]]

    @classmethod
    def of(cls, graph: Graph, outputs: Ids) -> _Use:
        size, alive = graph.size, _alive(graph, outputs)
        live, rounded = np.zeros(size, bool), np.zeros(size, bool)
        until, rectified, source = (np.full(size, -1) for _ in range(3))
        # Dead rows of an operation may read later values than its live ones: places in time are found anew.
        time = np.zeros(size, np.int64)
        blocks: dict[int, list[Rows]] = {}
        for operation, rows, raw in alive:
            fresh = operation.first + rows
            if isinstance(operation, Rectified):
                time[fresh] = (time[raw] // STEPS + 1) * STEPS
                rectified[raw], source[fresh] = fresh, raw
            else:
                now = int(time[raw].max(initial=0)) + 1
                time[fresh] = now
                until[raw] = np.maximum(until[raw], now)
                rounded[operation.first : operation.stop] = operation.rounded
                blocks.setdefault(now, []).append(operation)
            live[fresh] = live[raw] = True
        shown, times_shown = np.unique(outputs[outputs != ZERO], return_counts=True)
        live[shown], until[shown] = True, np.iinfo(np.int64).max

        depth, step = np.divmod(time, STEPS)
        steps = np.zeros(int(depth[live].max(initial=0)) + 1, np.int64)
        np.maximum.at(steps, depth[live], step[live])
        # A value that is wanted twice in one state, rectified and as it is, or as two outputs, is copied by the
        # Affine layer below. Rows that this very layer computes with rounding must not be written twice: two
        # evaluations may differ. A layer that only copies comes in between.
        twice = live & (rectified >= 0) & (until >= (depth + 1) * STEPS)
        twice[shown[(times_shown > 1) & (depth[shown] == steps.size - 1)]] = True
        twice &= (step == steps[np.minimum(depth, steps.size - 1)]) & (rounded | (step == 0))
        steps += np.bincount(depth[twice], minlength=steps.size) > 0
        return cls(time, until, rectified, source, steps.tolist(), blocks)

    def alive(self, now: int) -> Ids:
        """Return the coordinates of the state that the Affine layer at a place in time gives."""
        here = (self.time <= now) & (self.until > now)
        here |= (self.time <= now) & (self.rectified >= 0) & (self.time >= now - now % STEPS)
        return np.flatnonzero(here)

    def around_relu(self, depth: int, state: Ids | None) -> tuple[Ids, Ids]:
        """Return the states below and above a Relu layer; it rectifies where they differ.

        Parameters
        ----------
        depth : int
            Number of Relu layers below.
        state : (n,) int, optional
            The state below, where no Affine layer can still arrange it.
        """
        if state is not None:
            rectified = self.rectified[state]
            return state, np.where(rectified >= 0, rectified, state)
        above = (depth + 1) * STEPS  # where the fresh rectified values are; all others there ride along
        after = np.flatnonzero((self.time <= above) & (self.until > above))
        before = np.where(self.time[after] == above, self.source[after], after)
        order = np.argsort(before, kind="stable")
        return before[order], after[order]


def _alive(graph: Graph, outputs: Ids) -> list[tuple[Rows | Rectified, NDArray[np.int64], Ids]]:
    """Return what the outputs need, in order: each operation with its live rows and what they read."""
    live = np.zeros(graph.size, bool)
    live[outputs[outputs != ZERO]] = True
    found = []
    for operation in reversed(graph.operations):
        rows = np.flatnonzero(live[operation.first : operation.stop])
        if rows.size:
            raw = operation.sources[rows] if isinstance(operation, Rectified) else operation.reads(rows)
            live[raw] = True
            found.append((operation, rows, raw))
    return found[::-1]


def _affine(before: Ids, after: Ids, blocks: list[Rows], size: int) -> Affine:
    """Return the layer from one state to another; what no block computes is passed through."""
    position = np.full(size + 1, -1, np.int32)  # one more, so that ZERO has none
    position[before] = np.arange(before.size)
    wanted, copies = np.unique(after, return_inverse=True)
    riders = np.flatnonzero(position[wanted] >= 0)
    bias, slack = np.zeros(wanted.size), np.zeros(wanted.size)
    roundings = np.zeros(wanted.size, np.int64)
    pieces: list[Piece] = []
    for block in blocks:
        start, stop = (int(i) for i in np.searchsorted(wanted, (block.first, block.stop)))
        if start == stop:
            continue
        rows = wanted[start:stop] - block.first
        weight, columns = block.select(rows)
        pieces.append((np.arange(start, stop), weight, position[columns]))
        bias[start:stop], slack[start:stop] = block.bias[rows], block.slack[rows]
        roundings[start:stop] = block.roundings[rows]
    pieces.append((riders, np.ones(riders.size), position[wanted[riders]]))
    weight = _assemble(pieces, (wanted.size, before.size))
    if not np.array_equal(wanted, after):
        weight, bias, roundings, slack = weight[copies], bias[copies], roundings[copies], slack[copies]
    return Affine(weight, bias, roundings, slack)


Piece = tuple[NDArray[np.int64], Any, NDArray[np.int32]]


def _assemble(pieces: list[Piece], shape: tuple[int, int]) -> Any:
    """Put (rows, matrix, columns) together, dense or sparse by their share of nonzeros."""
    nonzeros = sum(np.count_nonzero(m) if isinstance(m, np.ndarray) else m.count_nonzero() for _, m, _ in pieces)
    if shape[0] * shape[1] <= DENSE_SIZE or nonzeros >= DENSE_SHARE * shape[0] * shape[1]:
        return _assemble_dense(pieces, shape)
    return _assemble_sparse(pieces, shape)


def _assemble_dense(pieces: list[Piece], shape: tuple[int, int]) -> Array:
    dense = np.zeros(shape)
    for rows, piece, columns in pieces:
        if not isinstance(piece, np.ndarray):
            entries = piece.tocoo()
            dense[rows[entries.row], _present(columns[entries.col])] = entries.data
        elif piece.ndim == 1:
            dense[rows, _present(columns)] = piece
        elif columns.size and (np.diff(columns) == 1).all() and columns[0] >= 0:
            dense[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = piece
        else:
            dense[rows[:, None], _present(columns)] = piece
    return dense


def _assemble_sparse(pieces: list[Piece], shape: tuple[int, int]) -> Any:
    stacked, places = [], []
    for rows, piece, columns in pieces:
        part = csr(piece)
        indices = _present(columns[part.indices])
        stacked.append(csr((part.data, indices, part.indptr), (rows.size, shape[1])))
        places.append(rows)
    place = np.concatenate(places)
    empty = np.setdiff1d(np.arange(shape[0]), place)  # a row for ZERO has no entries
    stacked.append(csr((empty.size, shape[1])))
    place = np.concatenate([place, empty])
    joined = stack(stacked)
    return joined if (np.diff(place) == 1).all() else joined[np.argsort(place)]


def _present(columns: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the positions, all of which must exist: -1 would silently mean the last one."""
    if columns.size and columns.min() < 0:
        raise AssertionError("a row reads a coordinate that the layer below does not carry")
    return columns
