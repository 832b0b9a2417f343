"""The trusted file: check a proof about a ReLU network in exact integers, with the standard library only.

    python -I -S optverify/kernel.py NETWORK.json PROPERTY.json CERTIFICATE

docs/certificate-v1.md has the formats. A certificate is a tree. A node stands for the points x of a box whose inputs
z^k to the Relus lie in intervals l^k <= z^k <= u^k; the two children of a split cover their parent. One theorem:
take any mu >= 0 and any numbers g, and walk backwards from the atoms of a case with coefficients v,

    start      mu . atoms = v . y + w . x + total
    affine     v . (W a + b) = (W'v) . a + v . b
    relu       v . relu(z) >= g . z + sum_j h(v_j, g_j; l_j, u_j),  h = min over z in [l, u] of v relu(z) - g z
    inputs     (v + w) . x >= sum_i min((v + w)_i lo_i, (v + w)_i hi_i)

then mu . atoms >= D, the sum of all constants, at every point of the node; so if D > 0, no point of the node has all
atoms <= 0. Proof: each line holds coordinate by coordinate; v relu(z) - g z is linear on both sides of 0, so its
minimum is at l, at u or, if l < 0 < u, at 0. Where a Relu passes a coordinate through, g = v and h = 0. Where a row's
coefficients are known only within a relative slack s, v_i (W a + b)_i is off by at most |v_i| s (|W| m + |b|)_i,
m >= |a|. It does not matter where mu and g come from. With v = +e_j and -e_j, D bounds z_j: this gives the intervals.

Numbers are integers "over" a power of two or another denominator: no float, no tolerance, nothing is skipped.
Exit status: 0 the printed statement is proved; 1 rejected; 2 usage; 3 malformed.
"""

from __future__ import annotations

import hashlib
import json
import sys
import zlib
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import gcd, lcm
from operator import add, le, mul, sub
from typing import Any, BinaryIO, NamedTuple

MAGIC = b"optverify certificate 1\n"
MAX_DIGITS, MAX_SHIFT, MAX_GRID, MAX_DENOMINATOR, MAX_HEADER = 4_300, 2_000, 200, 20_000, 1 << 26
MAX_BYTES, MAX_EXPONENT, MAX_DEPTH, MAX_REFRESHES, MAX_RECORDS = 1_429, 5_000, 10_000, 10, 100_000
CHUNK, MAX_EXPANSION, FREE_EXPANSION = 1 << 16, 250, 1 << 20
SPLIT_INPUT, SPLIT_NEURON, REFRESH, LEMMA, CLOSE, EMPTY = 1, 2, 3, 4, 5, 6

# Shapes of the JSON texts: [a, b] is a list of any length whose entries fit a or b, a tuple a list of that length,
# a set an integer that is in it.
RATIONAL = (int, int)
AFFINE = {"affine": (int, int), "shift": int, "rows": [[int]], "bias": [int], "slack_shift": int, "slack": [int]}
NETWORK = {"format": "optverify network 1", "inputs": int, "layers": [AFFINE, {"relu": [{0, 1}]}]}
ATOM = {"terms": [("X", int, int, int), ("Y", int, int, int)], "constant": RATIONAL, "strict": {0, 1}}
CASE = {"lower": [RATIONAL], "upper": [RATIONAL], "unsafe": [ATOM]}
PROPERTY = {"format": "optverify property 1", "inputs": int, "outputs": int, "cases": [CASE]}
VERIFIED = {"kind": "verified", "network": str, "property": str, "semantics": "real", "grid": int}
FALSIFIED = {"kind": "falsified", "network": str, "property": str, "semantics": "real", "case": int, "x": [RATIONAL]}

# Lower and upper ends of intervals over a common positive denominator; the same of one Relu's input, over 2^grid.
Ends = tuple[list[int], list[int], int]
Slice = tuple[list[int], list[int]]


class Rejected(Exception):
    """Well-formed, but it does not prove what it should."""


class Malformed(Exception):
    """Not in the format."""


class Affine(NamedTuple):
    """a -> W a + b. A row is (columns, weights, bias, slack), the slack over 2^slack_shift, the rest over 2^shift."""

    inputs: int
    shift: int
    slack_shift: int
    has_slack: bool
    rows: list[tuple[list[int], list[int], int, int]]


