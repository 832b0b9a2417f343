"""The fast checker: replay a proof's tree in rigorous floating point, many nodes at a time.

It shares the arithmetic of :mod:`optverify.safe` with the search, and nothing else; ``kernel.py`` is the checker that
shares nothing. A node starts with the bounds of its parent, cut by the split; a refresh intersects them with new ones.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import isfinite
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from optverify.bounds.crown import crown
from optverify.bounds.interval_propagation import propagate
from optverify.canonical import network_digest, property_digest
from optverify.deployment import deployed, overflow
from optverify.errors import InputError, MalformedCertificate, RejectedCertificate
from optverify.interval import Array, Interval, nearest
from optverify.network import Network, Relu
from optverify.norms import Cut
from optverify.preactivation import Bounds
from optverify.proof import Close, InputSplit, Proof, walk
from optverify.query import Goal, Query
from optverify.records import Header, read_header, read_trees
from optverify.safe.multipliers import Frame, LinearBounds, Multipliers, Slopes, relu_slopes
from optverify.semantics import REAL

BATCH, ENTRIES = 256, 4_000_000
"""Most nodes at once, and most intervals of theirs."""

ROWS = 512
"""Most closes evaluated at once."""


SURE = 2.0**-40
"""A bound that exceeds this share of its terms is positive in all checkers."""


@dataclass(frozen=True, eq=False)
class Nodes:
    """A batch of nodes on their way through the checker.

    Parameters
    ----------
    proofs : list of B Proof
    box : Interval, ends of shape (B, n_inputs)
    bounds : Bounds, ends of shape (B, n_k)
        What is known of the pre-activations.
    open : (B, groups) bool
        Groups that are not closed yet.
    depth : (B,) int
    """

    proofs: list[Proof]
    box: Interval
    bounds: Bounds
    open: NDArray[np.bool_]
    depth: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.proofs)

    @property
    def empty(self) -> NDArray[np.bool_]:
        """Which of them are known to hold no point."""
        empty = np.broadcast_to(self.bounds.empty, len(self))
        return empty | self.box.outside if isinstance(self.box, Cut) else empty

    @classmethod
    def root(cls, goal: Goal, proof: Proof) -> Nodes:
        """Return the first node of a tree: bounds by interval arithmetic."""
        box = goal.region.outward.take(None)
        bounds = propagate(goal.network, box)[0]
        return cls([proof], box, bounds, np.ones((1, len(goal.groups)), bool), np.zeros(1, np.int64))

    def take(self, index: NDArray[np.intp]) -> Nodes:
        """Return some of the nodes."""
        proofs = [self.proofs[b] for b in index.tolist()]
        return Nodes(proofs, self.box.take(index), self.bounds.take(index), self.open[index], self.depth[index])

    def frame(self, network: Network, at: NDArray[np.intp]) -> Frame:
        """Return a frame over some of the nodes, which may be listed more than once.

        It knows of the pre-activations what the nodes know and no more: without a refresh, the exact checker does not
        look at the box.
        """
        once, back = np.unique(at, return_inverse=True)
        frame, known = Frame(network, self.box.take(once)), iter(self.bounds.take(once).layers)
        for layer in network.layers:
            if isinstance(layer, Relu):
                frame.inputs[-1] = next(known)
            frame.step()
        return frame if once.size == at.size and (once == at).all() else frame.take(back)

    def refreshed(self, network: Network, which: NDArray[np.bool_]) -> Nodes:
        """Return the nodes with the bounds of some of them computed anew."""
        here = np.flatnonzero(which)
        if not here.size:
            return self
        better, _ = crown(network, self.box.take(here), self.bounds.take(here))
        if here.size == len(self):
            return replace(self, bounds=better)
        layers = [Interval(z.lower.copy(), z.upper.copy()) for z in self.bounds.layers]
        for z, new in zip(layers, better.layers, strict=True):
            z.lower[here], z.upper[here] = new.lower, new.upper
        return replace(self, bounds=Bounds(tuple(layers)))

    def children(self, within: Container[Proof] | None = None) -> Nodes:
        """Return both halves of all nodes that are split and not done, one after the other; some of them if asked.

        Raises
        ------
        RejectedCertificate
            An input is cut outside its interval.
        """
        left = np.asarray(self.open.any(axis=1))
        parents = [b for b, proof in enumerate(self.proofs) if proof.split is not None and left[b]]
        index = np.repeat(np.array(parents, np.intp), 2)
        halves = self.take(index)
        for low in range(0, len(halves), 2):
            split, (first, second) = halves.proofs[low].split, halves.proofs[low].children
            halves.proofs[low], halves.proofs[low + 1] = first, second
            if isinstance(split, InputSplit):
                i, at, box = split.index, split.at, halves.box
                if not box.lower[low, i] < at < box.upper[low, i]:
                    raise RejectedCertificate(
                        f"at depth {halves.depth[low]}: input {i} is cut at {at}, outside its interval"
                    )
                box.upper[low, i] = box.lower[low + 1, i] = at
            elif split is not None:
                z, j = halves.bounds.layers[split.relu], split.index
                z.upper[low, j], z.lower[low + 1, j] = min(z.upper[low, j], 0.0), max(z.lower[low + 1, j], 0.0)
        halves = replace(halves, depth=halves.depth + 1)
        if within is None:
            return halves
        return halves.take(np.array([b for b, proof in enumerate(halves.proofs) if proof in within], np.intp))

    @staticmethod
    def joined(parts: Sequence[Nodes]) -> Nodes:
        """Put batches one behind the other."""
        if len(parts) == 1:
            return parts[0]
        layers = zip(*(part.bounds.layers for part in parts), strict=True)
        boxes = Interval.joined([part.box for part in parts])
        return Nodes(
            [proof for part in parts for proof in part.proofs],
            replace(parts[0].box, lower=boxes.lower, upper=boxes.upper),
            Bounds(tuple(Interval.joined(zs) for zs in layers)),
            np.concatenate([part.open for part in parts]),
            np.concatenate([part.depth for part in parts]),
        )


@dataclass(frozen=True, eq=False)
class Advised:
    """Multipliers of many closes as a certificate has them: advice where there is some, else the CROWN rule.

    Parameters
    ----------
    slopes, multipliers : sequence of (B, n_k) float64, one per Relu
        NaN where the rule is meant.
    """

    slopes: Sequence[Array]
    multipliers: Sequence[Array]

    @classmethod
    def of(cls, network: Network, closes: Sequence[Close]) -> Advised:
        """Spread the advice of closes over arrays."""
        masks = network.masks
        slopes, multipliers = np.full((2, len(closes), sum(int(mask.sum()) for mask in masks)), np.nan)
        for b, close in enumerate(closes):
            if close.advice is not None:
                slopes[b, close.advice.sloped] = close.advice.slopes / 255.0
                multipliers[b, close.advice.given] = close.advice.multipliers
        return cls(spread(slopes, masks), spread(multipliers, masks))

    def __call__(self, relu: int, v: Array, z: Interval) -> Array:
        """Return g for one Relu layer; see :class:`optverify.safe.multipliers.Multipliers`."""
        below, above = relu_slopes(z)
        slopes, multipliers = self.slopes[relu], self.multipliers[relu]
        below = np.where((z.lower < 0) & (z.upper > 0) & ~np.isnan(slopes), slopes, below)
        g = np.maximum(v, 0.0) * below[:, None, :] + np.minimum(v, 0.0) * above[:, None, :]
        return np.where(np.isnan(multipliers)[:, None, :], g, multipliers[:, None, :])


def spread(values: Array, masks: Sequence[NDArray[np.bool_]]) -> list[Array]:
    """Return values of neurons, (B, neurons), as one (B, n_k) array per Relu, NaN where nothing is rectified."""
    found, start = [], 0
    for mask in masks:
        part = np.full((len(values), mask.size), np.nan)
        part[:, mask] = values[:, start : start + int(mask.sum())]
        found.append(part)
        start += int(mask.sum())
    return found


def objectives(goal: Goal, closes: Sequence[Close]) -> Array:
    """Return mu . rows of each close as coefficients of the goal's rows, (B, 1, rows)."""
    found = np.zeros((len(closes), 1, goal.network.n_outputs))
    for b, close in enumerate(closes):
        found[b, 0, list(goal.groups[close.group])] = close.weights
    return found


