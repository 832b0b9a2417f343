"""Certificates: from what the search wrote down to as few refreshes and bytes as the checker accepts.

The format is in :mod:`optverify.records`, the checker in :mod:`optverify.checker`.

The tree is walked as the checker walks it, and each record is written as the checker has just accepted it: bounds are
computed anew as rarely as possible, multipliers become slopes of 8 bits and numbers of 11 where that still proves
enough, and a node that is closed with what closed a node below it loses its children.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import BytesIO
from time import process_time
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from optverify.bounds.lifted import lifted_bound, lifted_close
from optverify.checker import Nodes, check, check_file, check_tree, gather, resumed
from optverify.errors import InputError, RejectedCertificate
from optverify.formulations.encoder import objective_of
from optverify.interval import Array
from optverify.network import Network
from optverify.proof import Close, InputSplit, Proof, walk
from optverify.query import Goal, Query
from optverify.records import read, write_falsified, write_unfinished, write_verified
from optverify.rounding import COMPACT, FULL, store

__all__ = ["certify", "check", "check_file", "read", "resumed", "save", "walk", "write_falsified", "write_verified"]

WORTH = 6
"""Leaves times splits since the last refresh that make a refresh of an inner node worth its time: for each of these
splits it makes the refreshes of the leaves faster by about a tenth."""

_Writer = Callable[[BinaryIO, Network, Query, Sequence[Proof]], None]

HALVINGS = 3
"""Most times that a leaf is halved."""

SURE = 2.0**-40
"""A bound that exceeds this share of its terms is positive in all checkers."""


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
    for goal, proof in zip(goals, proofs, strict=True):
        shrink(goal, proof)
    written = BytesIO()
    write(written, network, query, proofs)
    # What was just written is checked as anybody would check it, whatever led to it.
    began = process_time()
    _, again = read(BytesIO(written.getvalue()), goals)
    for goal, proof in zip(goals, again, strict=True):
        if check_tree(goal, proof) and write is write_verified:
            raise RejectedCertificate("something is left open")
    seconds = process_time() - began
    stream.write(written.getvalue())
    return seconds


def shrink(goal: Goal, root: Proof) -> None:
    """Choose where bounds are computed anew and how closes are stored, so that the checker accepts the tree.

    Raises
    ------
    RejectedCertificate
        It does not, even with all bounds computed anew.
    """
    for worth in (WORTH, 0):
        if _Settling(goal, root, worth).run():
            return
    raise RejectedCertificate("every part is closed, but too tightly for the checker's rounding")


def _count_leaves(root: Proof) -> dict[int, int]:
    count: dict[int, int] = {}
    for node in reversed(list(walk(root))):
        count[id(node)] = sum(count[id(child)] for child in node.children) or 1
    return count


def _find(proof: Proof, group: int, last: bool) -> Close | None:
    """Return what closes a group on the way down to the first or the last leaf."""
    while True:
        for close in proof.closes:
            if close.group == group:
                return close
        if not proof.children:
            return None
        proof = proof.children[-1 if last else 0]


def _solved_anew(goal: Goal, nodes: Nodes, b: int, group: int) -> Close | None:
    """Look for a lifted close with the bounds of a node: those of the search were others."""
    region, bounds = nodes.box.take(b), nodes.bounds.take(b)
    try:
        found = lifted_bound(goal.network, region, bounds, objective_of(goal, group), stop_above=0.0)
    except InputError:
        return None
    return lifted_close(goal, group, region, bounds, found)


class _Settling:
    """One walk over a tree: down from inner nodes that are refreshed to the next such nodes, many of them at once.

    An inner node is refreshed if its leaves times the splits since the last refresh are at least `worth`; a leaf, or
    an inner node that closes some groups, if it needs it. A leaf that is closed no more, because nodes above it were
    not refreshed, is halved.
    """

    def __init__(self, goal: Goal, root: Proof, worth: int) -> None:
        self.goal, self.root, self.worth = goal, root, worth
        self.leaves = _count_leaves(root)
        self.halved: dict[int, int] = {}

    def run(self) -> bool:
        """Tell whether all of the tree is proved; it is changed to what is."""
        waiting = [Nodes.root(self.goal, self.root)]
        while waiting:
            nodes, waiting = gather(waiting)
            fresh = np.array([bool(proof.children) for proof in nodes.proofs])
            nodes, age = nodes.refreshed(self.goal.network, fresh), np.zeros(len(nodes), int)
            moved = np.zeros(len(nodes), bool)
            self._merge(nodes)
            while len(nodes):
                nodes, fresh, proved = self._records(nodes, fresh, moved)
                if not proved.all():
                    return False
                cut = np.array([isinstance(proof.split, InputSplit) for proof in nodes.proofs])
                nodes, parents = nodes.children()
                age, moved = np.where(fresh, 0, age)[parents] + 1, (cut | moved & ~fresh)[parents]
                below = np.array([self.leaves[id(proof)] for proof in nodes.proofs], int)
                tops = (below > 1) & (age * below >= self.worth)
                if tops.any():
                    waiting.append(nodes.take(np.flatnonzero(tops)))
                kept = np.flatnonzero(~tops)
                nodes, age, moved, fresh = nodes.take(kept), age[kept], moved[kept], np.zeros(kept.size, bool)
        return True

    def _merge(self, nodes: Nodes) -> None:
        """Close inner nodes by what closes the first or the last leaf below them, where that is enough."""
        places = [
            (b, close)
            for b, proof in enumerate(nodes.proofs)
            if proof.children
            for group in np.flatnonzero(nodes.open[b]).tolist()
            for close in dict.fromkeys(_find(proof, group, last) for last in (False, True))
            if close is not None and close.lifted is None
        ]
        if not places:
            return
        at = np.array([b for b, _ in places], np.intp)
        closes, value, effect = store(self.goal, nodes, at, [close for _, close in places], COMPACT)
        found: dict[int, dict[int, Close]] = {}
        for b, close, good in zip(at.tolist(), closes, (value > SURE * effect.sum(axis=1)).tolist(), strict=True):
            if good:
                found.setdefault(b, {})[close.group] = close
        for b, closed in found.items():
            if len(closed) == nodes.open[b].sum():
                proof = nodes.proofs[b]
                proof.closes, proof.split, proof.children, proof.open = list(closed.values()), None, (), False

    def _records(
        self, nodes: Nodes, fresh: NDArray[np.bool_], moved: NDArray[np.bool_]
    ) -> tuple[Nodes, NDArray[np.bool_], NDArray[np.bool_]]:
        """Settle closes; refresh nodes where they need it. Return the nodes, which are fresh, and which are proved.

        Where the box is smaller than at the last refresh (`moved`), closes rarely do without one: it is not tried.
        """
        ends = np.array([bool(proof.closes) or proof.empty for proof in nodes.proofs])
        nodes, fresh = nodes.refreshed(self.goal.network, ends & moved & ~fresh), fresh | (ends & moved)
        proved = self._settle(nodes, np.arange(len(nodes)), fresh)
        late = ~proved & ~fresh
        if late.any():
            nodes, fresh = nodes.refreshed(self.goal.network, late), fresh | late
            proved[late] = self._settle(nodes, np.flatnonzero(late), fresh)
        for b, proof in enumerate(nodes.proofs):
            proof.refresh = bool(fresh[b])
            nodes.open[b, [close.group for close in proof.closes]] = False
            nodes.open[b] &= not proof.empty
            proved[b] &= bool(proof.children) or proof.open or not nodes.open[b].any()
        return nodes, fresh, proved

    def _settle(self, nodes: Nodes, here: NDArray[np.intp], fresh: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Store the closes of some nodes as compactly as they prove enough; tell for which nodes that did.

        Where bounds are not fresh only the compact format is tried: a refresh is the next remedy. A close that proves
        nothing on a fresh node is handed down to the children; if it is a lifted one, it is solved for anew before.
        """
        part, keen = nodes.take(here), fresh[here]
        empty = np.broadcast_to(part.bounds.empty, len(part))
        proved = np.array([not proof.empty for proof in part.proofs], bool) | empty
        places = [(b, i) for b, proof in enumerate(part.proofs) if not proof.empty for i in range(len(proof.closes))]
        down: list[tuple[int, int, Array]] = []
        for how in (COMPACT, FULL):
            at = np.array([b for b, _ in places], np.intp)
            closes, value, effect = store(self.goal, part, at, [part.proofs[b].closes[i] for b, i in places], how)
            again = []
            for n, ((b, i), close) in enumerate(zip(places, closes, strict=True)):
                finer = how is COMPACT and close.g is not None
                if empty[b] or value[n] > (SURE * effect[n].sum() if finer else 0.0):
                    part.proofs[b].closes[i] = close
                elif not keen[b]:
                    proved[b] = False
                elif finer:
                    again.append((b, i))
                elif close.lifted is not None and (anew := _solved_anew(self.goal, part, b, close.group)) is not None:
                    part.proofs[b].closes[i] = anew
                else:
                    down.append((b, i, effect[n]))
            places = again
        for b, i, worth in sorted(down, key=lambda it: it[:2], reverse=True):  # from the last, as closes are taken out
            proved[b] &= self._hand_down(part, b, i, worth)
        return proved

    def _hand_down(self, nodes: Nodes, b: int, i: int, effect: Array) -> bool:
        """Leave a close to the children of a node; halve a leaf along the input with the largest effect."""
        proof = nodes.proofs[b]
        if not proof.children:
            times = self.halved.get(id(proof), 0) + 1
            index = int(effect[1:].argmax())
            low, high = float(nodes.box.lower[b, index]), float(nodes.box.upper[b, index])
            split = InputSplit(index, 0.5 * low + 0.5 * high)
            if times > HALVINGS or not low < split.at < high:
                return False
            proof.split, proof.children = split, (Proof(open=proof.open), Proof(open=proof.open))
            proof.open = False
            for child in proof.children:
                self.leaves[id(child)], self.halved[id(child)] = 1, times
        close = proof.closes.pop(i)
        for child in proof.children:
            child.closes.append(close)
        return True