class Network(NamedTuple):
    """Layers; the integer k among them is Relu k, which rectifies where ``masks[k]`` and passes the rest through."""

    inputs: int
    outputs: int
    layers: list[Affine | int]
    masks: list[list[int]]


class Atom(NamedTuple):
    """terms . (X, Y) + constant <= 0 (or < 0), in integers over the scale of the case; a term is ("X", i, n)."""

    terms: list[tuple[str, int, int]]
    constant: int
    strict: int


class Case(NamedTuple):
    """A box in lowest terms, the atoms that must not all hold on it, and the denominator of all their numbers."""

    box: Ends
    unsafe: list[Atom]
    scale: int


def need(condition: bool, message: str) -> None:
    """Refuse what is not in the format."""
    if not condition:
        raise Malformed(message)


def fits(value: Any, shape: Any) -> bool:
    """Compare a JSON value with a shape; keys must come in order. It recurs as deep as the shape."""
    if isinstance(shape, type):
        return type(value) is shape
    if isinstance(shape, dict):
        return type(value) is dict and list(value) == list(shape) and all(fits(value[k], shape[k]) for k in shape)
    if isinstance(shape, tuple):
        return type(value) is list and len(value) == len(shape) and all(map(fits, value, shape))
    if isinstance(shape, set):
        return type(value) is int and value in shape
    if isinstance(shape, list):
        return type(value) is list and all(any(fits(v, s) for s in shape) for v in value)
    return bool(value == shape)


def read_json(text: bytes, what: str, *shapes: object) -> Any:
    """Parse canonical JSON: it must be what writing it again gives, so there are no spaces, duplicate keys, floats.

    Numbers that are not integers become strings and integers of too many digits are cut, so they differ too.
    """
    try:
        plain = text.decode("ascii")
        value = json.loads(plain, parse_float=str, parse_constant=str, parse_int=lambda n: int(n[:MAX_DIGITS]))
        canonical = json.dumps(value, separators=(",", ":")) == plain
    except (ValueError, RecursionError):
        raise Malformed(f"{what}: not JSON in ASCII, or nested too deeply") from None
    need(canonical, f"{what}: not canonical JSON with integers of at most {MAX_DIGITS} characters")
    need(any(fits(value, shape) for shape in shapes), f"{what}: unknown, missing or misplaced keys or values")
    return value


