"""The proof format (``docs/certificate-v1.md``): writing, reading, and the fast checker.

The writer and this checker share the arithmetic of :mod:`optverify.safe` with the search; the independent
checker is ``kernel.py``, which shares nothing.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import numpy as np

from optverify.bounds.crown import crown
from optverify.bounds.interval_propagation import propagate
from optverify.canonical import network_digest, property_digest
from optverify.errors import InputError, MalformedCertificate, RejectedCertificate
from optverify.interval import Array, Interval
from optverify.network import Network
from optverify.preactivation import Bounds
from optverify.proof import Close, InputSplit, NeuronSplit, Proof
from optverify.query import Goal, Query
from optverify.safe.multipliers import Frame, Slopes, Stored, mean_bound

MAGIC = b"optverify certificate 1\n"
GRID = 60
"""Intervals and multipliers of the exact checker are multiples of 2**-60: far finer than the margins here."""

SPLIT_INPUT, SPLIT_NEURON, REFRESH, LEMMA, CLOSE, EMPTY = range(1, 7)
BATCH = 64
MAX_DEPTH = 10_000
MAX_SPLITS = 10_000_000
MAX_BITS = 10_000
MAX_EXPONENT = 5_000


@dataclass(frozen=True)
class Header:
    """The second line of a certificate.

    Parameters
    ----------
    kind : str
        ``"verified"`` or ``"falsified"``.
    network, property : str
        SHA-256 of the canonical texts.
    """

    kind: str
    network: str
    property: str
    case: int = 0
    x: tuple[Fraction, ...] = ()


# --- writing -------------------------------------------------------------------------------------------------


def write_verified(stream: BinaryIO, network: Network, query: Query, proofs: Sequence[Proof]) -> None:
    """Write the proofs of all goals of a query."""
    _write_header(stream, network, query, {"kind": "verified"}, {"grid": GRID})
    packer = zlib.compressobj(9)
    for goal, proof in zip(query.goals(network), proofs, strict=True):
        for record in _records(proof, goal):
            stream.write(packer.compress(record))
    stream.write(packer.flush())


def write_falsified(stream: BinaryIO, network: Network, query: Query, case: int, x: Sequence[Fraction]) -> None:
    """Write a counterexample: a point and the case that it reaches."""
    point = [[v.numerator, v.denominator] for v in x]
    _write_header(stream, network, query, {"kind": "falsified"}, {"case": case, "x": point})


def _write_header(
    stream: BinaryIO, network: Network, query: Query, first: dict[str, object], last: dict[str, object]
) -> None:
    digests = {"network": network_digest(network), "property": property_digest(query)}
    header = {**first, **digests, "semantics": "real", **last}
    stream.write(MAGIC + json.dumps(header, separators=(",", ":")).encode() + b"\n")


def _records(root: Proof, goal: Goal) -> Iterator[bytes]:
    """Yield the records of a tree in preorder."""
    stack = [root]
    while stack:
        node = stack.pop()
        if node.refresh:
            yield bytes([REFRESH])
        if node.empty:
            yield bytes([EMPTY])
            continue
        for close in node.closes:
            # One weight for each atom as the case lists them; the first of those that share a row has all of it.
            listed = goal.listed[close.group]
            weights = [close.weights[at] * (listed.index(at) == i) for i, at in enumerate(listed)]
            yield bytes([CLOSE]) + _unsigned(close.group) + b"".join(map(_unsigned, weights)) + _advice(close)
        if isinstance(node.split, InputSplit):
            yield bytes([SPLIT_INPUT]) + _unsigned(node.split.index) + _dyadic(node.split.at)
        elif node.split is not None:
            yield bytes([SPLIT_NEURON]) + _unsigned(node.split.relu) + _unsigned(node.split.index)
        stack += reversed(node.children)


def _advice(close: Close) -> bytes:
    if close.g is None:
        return _unsigned(0)
    entries = [
        _unsigned(k) + _unsigned(int(j)) + _dyadic(float(values[j]))
        for k, values in enumerate(close.g)
        for j in np.flatnonzero(~np.isnan(values))
    ]
    return _unsigned(2) + _unsigned(len(entries)) + b"".join(entries)


def _unsigned(value: int) -> bytes:
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _signed(value: int) -> bytes:
    return _unsigned(2 * value if value >= 0 else -2 * value - 1)


def _dyadic(value: float) -> bytes:
    numerator, denominator = value.as_integer_ratio()
    exponent = 1 - denominator.bit_length()
    if denominator == 1 and numerator:
        exponent = (numerator & -numerator).bit_length() - 1
        numerator >>= exponent
    return _signed(numerator) + _signed(exponent)


# --- reading -------------------------------------------------------------------------------------------------


def read(stream: BinaryIO, goals: Sequence[Goal]) -> tuple[Header, list[Proof]]:
    """Read a certificate for a query with these goals.

    Raises
    ------
    MalformedCertificate
        It does not follow the format.
    """
    header = read_header(stream)
    if header.kind == "falsified":
        if stream.read(1):
            raise MalformedCertificate("there is data behind the point")
        return header, []
    reader = _Reader(stream)
    proofs = [_read_tree(reader, goal) for goal in goals]
    reader.finish()
    return header, proofs


def read_header(stream: BinaryIO) -> Header:
    """Read the first two lines.

    Raises
    ------
    MalformedCertificate
    """
    if stream.readline(len(MAGIC)) != MAGIC:
        raise MalformedCertificate("this is not an optverify certificate of version 1")
    line = stream.readline(1 << 24)
    try:
        data = json.loads(line)
        kind = data["kind"]
        keys = {"verified": {"grid"}, "falsified": {"case", "x"}}[kind] | {"kind", "network", "property", "semantics"}
        if set(data) != keys or data["semantics"] != "real" or not line.endswith(b"\n"):
            raise ValueError
        x = tuple(Fraction(n, d) for n, d in data.get("x", ()))
        return Header(str(kind), str(data["network"]), str(data["property"]), int(data.get("case", 0)), x)
    except (ValueError, KeyError, TypeError, ZeroDivisionError, RecursionError):
        raise MalformedCertificate("the header line cannot be read") from None


class _Reader:
    """Numbers out of a compressed stream, a bounded piece at a time."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._unpacker = stream, zlib.decompressobj()
        self._piece, self._position = b"", 0

    def byte(self) -> int:
        """Return the next byte."""
        if self._position == len(self._piece):
            self._fill()
            if not self._piece:
                raise MalformedCertificate("the certificate ends in the middle of a tree")
        value = self._piece[self._position]
        self._position += 1
        return value

    def _fill(self) -> None:
        try:
            self._piece, self._position = b"", 0
            while not self._piece and not self._unpacker.eof:
                source = self._unpacker.unconsumed_tail or self._stream.read(1 << 16)
                if not source:
                    return
                self._piece = self._unpacker.decompress(source, 1 << 16)
        except zlib.error:
            raise MalformedCertificate("the compressed part is damaged") from None

    def unsigned(self) -> int:
        """Return the next nonnegative number."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > MAX_BITS:
                raise MalformedCertificate("a number is longer than 10,000 bits")

    def signed(self) -> int:
        """Return the next number."""
        value = self.unsigned()
        return -(value >> 1) - 1 if value & 1 else value >> 1

    def dyadic(self) -> float:
        """Return the next dyadic number; it must be a float64."""
        mantissa, exponent = self.signed(), self.signed()
        if abs(exponent) > MAX_EXPONENT:
            raise MalformedCertificate("an exponent is out of range")
        exact = Fraction(mantissa) * Fraction(2) ** exponent
        try:
            value = float(exact)
        except OverflowError:
            value = np.inf
        if not np.isfinite(value) or Fraction(value) != exact:
            raise MalformedCertificate("a number is no float64; only the exact checker can read this certificate")
        return value

    def finish(self) -> None:
        """Check that nothing follows."""
        if self._position == len(self._piece):
            self._fill()
        if self._piece or not self._unpacker.eof or self._unpacker.unused_data or self._stream.read(1):
            raise MalformedCertificate("there is data behind the last tree")


def _read_tree(reader: _Reader, goal: Goal) -> Proof:
    sizes = [goal.network.sizes[k] for k in goal.network.relus]
    root, splits = Proof(refresh=False), 0
    stack = [(root, frozenset(range(len(goal.groups))), 0)]
    while stack:
        node, open_groups, depth = stack.pop()
        while open_groups:
            kind = reader.byte()
            if kind == REFRESH:
                if node.closes:
                    raise MalformedCertificate("a refresh after a close is for the exact checker only")
                node.refresh = True
            elif kind == EMPTY:
                node.empty = True
                break
            elif kind == CLOSE:
                close = _read_close(reader, goal, sizes)
                if close.group not in open_groups:
                    raise MalformedCertificate(f"group {close.group} is not open here")
                node.closes.append(close)
                open_groups -= {close.group}
            elif kind in (SPLIT_INPUT, SPLIT_NEURON):
                first, second = reader.unsigned(), None
                if kind == SPLIT_INPUT:
                    node.split = InputSplit(first, reader.dyadic())
                    if first >= goal.network.n_inputs:
                        raise MalformedCertificate(f"there is no input {first}")
                else:
                    second = reader.unsigned()
                    node.split = NeuronSplit(first, second)
                    if first >= len(sizes) or second >= sizes[first]:
                        raise MalformedCertificate(f"there is no neuron {second} in Relu {first}")
                node.children = (Proof(refresh=False), Proof(refresh=False))
                splits += 1
                if splits > MAX_SPLITS:
                    raise MalformedCertificate(f"more than {MAX_SPLITS} splits")
                if depth >= MAX_DEPTH:
                    raise MalformedCertificate(f"the tree is deeper than {MAX_DEPTH}")
                stack += [(child, open_groups, depth + 1) for child in reversed(node.children)]
                break
            elif kind == LEMMA:
                raise MalformedCertificate("lemmas are for the exact checker only")
            else:
                raise MalformedCertificate(f"unknown record {kind}")
    return root


def _read_close(reader: _Reader, goal: Goal, sizes: Sequence[int]) -> Close:
    group = reader.unsigned()
    if group >= len(goal.groups):
        raise MalformedCertificate(f"there is no group {group}")
    shared = [0] * len(goal.groups[group])
    for at in goal.listed[group]:
        shared[at] += reader.unsigned()
    weights = tuple(shared)
    if max(weights) > 2**53:
        raise MalformedCertificate("a weight above 2**53 is for the exact checker only")
    kind = reader.unsigned()
    if kind == 0:
        return Close(group, weights)
    if kind != 2:
        raise MalformedCertificate("this kind of advice is for the exact checker only")
    values = tuple(np.full(size, np.nan) for size in sizes)
    for _ in range(reader.unsigned()):
        relu, index = reader.unsigned(), reader.unsigned()
        if relu >= len(sizes) or index >= sizes[relu]:
            raise MalformedCertificate(f"there is no neuron {index} in Relu {relu}")
        values[relu][index] = reader.dyadic()
    return Close(group, weights, values)


# --- the fast checker ----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Open:
    """A node on its way through the checker: a proof, and the facts that it starts from."""

    proof: Proof
    lower: Array
    upper: Array
    layers: tuple[Interval, ...]
    groups: frozenset[int]
    above: tuple[Proof, ...]


def failures(goal: Goal, root: Proof) -> Iterator[tuple[Open, str]]:
    """Replay a tree in rigorous floating point; yield the nodes that do not prove what they must, and why.

    Parameters
    ----------
    goal : Goal
    root : Proof
    """
    region = goal.region.outward
    layers = propagate(goal.network, region)[0].layers
    waiting = [Open(root, region.lower, region.upper, layers, frozenset(range(len(goal.groups))), ())]
    while waiting:
        batch, waiting = waiting[-BATCH:], waiting[:-BATCH]
        for refresh in (False, True):
            nodes = [node for node in batch if node.proof.refresh is refresh]
            if not nodes:
                continue
            box = Interval(np.stack([n.lower for n in nodes]), np.stack([n.upper for n in nodes]))
            known = Bounds(
                tuple(
                    Interval(np.stack([z.lower for z in zs]), np.stack([z.upper for z in zs]))
                    for zs in zip(*(n.layers for n in nodes), strict=True)
                )
            )
            if refresh:
                bounds, frame = crown(goal.network, box, known)
            else:
                bounds, frame = known, Frame.of(goal.network, box, known)
            wrong = _unproved(goal, nodes, frame)
            for b, node in enumerate(nodes):
                proof, left = node.proof, node.groups - {close.group for close in node.proof.closes}
                if proof.empty and not bounds.empty[b]:
                    yield node, "the node is said to be empty, and is not shown to be"
                elif b in wrong:
                    yield node, wrong[b]
                if not left or proof.empty:
                    continue
                if proof.split is None:
                    yield node, f"group {min(left)} is left open"
                    continue
                here = tuple(z.take(b) for z in bounds.layers)
                waiting += _children(replace_layers(node, here, left))


def replace_layers(node: Open, layers: tuple[Interval, ...], groups: frozenset[int]) -> Open:
    """Return the node with refreshed intervals and fewer open groups."""
    return Open(node.proof, node.lower, node.upper, layers, groups, node.above)


def _children(node: Open) -> list[Open]:
    """Return the two halves of a node."""
    split, above = node.proof.split, (*node.above, node.proof)
    low, high = node.proof.children
    if isinstance(split, InputSplit):
        if not node.lower[split.index] < split.at < node.upper[split.index]:
            raise RejectedCertificate(f"input {split.index} is cut at {split.at}, outside its interval")
        upper, lower = node.upper.copy(), node.lower.copy()
        upper[split.index] = lower[split.index] = split.at
        return [
            Open(low, node.lower, upper, node.layers, node.groups, above),
            Open(high, lower, node.upper, node.layers, node.groups, above),
        ]
    assert split is not None
    z = node.layers[split.relu]
    upper, lower = z.upper.copy(), z.lower.copy()
    upper[split.index], lower[split.index] = min(upper[split.index], 0.0), max(lower[split.index], 0.0)
    before, after = node.layers[: split.relu], node.layers[split.relu + 1 :]
    return [
        Open(low, node.lower, node.upper, (*before, Interval(z.lower, upper), *after), node.groups, above),
        Open(high, node.lower, node.upper, (*before, Interval(lower, z.upper), *after), node.groups, above),
    ]


def _unproved(goal: Goal, nodes: Sequence[Open], frame: Frame) -> dict[int, str]:
    """Evaluate all closes of a batch; return what is wrong by node."""
    wrong: dict[int, str] = {}
    for g, members in enumerate(goal.groups):
        closes = [(b, close) for b, n in enumerate(nodes) for close in n.proof.closes if close.group == g]
        plain = [(b, close) for b, close in closes if close.g is None]
        parts = [(plain, Slopes())] if plain else []
        parts += [([(b, close)], Stored(close.g)) for b, close in closes if close.g is not None]  # type: ignore[misc]
        for part, advice in parts:
            mu = np.array([close.weights for _, close in part], np.float64)
            objective = np.zeros((len(part), 1, goal.network.n_outputs))
            objective[:, 0, list(members)] = mu
            value = frame.take([b for b, _ in part]).lower(objective, advice).value[:, 0]
            for (b, _), bound in zip(part, mean_bound(value, mu), strict=True):
                if not bound > 0:
                    wrong[b] = f"the bound for group {g} is {bound}, not positive"
    return wrong


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


def check(stream: BinaryIO, network: Network, query: Query) -> Header:
    """Check a certificate with rigorous floating-point arithmetic.

    Raises
    ------
    MalformedCertificate, RejectedCertificate
    """
    goals = query.goals(network)
    header, proofs = read(stream, goals)
    if (header.network, header.property) != (network_digest(network), property_digest(query)):
        raise RejectedCertificate("the certificate is about another network or another property")
    if header.kind == "falsified":
        _check_point(header, network, query)
        return header
    for number, (goal, proof) in enumerate(zip(goals, proofs, strict=True)):
        for node, reason in failures(goal, proof):
            raise RejectedCertificate(f"region {number}, node at depth {len(node.above)}: {reason}")
    return header


def _check_point(header: Header, network: Network, query: Query) -> None:
    x = list(header.x)
    if len(x) != network.n_inputs or query.violated_by(x, network.enclose(x)) is None:
        raise RejectedCertificate("the point does not violate the property")


# --- making a proof small ------------------------------------------------------------------------------------


def settle(goal: Goal, root: Proof) -> bool:
    """Choose where bounds are computed anew, as rarely as the checker accepts; tell whether it accepts.

    Bounds are refreshed where something is closed; where that is not enough, on all of the path above too.
    """
    for node in walk(root):
        node.refresh = bool(node.closes) or node.empty
    for _ in range(3):
        failed = [node for node, _ in failures(goal, root)]
        if not failed:
            return True
        for bad in failed:
            for proof in (*bad.above, bad.proof):
                proof.refresh = True
    return False


def walk(root: Proof) -> Iterator[Proof]:
    """Yield the nodes of a tree."""
    stack = [root]
    while stack:
        node = stack.pop()
        yield node
        stack += node.children
