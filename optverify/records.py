"""The proof format (``docs/certificate-v1.md``): writing and reading.

Two checkers read it: :mod:`optverify.checker` in rigorous floating point, with the arithmetic of the search, and
``kernel.py`` in exact integers, which shares nothing with the rest.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import isfinite, ldexp
from typing import BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from optverify.canonical import network_digest, property_digest
from optverify.errors import MalformedCertificate
from optverify.network import Network
from optverify.proof import Advice, Close, InputSplit, LiftedAdvice, NeuronSplit, Proof
from optverify.query import Goal, Query
from optverify.semantics import REAL, SEMANTICS

MAGIC = b"optverify certificate 1\n"
GRID = 60
"""Intervals and multipliers of the exact checker are multiples of 2**-60: far finer than the margins here."""

SPLIT_INPUT, SPLIT_NEURON, REFRESH, CLOSE, EMPTY, OPEN, CLOSE_LIFTED = 1, 2, 3, 5, 6, 7, 8
MAX_WAITING = 10_000
FREE_SPLITS, SPLITS_PER_BYTE = 50_000, 2
"""A tree takes some hundred times the memory of its compressed form, and may not take more."""

MAX_BITS = 1_000
MAX_EXPONENT = 5_000
MAX_LIFTED, MAX_SHIFT = 1_000, 2_000
MAX_HEADER = 1 << 26
MAX_EXPANSION, FREE_EXPANSION = 250, 1 << 20

T = TypeVar("T")


@dataclass(frozen=True)
class Header:
    """The second line of a certificate.

    Parameters
    ----------
    kind : str
        ``"verified"``, ``"falsified"``, or ``"unfinished"`` for a saved search.
    network, property : str
        SHA-256 of the canonical texts.
    case : int
    x : tuple of Fraction
        The point of a counterexample.
    """

    kind: str
    network: str
    property: str
    semantics: str = REAL.name
    case: int = 0
    x: tuple[Fraction, ...] = ()


def neurons(network: Network) -> list[tuple[int, int]]:
    """Return Relu and coordinate of each neuron, in the order in which advice numbers them."""
    masks = network.masks
    return [(k, j) for k, mask in enumerate(masks) for j in np.flatnonzero(mask).tolist()]


# --- writing -------------------------------------------------------------------------------------------------


def write_verified(stream: BinaryIO, network: Network, query: Query, proofs: Sequence[Proof]) -> None:
    """Write the proofs of all goals of a query; the closes have advice, where they need more than the rule."""
    _write_trees(stream, network, query, proofs, "verified")


def _write_trees(stream: BinaryIO, network: Network, query: Query, proofs: Sequence[Proof], kind: str) -> None:
    _write_header(stream, network, query, {"kind": kind}, {"grid": GRID})
    packer = zlib.compressobj(6)
    for goal, proof in zip(query.goals(network), proofs, strict=True):
        for record in _records(proof, goal):
            stream.write(packer.compress(record))
    stream.write(packer.flush())


def write_unfinished(stream: BinaryIO, network: Network, query: Query, proofs: Sequence[Proof]) -> None:
    """Write trees with open leaves: what a search has proved so far. It is no certificate, and no checker takes it."""
    _write_trees(stream, network, query, proofs, "unfinished")


def write_falsified(stream: BinaryIO, network: Network, query: Query, case: int, x: Sequence[Fraction]) -> None:
    """Write a counterexample: a point and the case that it reaches."""
    point = [[v.numerator, v.denominator] for v in x]
    _write_header(stream, network, query, {"kind": "falsified"}, {"case": case, "x": point})


def _write_header(
    stream: BinaryIO, network: Network, query: Query, first: dict[str, object], last: dict[str, object]
) -> None:
    digests = {"network": network_digest(network), "property": property_digest(query)}
    stream.write(MAGIC + _line({**first, **digests, "semantics": network.semantics.name, **last}))


def _line(header: dict[str, object]) -> bytes:
    return json.dumps(header, separators=(",", ":")).encode() + b"\n"


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
            kind = CLOSE if close.lifted is None else CLOSE_LIFTED
            yield bytes([kind]) + _unsigned(close.group) + b"".join(map(_unsigned, weights))
            yield _advice(close.advice) if close.lifted is None else _lifted(close.lifted)
        if node.open:
            yield bytes([OPEN])
            continue
        if isinstance(node.split, InputSplit):
            yield bytes([SPLIT_INPUT]) + _unsigned(node.split.index) + _dyadic(node.split.at)
        elif node.split is not None:
            yield bytes([SPLIT_NEURON]) + _unsigned(node.split.relu) + _unsigned(node.split.index)
        stack += reversed(node.children)


def _advice(advice: Advice | None) -> bytes:
    if advice is None:
        return b"\0\0"
    slopes = [bytes([slope]) for slope in advice.slopes.tolist()]
    return _listed(advice.sloped, slopes) + _listed(advice.given, list(map(_dyadic, advice.multipliers.tolist())))


def _lifted(lifted: LiftedAdvice) -> bytes:
    parts = (lifted.above, lifted.relu, lifted.chord, lifted.box, lifted.shifts, lifted.input_box)
    ratios = [[value.as_integer_ratio() for value in part.tolist()] for part in parts]
    # All denominators are powers of two; the largest is common to all.
    shift = max((d.bit_length() - 1 for part in ratios for _, d in part), default=0)
    above, relu, chord, box, shifts, inputs = ([(n << shift) // d for n, d in part] for part in ratios)
    four = zip(map(_unsigned, above), map(_signed, relu), map(_unsigned, chord), map(_unsigned, box), strict=True)
    lists = (
        (lifted.neurons, map(b"".join, four)),
        (lifted.shifted, map(_signed, shifts)),
        (lifted.inputs, map(_unsigned, inputs)),
    )
    return _unsigned(shift) + b"".join(_listed(at, list(values)) for at, values in lists)


def _listed(at: NDArray[np.int64], values: list[bytes]) -> bytes:
    """Write values for some neurons, each with the number of neurons left out before it."""
    skips = np.diff(at, prepend=-1) - 1
    return _unsigned(len(values)) + b"".join(_unsigned(n) + v for n, v in zip(skips.tolist(), values, strict=True))


def _unsigned(value: int) -> bytes:
    if value < 128:
        return bytes([value])
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
        It does not follow the format, or has something that only the exact checker reads.
    """
    header = read_header(stream)
    return header, read_trees(stream, header, goals)