def lower(goal: Goal, nodes: Nodes, at: NDArray[np.intp], closes: Sequence[Close], *, sure: bool = False) -> Array:
    """Bound mu . rows of many closes from below, each on its node.

    Parameters
    ----------
    goal : Goal
    nodes : Nodes
    at : (c,) int
        The node of each close.
    closes : sequence of c Close
    sure : bool
        Whatever the order of sums: see :func:`surely`.

    Returns
    -------
    (c,) float64
        Rigorous.
    """
    value = np.empty(len(closes))
    for here in portions([2 if close.lifted is not None else close.advice is None for close in closes]):
        some = [closes[i] for i in here.tolist()]
        if some[0].lifted is not None:
            value[here] = [_lifted(goal, nodes, b, close) for b, close in zip(at[here], some, strict=True)]
            continue
        choose: Multipliers = Slopes() if some[0].advice is None else Advised.of(goal.network, some)
        frame = nodes.frame(goal.network, at[here])
        found = frame.lower(objectives(goal, some), choose)
        value[here] = surely(found, frame.region) if sure else found.value[:, 0]
    return value


def _lifted(goal: Goal, nodes: Nodes, b: int, close: Close) -> float:
    """Bound mu . rows by a lifted close on one node; rigorous."""
    from optverify.safe.lifted_advice import advised_bound  # scipy: only where there is such a close

    assert close.lifted is not None
    weights = objectives(goal, [close])[0, 0]
    return advised_bound(goal.network, nodes.box.take(b), nodes.bounds.take(b), weights, close.lifted)