def common(values: list[Any], what: str) -> tuple[list[int], int]:
    """Bring [numerator, denominator] pairs over the least common denominator."""
    d = 1
    for _, other in values:
        need(other > 0, f"{what}: a denominator is not positive")
        d = lcm(d, other)
        need(d.bit_length() <= MAX_DENOMINATOR, f"{what}: the common denominator has more than {MAX_DENOMINATOR} bits")
    return [n * (d // other) for n, other in values], d


def read_network(text: bytes) -> Network:
    """Parse the canonical network."""
    value = read_json(text, "network", NETWORK)
    inputs = size = value["inputs"]
    layers: list[Affine | int] = []
    masks: list[list[int]] = []
    need(inputs > 0 and bool(value["layers"]), "network: no inputs or no layers")
    for position, item in enumerate(value["layers"]):
        if "relu" in item:
            need(len(item["relu"]) == size, f"layer {position}: the mask does not have length {size}")
            layers.append(len(masks))
            masks.append(item["relu"])
        else:
            layer = read_affine(item, size, f"layer {position}")
            layers.append(layer)
            size = len(layer.rows)
    return Network(inputs, size, layers, masks)


def read_affine(item: Any, size: int, what: str) -> Affine:
    """Parse an affine layer that takes `size` values."""
    (m, n), rows, bias, slack = item["affine"], item["rows"], item["bias"], item["slack"]
    need(m > 0 and n == size and m == len(rows) == len(bias) == len(slack), f"{what}: sizes disagree")
    need(0 <= item["shift"] <= MAX_SHIFT and 0 <= item["slack_shift"] <= MAX_SHIFT, f"{what}: a shift is out of range")
    need(min(slack) >= 0, f"{what}: a slack is negative")
    for row in rows:
        columns = [-1, *row[::2], n]
        need(len(row) % 2 == 0 and all(row[1::2]), f"{what}: rows must be pairs of a column and a nonzero weight")
        need(all(i < j for i, j in pairwise(columns)), f"{what}: columns must increase and be less than {n}")
    full = [(row[::2], row[1::2], b, s) for row, b, s in zip(rows, bias, slack, strict=True)]
    return Affine(n, item["shift"], item["slack_shift"], any(slack), full)


def read_property(text: bytes, net: Network) -> list[Case]:
    """Parse the canonical property of a network."""
    value = read_json(text, "property", PROPERTY)
    need((value["inputs"], value["outputs"]) == (net.inputs, net.outputs), "property: the network has other sizes")
    cases, sizes = [], {"X": net.inputs, "Y": net.outputs}
    for c, item in enumerate(value["cases"]):
        what, unsafe = f"case {c}", item["unsafe"]
        need(len(item["lower"]) == len(item["upper"]) == net.inputs, f"{what}: a box of another size")
        ends, d = common(item["lower"] + item["upper"], what)
        shared = gcd(d, *ends)
        lo, hi = [a // shared for a in ends[: net.inputs]], [a // shared for a in ends[net.inputs :]]
        need(all(map(le, lo, hi)), f"{what}: lower above upper")
        for atom in unsafe:
            terms = atom["terms"]
            need(all(0 <= i < sizes[kind] and n for kind, i, n, _ in terms), f"{what}: no such variable, or a 0")
            need(all(a[:2] < b[:2] for a, b in pairwise(terms)), f"{what}: variables must be in order, X before Y")
        pairs = [pair for a in unsafe for pair in (*(term[2:] for term in a["terms"]), a["constant"])]
        numbers, scale = common(pairs, what)
        n = iter(numbers)
        atoms = [Atom([(kind, i, next(n)) for kind, i, *_ in a["terms"]], next(n), a["strict"]) for a in unsafe]
        cases.append(Case((lo, hi, d // shared), atoms, scale))
    return cases


def goals(cases: list[Case]) -> list[list[int]]:
    """Group the cases by their boxes, in order of first appearance."""
    found: dict[tuple[object, ...], list[int]] = {}
    for c, case in enumerate(cases):
        found.setdefault((*map(tuple, case.box[:2]), case.box[2]), []).append(c)
    return list(found.values())


def reach(f: Affine, entering: Ends) -> list[int]:
    """Return |W| m + |b| over den 2^shift, m >= |a| for all lo <= a <= hi."""
    lo, hi, den = entering
    m = [max(abs(a), abs(b)) for a, b in zip(lo, hi, strict=True)]
    return [sum(map(mul, map(abs, ws), [m[j] for j in js])) + abs(b) * den for js, ws, b, _ in f.rows]


def affine_ends(f: Affine, entering: Ends) -> Ends:
    """Interval arithmetic: enclose W a + b for all lo <= a <= hi, exactly, whatever the slack allows."""
    lo, hi, den = entering
    twice, width, lower, upper = list(map(add, lo, hi)), list(map(sub, hi, lo)), [], []
    reaches = reach(f, entering) if f.has_slack else [0] * len(f.rows)
    for (js, ws, b, s), r in zip(f.rows, reaches, strict=True):
        centre = sum(map(mul, ws, [twice[j] for j in js])) + 2 * b * den  # over 2 den 2^shift
        radius = sum(map(mul, map(abs, ws), [width[j] for j in js]))
        lower.append((centre - radius << f.slack_shift) - 2 * s * r)
        upper.append((centre + radius << f.slack_shift) + 2 * s * r)
    return lower, upper, 2 * den << f.shift + f.slack_shift


def outward(ends: Ends, grid: int) -> Ends:
    """Round lower ends down and upper ends up to multiples of 2^-grid."""
    lo, hi, den = ends
    return [(a << grid) // den for a in lo], [-((-b << grid) // den) for b in hi], 1 << grid


def rectified(mask: list[int], ends: list[int]) -> list[int]:
    """Return what a Relu makes of the ends of what enters it."""
    return [max(a, 0) if on else a for a, on in zip(ends, mask, strict=True)]


def unstable(mask: list[int], z: Slice) -> int:
    """Count the rectified coordinates with lo < 0 < hi."""
    return sum(lo < 0 < hi for on, lo, hi in zip(mask, *z, strict=True) if on)


def plus(a: int, p: int, b: int, q: int) -> tuple[int, int]:
    """Add a over 2^p and b over 2^q."""
    return ((a << q - p) + b, q) if p <= q else (a + (b << p - q), p)


class Advice(NamedTuple):
    """How to choose g: slopes in 255ths for unstable neurons in walking order; given[k][j] = (m, e): g = m 2^e."""

    slopes: bytes | None = None
    given: dict[int, dict[int, tuple[int, int]]] = {}  # noqa: RUF012


RULE = Advice()


def h(v: int, g: int, lo: int, hi: int) -> int:
    """Return the minimum over z in [lo, hi] of v relu(z) - g z."""
    at_lo = (v - g if lo > 0 else -g) * lo
    at_hi = (v - g if hi > 0 else -g) * hi
    least = at_lo if at_lo < at_hi else at_hi
    return 0 if least > 0 and lo < 0 < hi else least


def rule(v: int, p: int, lo: int, hi: int, slope: int, grid: int) -> int:
    """Return g over 2^grid for v over 2^p: v times a slope, rounded down; `slope` is in 255ths.

    The slope is 1 where lo >= 0, 0 where hi <= 0; else as given where v >= 0, the chord's, hi / (hi - lo), where v < 0.
    """
    if lo >= 0:
        return v << grid >> p
    if hi <= 0:
        return 0
    return (v * slope << grid) // (255 << p) if v >= 0 else (v * hi << grid) // (hi - lo << p)


def relu_step(
    mask: list[int], z: Slice, v: list[int], p: int, grid: int, slopes: bytes | None, given: dict[int, tuple[int, int]]
) -> tuple[list[int], int, int, int]:
    """Walk through a Relu: v . relu(z) >= g . z + total. Return g, its scale, the total and its scale.

    `slopes` has one entry for each unstable neuron; the rule's slopes are 1 where hi > -lo and 0 elsewhere.
    """
    s = max(grid, 0 if all(mask) else p, *(-exponent for _, exponent in given.values()))  # the scale of g
    c = max(p, s)
    out, total, at = [], 0, 0
    for j, (vj, on, lo, hi) in enumerate(zip(v, mask, *z, strict=True)):
        if not on:
            out.append(vj << s - p)  # g = v, h = 0
            continue
        slope = 255 if hi > -lo else 0
        if slopes is not None and lo < 0 < hi:
            slope = slopes[at]
            at += 1
        if j in given:
            mantissa, exponent = given[j]
            g = mantissa << s + exponent
        elif not vj or hi <= 0:
            out.append(0)  # the rule's g = 0, h = 0
            continue
        else:
            g = rule(vj, p, lo, hi, slope, grid) << s - grid
        out.append(g)
        total += h(vj << c - p, g << c - s, lo, hi)
    return out, s, total, c + grid


def affine_step(f: Affine, v: list[int]) -> tuple[list[int], int]:
    """Walk through an affine layer: return W'v and v . b, over 2^(p + shift) for v over 2^p."""
    out, total = [0] * f.inputs, 0
    for g, (js, ws, b, _) in zip(v, f.rows, strict=True):
        if g:
            total += g * b
            for j, w in zip(js, ws, strict=True):
                out[j] += g * w
    return out, total


@dataclass
class Node:
    """The points of `box` whose input to Relu k lies in ``z[k]``, for all k. No list is ever changed in place."""

    net: Network
    grid: int
    box: Ends
    z: list[Slice]
    open: frozenset[int]  # the groups not yet proved unreachable here
    depth: int = 0
    empty: bool = False  # some interval was found empty: the node holds no point
    reaches: dict[int, list[int]] = field(default_factory=dict)  # what `reach` has computed

    def cut(self, k: int, lo: list[int], hi: list[int]) -> None:
        """Intersect the intervals of Relu k's input with others."""
        lo, hi = list(map(max, self.z[k][0], lo)), list(map(min, self.z[k][1], hi))
        self.z[k] = lo, hi
        self.empty = self.empty or any(a > b for a, b in zip(lo, hi, strict=True))
        self.reaches = {}

    def cut_one(self, k: int, j: int, side: int, end: int) -> None:
        """Intersect the interval of one coordinate with z_j >= end (side 0) or z_j <= end (side 1)."""
        ends = list(self.z[k][0]), list(self.z[k][1])
        ends[side][j] = end
        self.cut(k, *ends)

    def entering(self, position: int) -> Ends:
        """Enclose what enters a layer: the box or what leaves the last Relu, then interval arithmetic."""
        layers, ends = self.net.layers, self.box
        for layer in layers[max((i for i in range(position) if isinstance(layers[i], int)), default=0) : position]:
            if isinstance(layer, Affine):
                ends = outward(affine_ends(layer, ends), self.grid)
            else:
                lo, hi = (rectified(self.net.masks[layer], end) for end in self.z[layer])
                ends = lo, hi, 1 << self.grid
        return ends

    def reach(self, f: Affine, position: int) -> list[int]:
        """Return |W| m + |b| of an affine layer, rounded up to the grid, m >= |a| for what enters it."""
        if position not in self.reaches:
            ends = self.entering(position)
            self.reaches[position] = [-((-r << self.grid) // (ends[2] << f.shift)) for r in reach(f, ends)]
        return self.reaches[position]

    def bound(self, top: int, v: list[int], w: list[int], total: int, advice: Advice = RULE) -> tuple[int, int]:
        """Return D, numerator and denominator, at most v . a + w . x + total; a leaves the first `top` layers."""
        p = t = at = 0  # v is over 2^p, total over 2^t; `at` slopes have been used
        for position in range(top - 1, -1, -1):
            layer = self.net.layers[position]
            if isinstance(layer, Affine):
                if layer.has_slack:
                    losses = zip(v, layer.rows, self.reach(layer, position), strict=True)
                    loss = sum(abs(g) * row[3] * r for g, row, r in losses)
                    total, t = plus(total, t, -loss, p + layer.slack_shift + self.grid)
                v, gain = affine_step(layer, v)
                p += layer.shift
                total, t = plus(total, t, gain, p)
            else:
                mask, z, slopes = self.net.masks[layer], self.z[layer], None
                if advice.slopes is not None:
                    slopes = advice.slopes[at : at + unstable(mask, z)]
                    at += len(slopes)
                v, p, gain, q = relu_step(mask, z, v, p, self.grid, slopes, advice.given.get(layer, {}))
                total, t = plus(total, t, gain, q)
        lo, hi, den = self.box
        v = [a + (b << p) for a, b in zip(v, w, strict=True)]
        least = sum(a * (b if a > 0 else c) for a, b, c in zip(v, lo, hi, strict=True))  # over den 2^p
        total, t = plus(total * den, t, least, p)
        return total, den << t

    def least(self, k: int, j: int, sign: int, advice: Advice = RULE) -> int:
        """Return a lower bound on sign * z_j of Relu k's input, over 2^grid."""
        v = [0] * len(self.net.masks[k])
        v[j] = sign
        n, d = self.bound(self.net.layers.index(k), v, [0] * self.net.inputs, 0, advice)
        return (n << self.grid) // d

    def close(self, case: Case, mu: list[int], advice: Advice = RULE) -> tuple[int, int]:
        """Return D(mu, g), at most mu . atoms on the node: if it is positive, no point of the node is in the case."""
        y, x, total = [0] * self.net.outputs, [0] * self.net.inputs, 0
        for factor, atom in zip(mu, case.unsafe, strict=True):
            total += factor * atom.constant
            for kind, i, n in atom.terms:
                (x if kind == "X" else y)[i] += factor * n
        # All numbers were multiplied by case.scale, so the given multipliers are too.
        given = {k: {j: (n * case.scale, e) for j, (n, e) in at.items()} for k, at in advice.given.items()}
        return self.bound(len(self.net.layers), y, x, total, Advice(advice.slopes, given))

    def refresh(self) -> None:
        """Bound the inputs of all Relus anew: by interval arithmetic, then open neurons by the formula and the rule."""
        for k, mask in enumerate(self.net.masks):
            position = self.net.layers.index(k)
            lo, hi, _ = outward(self.entering(position), self.grid)
            self.cut(k, lo, hi)
            if position > 1 and not self.empty:  # with one layer below, interval arithmetic leaves nothing to gain
                lo, hi = list(self.z[k][0]), list(self.z[k][1])
                for j in [j for j, on in enumerate(mask) if on and lo[j] < 0 < hi[j]]:
                    lo[j], hi[j] = self.least(k, j, 1), -self.least(k, j, -1)
                self.cut(k, lo, hi)
            if self.empty:
                return


class Records:
    """The compressed part of a certificate, read in small pieces."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream, self.inflate = stream, zlib.decompressobj()
        self.buffer, self.at, self.taken, self.made = b"", 0, 0, 0

    def fill(self) -> bool:
        """Make sure that there is a next byte, unless the stream is at its end."""
        while self.at == len(self.buffer) and not self.inflate.eof:
            data = self.inflate.unconsumed_tail or self.stream.read(CHUNK)
            self.taken += 0 if self.inflate.unconsumed_tail else len(data)
            try:
                self.buffer, self.at = self.inflate.decompress(data, CHUNK), 0
            except zlib.error:
                raise Malformed("the compressed data are damaged") from None
            need(bool(data or self.buffer), "the certificate is truncated")
            self.made += len(self.buffer)
            need(self.made <= MAX_EXPANSION * self.taken + FREE_EXPANSION, "the compressed data expand too far")
        return self.at < len(self.buffer)

    def byte(self) -> int:
        """Read one byte."""
        need(self.fill(), "the records end before the tree does")
        self.at += 1
        return self.buffer[self.at - 1]

    def end(self) -> None:
        """Require that nothing follows."""
        need(not self.fill(), "records follow the last tree")
        need(not self.inflate.unused_data and not self.stream.read(1), "data follow the certificate")

    def u(self, count: int | None = None) -> int:
        """Read an unsigned LEB128 integer, less than `count`."""
        value = 0
        for group in range(MAX_BYTES):
            byte = self.byte()
            value |= (byte & 127) << 7 * group
            if byte < 128:
                need(count is None or value < count, f"a number is {value:#x}, but must be less than {count}")
                return value
        raise Malformed("an integer is too long")

    def d(self) -> tuple[int, int]:
        """Read a dyadic number, mantissa and exponent: signed integers, written 0, -1, 1, -2, 2, ..."""
        mantissa, exponent = (-(n + 1 >> 1) if n & 1 else n >> 1 for n in (self.u(), self.u()))
        need(abs(exponent) <= MAX_EXPONENT, "an exponent is out of range")
        return mantissa, exponent

    def neuron(self, net: Network, below: int) -> tuple[int, int]:
        """Read the number of a Relu, less than `below`, and a coordinate that it rectifies."""
        k = self.u(below)
        j = self.u(len(net.masks[k]))
        need(bool(net.masks[k][j]), f"Relu {k} does not rectify coordinate {j}")
        return k, j

    def advice(self, node: Node, below: int) -> Advice:
        """Read the advice for an objective above the first `below` Relus."""
        kind, slopes = self.u(3), None
        if kind == 0:
            return RULE
        masks = node.net.masks[:below]
        if kind == 1:
            count = sum(map(unstable, masks, node.z))
            if self.u() != count:
                raise Rejected(f"the slopes are not for {count} unstable neurons")
            slopes = bytes([self.byte() for _ in range(count)])
        given: dict[int, dict[int, tuple[int, int]]] = {}
        for _ in range(self.u(sum(map(sum, masks)) + 1)):
            k, j = self.neuron(node.net, below)
            need(j not in given.setdefault(k, {}), f"the multiplier of neuron {j} of Relu {k} is given twice")
            given[k][j] = self.d()
        return Advice(slopes, given)


def root(net: Network, grid: int, cases: list[Case]) -> Node:
    """Return the first node of a goal, with intervals by interval arithmetic."""
    node = Node(net, grid, cases[0].box, [], frozenset(range(len(cases))))
    for k in range(len(net.masks)):
        lo, hi, _ = outward(node.entering(net.layers.index(k)), grid)
        node.z.append((lo, hi))
    return node


def split_input(node: Node, i: int, mantissa: int, exponent: int) -> list[Node]:
    """Return the parts x_i <= m and x_i >= m of a node, for m = mantissa 2^exponent strictly inside."""
    factor = (1 << max(0, -exponent)) // gcd(node.box[2], 1 << max(0, -exponent))
    lo, hi = ([factor * a for a in ends] for ends in node.box[:2])
    den = factor * node.box[2]
    m = mantissa * (den << exponent if exponent >= 0 else den >> -exponent)
    if not lo[i] < m < hi[i]:
        raise Rejected(f"the split of input {i} is not inside its interval")
    boxes = (lo, [*hi[:i], m, *hi[i + 1 :]], den), ([*lo[:i], m, *lo[i + 1 :]], hi, den)
    return [replace(node, box=box, z=list(node.z), depth=node.depth + 1, reaches={}) for box in boxes]


def split_neuron(node: Node, k: int, j: int) -> list[Node]:
    """Return the parts z_j <= 0 and z_j >= 0 of a node."""
    parts = [replace(node, z=list(node.z), depth=node.depth + 1, reaches={}) for _ in range(2)]
    parts[0].cut_one(k, j, 1, 0)
    parts[1].cut_one(k, j, 0, 0)
    return parts


def visit(node: Node, cases: list[Case], records: Records) -> list[Node]:
    """Follow the records of one node up to its end; return the parts that are left to prove."""
    net, relus, refreshes = node.net, len(node.net.masks), 0
    for _ in range(MAX_RECORDS):
        kind = records.byte()
        if node.empty != (kind == EMPTY):
            raise Rejected(
                "EMPTY must follow: the node is empty" if node.empty else "the node is not known to be empty"
            )
        if kind == EMPTY:
            return []
        if kind in (SPLIT_INPUT, SPLIT_NEURON):
            need(node.depth < MAX_DEPTH, "the tree is too deep")
            if kind == SPLIT_INPUT:
                return split_input(node, records.u(net.inputs), *records.d())
            return split_neuron(node, *records.neuron(net, relus))
        if kind == REFRESH:
            refreshes += 1
            need(refreshes <= MAX_REFRESHES, "too many refreshes of one node")
            node.refresh()
        elif kind == LEMMA:
            (k, j), upper = records.neuron(net, relus), records.u(2)
            sign = -1 if upper else 1
            node.cut_one(k, j, upper, sign * node.least(k, j, sign, records.advice(node, k)))
        elif kind == CLOSE:
            group = records.u(len(cases))
            need(group in node.open, f"group {group} is closed already")
            mu = [records.u() for _ in cases[group].unsafe]
            if node.close(cases[group], mu, records.advice(node, relus))[0] <= 0:
                raise Rejected(f"the bound for group {group} is not positive")
            node.open -= {group}
            if not node.open:
                return []
        else:
            raise Malformed(f"unknown record {kind}")
    raise Malformed("too many records in one node")


def prove(net: Network, cases: list[Case], grid: int, records: Records) -> str:
    """Follow the tree of every goal to its end; return a count of nodes."""
    nodes = 0
    for goal, members in enumerate(goals(cases)):
        mine = [cases[c] for c in members]
        stack, number = [root(net, grid, mine)], 0
        while stack:
            node = stack.pop()
            try:
                stack += reversed(visit(node, mine, records))
            except (Rejected, Malformed) as error:
                raise type(error)(f"goal {goal}, node {number}, depth {node.depth}: {error}") from None
            number += 1
        nodes += number
    records.end()
    return f"{len(goals(cases))} goals, {nodes} nodes, intervals on a grid of 2^-{grid}"


def refute(net: Network, case: Case, x: list[int], den: int) -> Ends:
    """Require that the point x / den violates the case for certain; return enclosures of the outputs."""
    lo, hi, d = case.box
    if not all(a * den <= v * d <= b * den for a, v, b in zip(lo, x, hi, strict=True)):
        raise Rejected("the point is outside the box")
    ends = x, x, den
    for layer in net.layers:
        if isinstance(layer, Affine):
            ends = affine_ends(layer, ends)
        else:
            ends = rectified(net.masks[layer], ends[0]), rectified(net.masks[layer], ends[1]), ends[2]
    for number, atom in enumerate(case.unsafe):
        worst = atom.constant * den * ends[2]
        for kind, i, n in atom.terms:
            worst += n * (x[i] * ends[2] if kind == "X" else (ends[1] if n > 0 else ends[0])[i] * den)
        if worst > 0 or (atom.strict and worst == 0):
            raise Rejected(f"the point does not certainly satisfy condition {number} of the case")
    return ends


def show(n: int, d: int) -> str:
    """Write n / d exactly: as a short decimal, else as a fraction, with a truncated decimal, or in hexadecimal."""
    n, d = n // gcd(n, d), d // gcd(n, d)
    if max(abs(n), d).bit_length() > 256:
        return f"{n:#x}/{d:#x}"
    decimal = "-" * (n < 0) + f"{abs(n) // d}.{abs(n) % d * 10**9 // d:09}"
    return decimal.rstrip("0").rstrip(".") if 10**9 % d == 0 else f"{n}/{d} ({decimal}...)"


def some(items: list[str], most: int, joint: str) -> str:
    """Join the first items; say how many more there are."""
    return joint.join(items[:most]) + f"{joint}... {len(items) - most} more, see the file" * (len(items) > most)


def describe(cases: list[Case]) -> list[str]:
    """Say in words what each case is."""
    lines = []
    for members in goals(cases):
        lo, hi, d = cases[members[0]].box
        box = [f"{show(a, d)} <= X_{i} <= {show(b, d)}" for i, (a, b) in enumerate(zip(lo, hi, strict=True))]
        lines.append(f"  box: {some(box, 8, ', ')}")
        for c in members:
            _, unsafe, d = cases[c]
            sums = [[*(f"{show(n, d)} {kind}_{i}" for kind, i, n in a.terms), show(a.constant, d)] for a in unsafe]
            atoms = [some(s, 12, " + ") + (" < 0" if a.strict else " <= 0") for s, a in zip(sums, unsafe, strict=True)]
            lines.append(f"    case {c}: {some(atoms, 8, ' and ') or 'every point of the box'}")
    return lines


def check(network: bytes, property_: bytes, certificate: BinaryIO) -> str:
    """Return the statement that a certificate proves about a network and a property; its last line is the verdict.

    Raises Rejected if it does not prove one, Malformed if some input is not in the format.
    """
    net = read_network(network)
    cases = read_property(property_, net)
    need(certificate.read(len(MAGIC)) == MAGIC, "not a certificate of format 1")
    line = certificate.readline(MAX_HEADER)
    need(line.endswith(b"\n"), "the header does not end")
    header = read_json(line[:-1], "header", VERIFIED, FALSIFIED)
    lines = []
    for name, text in (("network", network), ("property", property_)):
        digest = hashlib.sha256(text).hexdigest()
        if header[name] != digest:
            raise Rejected(f"the certificate is for another {name}, not for the one with SHA-256 {digest}")
        lines.append(f"{name}: SHA-256 {digest}")
    loose = any(isinstance(f, Affine) and f.has_slack for f in net.layers)
    neurons = sum(map(sum, net.masks))
    lines.append(f"sizes: {net.inputs} inputs X, {neurons} ReLU neurons, {net.outputs} outputs Y, {len(cases)} cases")
    lines.append(f"semantics: exact real arithmetic{', for all coefficients within the slack of their row' * loose}")
    if header["kind"] == "verified":
        need(0 <= header["grid"] <= MAX_GRID, "header: the grid is out of range")
        proof = prove(net, cases, header["grid"], Records(certificate))
        lines.append("statement: no real point X of a box has all conditions of any case below it")
        return "\n".join([*lines, some(describe(cases), 60, "\n"), f"proof: {proof}", "PROVED"])
    c = header["case"]
    need(0 <= c < len(cases) and len(header["x"]) == net.inputs, "header: no such case, or a point of another size")
    need(not certificate.read(1), "data follow the certificate")
    x, den = common(header["x"], "header")
    lo, hi, d = refute(net, cases[c], x, den)
    lines += [f"statement: this point of the box of case {c} has all conditions of that case", *describe([cases[c]])]
    lines += [f"  X_{i} = {show(v, den)}" for i, v in enumerate(x)]
    lines += [f"  {show(a, d)} <= Y_{j} <= {show(b, d)}" for j, (a, b) in enumerate(zip(lo, hi, strict=True))]
    return "\n".join([*lines, "REFUTED"])


def main(arguments: list[str]) -> int:
    """Check the three files named; print what was proved."""
    if len(arguments) != 3:
        print("usage: python -I -S kernel.py NETWORK.json PROPERTY.json CERTIFICATE", file=sys.stderr)
        return 2
    try:
        with open(arguments[0], "rb") as net, open(arguments[1], "rb") as prop, open(arguments[2], "rb") as certificate:
            statement = check(net.read(), prop.read(), certificate)
    except (Rejected, Malformed, OSError, MemoryError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1 if isinstance(error, Rejected) else 3
    print(statement)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