def read_trees(stream: BinaryIO, header: Header, goals: Sequence[Goal]) -> list[Proof]:
    """Read what follows the header.

    Raises
    ------
    MalformedCertificate
    """
    if header.kind == "falsified":
        if stream.read(1):
            raise MalformedCertificate("there is data behind the point")
        return []
    records = _Records(stream)
    proofs = [_read_tree(records, goal, unfinished=header.kind == "unfinished") for goal in goals]
    records.finish()
    return proofs


def read_header(stream: BinaryIO) -> Header:
    """Read the first two lines.

    Raises
    ------
    MalformedCertificate
    """
    if stream.readline(len(MAGIC)) != MAGIC:
        raise MalformedCertificate("this is not an optverify certificate of version 1")
    line = stream.readline(MAX_HEADER)
    try:
        data = json.loads(line)
        last = {"verified": ["grid"], "unfinished": ["grid"], "falsified": ["case", "x"]}[data["kind"]]
        if list(data) != ["kind", "network", "property", "semantics", *last] or _line(data) != line:
            raise ValueError
        numbers = [data.get("grid", 0), data.get("case", 0), *(n for pair in data.get("x", ()) for n in pair)]
        texts = data["network"], data["property"], data["semantics"]
        if any(type(n) is not int for n in numbers) or not all(isinstance(t, str) for t in texts):
            raise ValueError
        if data["semantics"] not in SEMANTICS or not 0 <= data.get("grid", 0) <= 200 or data.get("case", 0) < 0:
            raise ValueError
        point = data.get("x", ())
        if any(d <= 0 for _, d in point):
            raise ValueError
        x = tuple(Fraction(n, d) for n, d in point)
        return Header(data["kind"], *texts, data.get("case", 0), x)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise MalformedCertificate("the header line cannot be read") from None