def surely(found: LinearBounds, region: Interval) -> Array:
    """Return bounds, (c, 1) of them, less what the order of sums or the exact checker's grid may take away."""
    with np.errstate(all="ignore"):
        size = region.magnitude() + (region.upper - region.lower)
        terms = np.abs(found.constant[:, 0]) + (np.abs(found.coefficients[:, 0]) * size).sum(axis=1)
        return np.asarray(np.nan_to_num(found.value[:, 0] - SURE * terms, nan=-np.inf, posinf=np.inf, neginf=-np.inf))


def portions(kinds: Sequence[object]) -> Iterator[NDArray[np.intp]]:
    """Yield the indices of those of one kind, then of the next, at most ROWS at once."""
    for kind in dict.fromkeys(kinds):
        part = np.flatnonzero([other == kind for other in kinds])
        for start in range(0, part.size, ROWS):
            yield part[start : start + ROWS]


@dataclass(frozen=True, eq=False)
class Fault:
    """A node that does not prove what it must.

    Parameters
    ----------
    proof : Proof
    box : Interval, ends of shape (n_inputs,)
    bounds : Bounds, ends of shape (n_k,)
        Known where the node was checked.
    reason : str
        Its depth, and what is wrong.
    """

    proof: Proof
    box: Interval
    bounds: Bounds
    reason: str


def check_tree(goal: Goal, root: Proof) -> list[Nodes]:
    """Replay a tree; return its open nodes, of which a certificate has none.

    Raises
    ------
    RejectedCertificate
        Some node does not prove what it must.
    """
    unfinished: list[Nodes] = []
    for nodes, faults in replay(goal, root):
        if faults:
            raise RejectedCertificate(f"{_place(root, faults[0].proof)} {faults[0].reason}")
        left = [b for b, proof in enumerate(nodes.proofs) if proof.open and nodes.open[b].any()]
        if left:
            unfinished.append(nodes.take(np.array(left, np.intp)))
    return unfinished


