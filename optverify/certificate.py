"""Certificates: from what the search wrote down to as few refreshes and bytes as the checker accepts.

The format is in :mod:`optverify.records`, the checker in :mod:`optverify.checker`.

The search has rounded what closes each node. Here is decided where bounds are computed anew, as rarely as possible and
without any arithmetic; the checker then tells which nodes need more.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from time import process_time
from typing import BinaryIO

import numpy as np

from optverify.checker import Fault, Nodes, check, check_file, lower, replay, resumed
from optverify.errors import InputError, RejectedCertificate
from optverify.formulations.encoder import objective_of
from optverify.network import Network
from optverify.proof import Close, InputSplit, Proof, walk
from optverify.query import Goal, Query
from optverify.records import read, write_falsified, write_unfinished, write_verified

__all__ = ["certify", "check", "check_file", "read", "resumed", "save", "walk", "write_falsified", "write_verified"]

WORTH = 6
"""Leaves times splits since the last refresh that make a refresh of an inner node worth its time: for each of these
splits it makes the refreshes of the leaves faster by about a tenth."""

HALVINGS = 3
"""Most times that a leaf is halved."""

_Writer = Callable[[BinaryIO, Network, Query, Sequence[Proof]], None]


def certify(stream: BinaryIO, network: Network, query: Query, goals: Sequence[Goal], proofs: Sequence[Proof]) -> float:
    """Write a certificate that the checker accepts.

    Parameters
    ----------
    stream : binary file
        Nothing is written to it unless all of it can be.
    network : Network
    query : Query
    goals : sequence of Goal
        Of the query.
    proofs : sequence of Proof, one per goal
        Closed trees. They are changed to what is written.

    Returns
    -------
    float
        Processor seconds of the last check.

    Raises
    ------
    RejectedCertificate
        The checker would not accept it: some bound is positive by less than rounding may have lost.
    MalformedCertificate
        What was written is not what is read (a defect).
    """
    return _write(stream, network, query, goals, proofs, write_verified)


def save(stream: BinaryIO, network: Network, query: Query, goals: Sequence[Goal], proofs: Sequence[Proof]) -> None:
    """Write what a search has proved so far, in the same way; nodes that are left to prove are marked `open`.

    Raises
    ------
    RejectedCertificate, MalformedCertificate
    """
    _write(stream, network, query, goals, proofs, write_unfinished)


def _write(
    stream: BinaryIO, network: Network, query: Query, goals: Sequence[Goal], proofs: Sequence[Proof], write: _Writer
) -> float:
    for proof in proofs:
        _plan(proof)
    began, writing = process_time(), 0.0
    # What was written is read and checked as anybody would check it, whatever led to it; after a change, all that
    # the change can make a difference to.
    parts: list[set[Proof] | None] = [None] * len(proofs)
    while True:
        started, written = process_time(), BytesIO()
        write(written, network, query, proofs)
        writing += process_time() - started
        _, again = read(BytesIO(written.getvalue()), goals)
        found = [_Found.of(*each) for each in zip(goals, proofs, again, parts, strict=True)]
        writing += sum(each.seconds for each in found)
        if not any(each.faults or each.merged for each in found):
            stream.write(written.getvalue())
            return process_time() - began - writing
        started = process_time()
        parts = [_mend(*each) for each in zip(goals, proofs, found, strict=True)]
        writing += process_time() - started


@dataclass(frozen=True, eq=False)
class _Found:
    """What a check of a tree that was read back says about the nodes of the tree that was written.

    Parameters
    ----------
    faults : list of Fault
    merged : dict of Proof to list of Close
        Inner nodes that these close.
    seconds : float
        For the latter.
    """

    faults: list[Fault]
    merged: dict[Proof, list[Close]]
    seconds: float

    @classmethod
    def of(cls, goal: Goal, root: Proof, back: Proof, part: set[Proof] | None) -> _Found:
        """Check a tree, or a part of it."""
        written = dict(zip(walk(back), walk(root), strict=True))
        within = None if part is None else {node for node, same in written.items() if same in part}
        faults: list[Fault] = []
        merged: dict[Proof, list[Close]] = {}
        seconds = 0.0
        for nodes, wrong in replay(goal, back, within):
            faults += [replace(fault, proof=written[fault.proof]) for fault in wrong]
            if part is None:
                started = process_time()
                merged |= {written[node]: closes for node, closes in _merged(goal, nodes).items()}
                seconds += process_time() - started
        return cls(faults, merged, seconds)


def _plan(root: Proof) -> None:
    """Choose where bounds are computed anew: at the root, at inner nodes that are worth it, and where a box ends.

    Where the box is smaller than at the last refresh, what closes a node rarely does so without one.
    """
    leaves: dict[Proof, int] = {}
    for node in reversed(list(walk(root))):
        leaves[node] = sum(leaves[child] for child in node.children) or 1
    stack = [(root, WORTH, False)]  # with the splits since the last refresh, and whether one of them was of an input
    while stack:
        node, age, moved = stack.pop()
        node.refresh = bool(node.children) and age * leaves[node] >= WORTH
        node.refresh |= moved and (bool(node.closes) or node.empty)
        age, moved = (0, False) if node.refresh else (age, moved)
        moved |= isinstance(node.split, InputSplit)
        stack += [(child, age + 1, moved) for child in node.children]


def _merged(goal: Goal, nodes: Nodes) -> dict[Proof, list[Close]]:
    """Find inner nodes, just refreshed, that are closed by what closes the first or the last leaf below them."""
    places = [
        (b, close)
        for b, proof in enumerate(nodes.proofs)
        if proof.children and proof.refresh
        for group in np.flatnonzero(nodes.open[b]).tolist()
        for close in dict.fromkeys(_find(proof, group, last) for last in (False, True))
        if close is not None and close.lifted is None
    ]
    at = np.array([b for b, _ in places], np.intp)
    value = lower(goal, nodes, at, [close for _, close in places], sure=True)
    found: dict[int, dict[int, Close]] = {}
    for (b, close), good in zip(places, (value > 0).tolist(), strict=True):
        if good:
            found.setdefault(b, {})[close.group] = close
    return {nodes.proofs[b]: list(some.values()) for b, some in found.items() if len(some) == nodes.open[b].sum()}


def _find(proof: Proof, group: int, last: bool) -> Close | None:
    """Return what closes a group on the way down to the first or the last leaf."""
    while True:
        for close in proof.closes:
            if close.group == group:
                return close
        if not proof.children:
            return None
        proof = proof.children[-1 if last else 0]


def _mend(goal: Goal, root: Proof, found: _Found) -> set[Proof]:
    """Cut off what is not needed, then strengthen nodes until each proves what it must.

    Returns
    -------
    set of Proof
        The part of the tree in which something is different now.

    Raises
    ------
    RejectedCertificate
        All remedies together are not enough.
    """
    for node, closes in found.merged.items():
        node.closes, node.split, node.children = [*node.closes, *closes], None, ()
    parent = {child: node for node in walk(root) for child in node.children}
    left = {root, *parent}
    different = {above for node in found.merged if node in left for above in _up(node, parent)}
    faults = [fault for fault in found.faults if fault.proof in left]
    tried = _Tried()
    while faults:
        part: set[Proof] = set()
        for fault in faults:
            if fault.proof in part:  # something above it has changed: that may be enough
                continue
            changed = _strengthen(goal, fault, list(_up(fault.proof, parent)), tried)
            parent |= dict.fromkeys(fault.proof.children, fault.proof)
            part |= {*walk(changed), *_up(changed, parent)}
        different |= part
        faults = [fault for _, some in replay(goal, root, part) for fault in some]
    return different


def _up(node: Proof, parent: Mapping[Proof, Proof]) -> Iterator[Proof]:
    """Yield a node and those above it."""
    yield node
    while node in parent:
        node = parent[node]
        yield node


@dataclass(frozen=True, eq=False)
class _Tried:
    """Remedies used up: how often the boxes above a leaf were halved, and where lifted closes were solved for anew."""

    halved: dict[Proof, int] = field(default_factory=dict)
    anew: set[Proof] = field(default_factory=set)


def _strengthen(goal: Goal, fault: Fault, path: Sequence[Proof], tried: _Tried) -> Proof:
    """Try the next remedy; return the top of what is different now.

    Bounds are computed anew as near to the node as possible, and then at all nodes between: multipliers that were found
    for the bounds of the search are not as good for others. A lifted close is solved for anew once.
    """
    node = fault.proof
    if not node.refresh:
        node.refresh = True
        return node
    known = itertools.dropwhile(lambda above: above.refresh, path)
    stale = list(itertools.takewhile(lambda above: not above.refresh, known))
    if stale:
        for other in walk(stale[-1]):
            other.refresh |= bool(other.children)
        return stale[-1]
    if any(close.spare for close in node.closes):
        node.closes = [close.spare or close for close in node.closes]
    elif node not in tried.anew and any(close.lifted for close in node.closes):
        tried.anew.add(node)
        node.closes = [_solved_anew(goal, fault, close) if close.lifted else close for close in node.closes]
    else:
        _divide(fault, tried.halved)
    return node


def _solved_anew(goal: Goal, fault: Fault, close: Close) -> Close:
    """Look for a lifted close with the bounds that a node has in the certificate: those of the search were others."""
    from optverify.bounds.lifted import lifted_bound, lifted_close  # scipy: only where such a close is

    try:
        found = lifted_bound(goal.network, fault.box, fault.bounds, objective_of(goal, close.group), stop_above=0.0)
    except InputError:  # numbers overflow
        return close
    return lifted_close(goal, close.group, fault.box, fault.bounds, found) or close


def _divide(fault: Fault, halved: dict[Proof, int]) -> None:
    """Leave what a node does not prove to its children; a leaf gets some, the halves along its widest input."""
    node = fault.proof
    if not node.children:
        times, box = halved.get(node, 0) + 1, fault.box
        index = int((0.5 * box.upper - 0.5 * box.lower).argmax())
        low, high = float(box.lower[index]), float(box.upper[index])
        at = 0.5 * low + 0.5 * high
        if times > HALVINGS or not low < at < high or not (node.closes or node.empty):
            raise RejectedCertificate(f"closed too tightly for the checker's rounding: {fault.reason}")
        node.split, node.children = InputSplit(index, at), (Proof(open=node.open), Proof(open=node.open))
        node.open = False
        halved |= dict.fromkeys(node.children, times)
    for child in node.children:
        child.closes += node.closes
        child.empty |= node.empty
    node.closes, node.empty = [], False