class _Records:
    """Numbers out of a compressed stream, a bounded piece at a time."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._unpacker = stream, zlib.decompressobj()
        self._piece, self._position = b"", 0
        self._taken = self._made = self.splits = 0

    @property
    def most_splits(self) -> int:
        """How many splits there may be by now."""
        return FREE_SPLITS + SPLITS_PER_BYTE * self._taken

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
                source = self._unpacker.unconsumed_tail
                if not source:
                    source = self._stream.read(1 << 16)
                    self._taken += len(source)
                if not source:
                    return
                self._piece = self._unpacker.decompress(source, 1 << 16)
        except zlib.error:
            raise MalformedCertificate("the compressed part is damaged") from None
        self._made += len(self._piece)
        if self._made > MAX_EXPANSION * self._taken + FREE_EXPANSION:
            raise MalformedCertificate("the compressed part expands too far")

    def unsigned(self) -> int:
        """Return the next nonnegative number."""
        value = self.byte()
        if value < 128:
            return value
        value, shift = value & 127, 7
        while True:
            byte = self.byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > MAX_BITS:
                raise MalformedCertificate(f"a number is longer than {MAX_BITS} bits")

    def below(self, count: int, what: str) -> int:
        """Return the next number, which must be less than `count`."""
        value = self.unsigned()
        if value >= count:
            raise MalformedCertificate(f"there is no {what} {value:#x}")
        return value

    def signed(self) -> int:
        """Return the next number."""
        value = self.unsigned()
        return -(value >> 1) - 1 if value & 1 else value >> 1

    def dyadic(self) -> float:
        """Return the next dyadic number; it must be a float64."""
        mantissa, exponent = self.signed(), self.signed()
        if abs(exponent) > MAX_EXPONENT:
            raise MalformedCertificate("an exponent is out of range")
        if abs(mantissa) < 2**53 and -1000 < exponent < 900:
            return ldexp(mantissa, exponent)
        try:
            value = ldexp(mantissa, exponent)
        except OverflowError:
            value = np.inf
        if not isfinite(value) or Fraction(value) != Fraction(mantissa) * Fraction(2) ** exponent:
            raise MalformedCertificate("a number is no float64; only the exact checker can read this certificate")
        return value

    def fixed(self, shift: int, *, signed: bool) -> float:
        """Return the next number over 2^shift; it must be a float64."""
        number = self.signed() if signed else self.unsigned()
        value = ldexp(number, -shift)
        if Fraction(value) != Fraction(number, 1 << shift):
            raise MalformedCertificate("a number is no float64; only the exact checker can read this certificate")
        return value

    def listed(self, count: int, value: Callable[[], T]) -> tuple[NDArray[np.int64], list[T]]:
        """Return values for some of the first `count` neurons, and which these are."""
        at, found = -1, []
        places = []
        for _ in range(self.below(count + 1, "list of length")):
            at += 1 + self.below(count - at - 1, "neuron further on by")
            places.append(at)
            found.append(value())
        return np.array(places, np.int64), found

    def finish(self) -> None:
        """Check that nothing follows."""
        if self._position == len(self._piece):
            self._fill()
        if self._piece or not self._unpacker.eof or self._unpacker.unused_data or self._stream.read(1):
            raise MalformedCertificate("there is data behind the last tree")


def _read_tree(records: _Records, goal: Goal, *, unfinished: bool) -> Proof:
    network = goal.network
    rectified = set(neurons(network))
    root = Proof(refresh=False)
    stack = [(root, frozenset(range(len(goal.groups))))]
    while stack:
        node, open_groups = stack.pop()
        while open_groups:
            kind = records.byte()
            if kind == REFRESH:
                if node.closes or node.refresh:
                    raise MalformedCertificate("a second refresh, or one after a close, is for the exact checker only")
                node.refresh = True
            elif kind == EMPTY:
                node.empty = True
                break
            elif kind in (CLOSE, CLOSE_LIFTED):
                close = _read_close(records, goal, len(rectified), lifted=kind == CLOSE_LIFTED)
                if close.group not in open_groups:
                    raise MalformedCertificate(f"group {close.group} is not open here")
                node.closes.append(close)
                open_groups -= {close.group}
            elif kind in (SPLIT_INPUT, SPLIT_NEURON):
                if kind == SPLIT_INPUT:
                    node.split = InputSplit(records.below(network.n_inputs, "input"), records.dyadic())
                else:
                    node.split = NeuronSplit(records.unsigned(), records.unsigned())
                    if (node.split.relu, node.split.index) not in rectified:
                        raise MalformedCertificate(f"there is no neuron {node.split.index} in Relu {node.split.relu}")
                node.children = (Proof(refresh=False), Proof(refresh=False))
                records.splits += 1
                stack += [(child, open_groups) for child in reversed(node.children)]
                if records.splits > records.most_splits or len(stack) > MAX_WAITING:
                    raise MalformedCertificate("the tree is too large")
                break
            elif kind == OPEN and unfinished:
                node.open = True
                break
            else:
                raise MalformedCertificate(f"unknown record {kind}")
    return root


def _read_close(records: _Records, goal: Goal, count: int, *, lifted: bool) -> Close:
    group = records.below(len(goal.groups), "group")
    shared = [0] * len(goal.groups[group])
    for at in goal.listed[group]:
        shared[at] += records.unsigned()
    if max(shared) > 2**53:
        raise MalformedCertificate("a weight above 2**53 is for the exact checker only")
    if lifted:
        return Close(group, tuple(shared), lifted=_read_lifted(records, goal, count))
    sloped, slopes = records.listed(count, records.byte)
    given, multipliers = records.listed(count, records.dyadic)
    if not slopes and not multipliers:
        return Close(group, tuple(shared))
    advice = Advice(sloped, np.array(slopes, np.uint8), given, np.array(multipliers, np.float64))
    return Close(group, tuple(shared), advice=advice)


def _read_lifted(records: _Records, goal: Goal, count: int) -> LiftedAdvice:
    shift = records.below(MAX_SHIFT, "shift")

    def fixed(*, signed: bool = False) -> float:
        return records.fixed(shift, signed=signed)

    neurons, products = records.listed(count, lambda: [fixed(), fixed(signed=True), fixed(), fixed()])
    if len(neurons) > MAX_LIFTED:
        raise MalformedCertificate(f"a lifted close has more than {MAX_LIFTED} neurons")
    shifted, shifts = records.listed(count, lambda: fixed(signed=True))
    inputs, boxes = records.listed(goal.network.n_inputs, fixed)
    above, relu, chord, box = np.array(products, np.float64).reshape(-1, 4).T
    alone = np.array(shifts, np.float64), inputs, np.array(boxes, np.float64)
    return LiftedAdvice(neurons, above, relu, chord, box, shifted, *alone)