def _place(root: Proof, node: Proof) -> str:
    """Return which node of a tree it is, in the order of the file."""
    every = list(walk(root))
    return f"node {1 + next(i for i, other in enumerate(every) if other is node)} of {len(every)}"


def replay(goal: Goal, root: Proof, within: Container[Proof] | None = None) -> Iterator[tuple[Nodes, list[Fault]]]:
    """Go through a tree; yield batch by batch the nodes that have something to prove, and those that fail.

    Parameters
    ----------
    goal : Goal
    root : Proof
    within : container of Proof, optional
        Go no further than this part of the tree.

    Raises
    ------
    RejectedCertificate
        An input is cut outside its interval.
    """
    waiting = [Nodes.root(goal, root)]
    ready: list[Nodes] = []
    while waiting or ready:
        # Nodes that are only split cost next to nothing: those that cost something are collected to full batches.
        if waiting and sum(len(nodes) for nodes in ready) < BATCH:
            nodes, waiting = gather(waiting)
            costly = np.array([_has_work(proof) for proof in nodes.proofs])
            if costly.any():
                ready.append(nodes.take(np.flatnonzero(costly)))
            nodes = nodes.take(np.flatnonzero(~costly))
        else:
            nodes, ready = Nodes.joined(ready), []
            nodes = nodes.refreshed(goal.network, np.array([proof.refresh for proof in nodes.proofs]))
            yield nodes, _faults(goal, nodes)
        children = nodes.children(within)
        if len(children):
            waiting.append(children)


def _has_work(proof: Proof) -> bool:
    return proof.refresh or bool(proof.closes) or proof.empty or not proof.children


def gather(waiting: list[Nodes]) -> tuple[Nodes, list[Nodes]]:
    """Take a batch of nodes off the end of a list of batches: depth first, so that the list stays short."""
    taken, count = [], 0
    most = max(1, min(BATCH, ENTRIES // (1 + sum(z.lower.shape[1] for z in waiting[-1].bounds.layers))))
    while waiting and count < most:
        nodes, waiting = waiting[-1], waiting[:-1]
        room = most - count
        if len(nodes) > room:
            waiting.append(nodes.take(np.arange(len(nodes) - room)))
            nodes = nodes.take(np.arange(len(nodes) - room, len(nodes)))
        taken.append(nodes)
        count += len(nodes)
    return Nodes.joined(taken), waiting


def _faults(goal: Goal, nodes: Nodes) -> list[Fault]:
    """Evaluate all records of refreshed nodes but their splits; mark what they close."""
    empty, wrong = nodes.empty, dict[int, str]()
    at = np.array([b for b, proof in enumerate(nodes.proofs) for _ in proof.closes], np.intp)
    closes = [close for proof in nodes.proofs for close in proof.closes]
    values = lower(goal, nodes, at, closes)
    for b, close, value in zip(at.tolist(), closes, values.tolist(), strict=True):
        nodes.open[b, close.group] = False
        if not value > 0 and not empty[b]:
            wrong[b] = f"the bound for group {close.group} is {value}, not positive"
    for b, proof in enumerate(nodes.proofs):
        if proof.empty:
            nodes.open[b] = False
            if not empty[b]:
                wrong[b] = "it is said to be empty, and is not shown to be"
        elif proof.split is None and not proof.open and nodes.open[b].any():
            wrong[b] = f"group {int(nodes.open[b].argmax())} is left open"
    return [
        Fault(nodes.proofs[b], nodes.box.take(b), nodes.bounds.take(b), f"at depth {nodes.depth[b]}: {why}")
        for b, why in sorted(wrong.items())
    ]


def header_of(path: str) -> Header:
    """Read the header of a certificate file.

    Raises
    ------
    InputError
        The file cannot be read.
    MalformedCertificate
    """
    try:
        with Path(path).open("rb") as stream:
            return read_header(stream)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None


def check_file(path: str, network: Network, query: Query) -> Header:
    """Check a certificate file; see :func:`check`.

    Raises
    ------
    InputError
        The file cannot be read.
    """
    try:
        with Path(path).open("rb") as stream:
            return check(stream, network, query)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None


def resumed(path: str, network: Network, query: Query, goals: Sequence[Goal]) -> list[tuple[Proof, list[Nodes]]]:
    """Read a saved search and prove again what it says is proved; return each goal's tree and open nodes.

    Raises
    ------
    InputError
        The file cannot be read.
    MalformedCertificate, RejectedCertificate
        It is no saved search, is about something else, or says more than is true.
    """
    try:
        with Path(path).open("rb") as stream:
            header = read_header(stream)
            if header.kind != "unfinished":
                raise RejectedCertificate(f"{path} is a certificate, not a saved search")
            if (header.network, header.property) != (network_digest(network), property_digest(query)):
                raise RejectedCertificate(f"{path} is about another network or another property")
            proofs = read_trees(stream, header, goals)
    except FileNotFoundError:
        raise InputError(
            f"{path} does not exist: `save` writes a tree only where a search ends without a verdict; "
            "without `resume` it begins anew"
        ) from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    return [(proof, check_tree(goal, proof)) for goal, proof in zip(goals, proofs, strict=True)]


def check(stream: BinaryIO, network: Network, query: Query) -> Header:
    """Check a certificate with rigorous floating-point arithmetic.

    Parameters
    ----------
    stream : binary file
    network : Network
        Over the reals, or as :func:`optverify.deployment.deployed` under the certificate's semantics.
    query : Query

    Raises
    ------
    InputError
        The query is about another arithmetic, or nothing can be said about the network in the certificate's.
    MalformedCertificate, RejectedCertificate
    """
    header = read_header(stream)
    network = under(network, query, header)
    goals = query.goals(network)
    if (header.network, header.property) != (network_digest(network), property_digest(query)):
        raise RejectedCertificate("the certificate is about another network or another property")
    proofs = read_trees(stream, header, goals)
    if header.kind == "falsified":
        _check_point(header, network, query)
        return header
    if header.kind == "unfinished":
        raise RejectedCertificate("this is a saved search, which proves nothing: verify --resume goes on with it")
    for number, (goal, proof) in enumerate(zip(goals, proofs, strict=True)):
        try:
            if danger := overflow(goal.network, goal.region.outward):
                raise RejectedCertificate(danger)
            check_tree(goal, proof)
        except RejectedCertificate as error:
            raise RejectedCertificate(f"region {number}, {error}") from None
    return header


def under(network: Network, query: Query, header: Header) -> Network:
    """Return the network under the semantics of a certificate.

    Raises
    ------
    InputError
        The query is about another arithmetic, or nothing can be said about the network in this one.
    """
    semantics = query.under(header.semantics)
    return network if network.semantics is semantics else deployed(network, semantics)


def _check_point(header: Header, network: Network, query: Query) -> None:
    x, semantics = list(header.x), network.semantics
    if len(x) != network.n_inputs or header.case >= len(query.cases):
        raise MalformedCertificate("the point has another size, or there is no such case")
    case = replace(query, cases=(query.cases[header.case],))
    if semantics is REAL:
        if case.violated_by(x, network.enclose(x)) is None:
            raise RejectedCertificate("the point does not violate its case of the property")
        return
    from optverify.executions import Executor, violation

    region, point = case.cases[0].region, [nearest(v) for v in x]
    if not all(isfinite(v) and Fraction(v) == at and semantics.holds(v) for v, at in zip(point, x, strict=True)):
        raise RejectedCertificate(f"the point is none of {semantics}")
    if not region.contains(x):  # executions start from the nearest point of the region
        raise RejectedCertificate("the point is not in the region of its case")
    if violation(Executor(network), case, region, point, beside=False) is None:
        raise RejectedCertificate(f"no execution in {semantics} that is known here violates the property at the point")
