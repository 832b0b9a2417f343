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

A lifted close does this with several coefficients, "lanes", on each coordinate: v stands for sum_r v_r phi_r, where
phi_0 = 1 and phi_r = relu(y) / u, in [0, 1], for the r-th of some neurons, l <= y <= u. Lane by lane each line still
holds, as phi_r >= 0. At such a neuron, u phi_r takes the place of relu(y), and what is not negative is subtracted:

    above (u phi_r - y) + chord (y - l - (u - l) phi_r) + box phi_r (1 - phi_r),  all three multipliers >= 0,
    and relu phi_r (u phi_r - y), which is 0, with any multiplier

So y gets the coefficients g = above - chord in lane 0 and relu in lane r. What is left at the inputs is a quadratic in
phi and x, which :func:`quadratic` bounds.

Numbers are integers "over" a power of two or another denominator: no float, no tolerance, nothing is skipped.
"""

from __future__ import annotations

import hashlib
import json
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import gcd, lcm
from operator import add, le, mul, sub
from typing import Any, BinaryIO, NamedTuple

MAGIC = b"optverify certificate 1\n"
MAX_DIGITS, MAX_SHIFT, MAX_GRID, MAX_DENOMINATOR, MAX_HEADER = 4_300, 2_000, 200, 20_000, 1 << 26
MAX_BYTES, MAX_EXPONENT, MAX_WAITING, MAX_BOUNDS = 1_429, 5_000, 10_000, 1_000
MAX_LIFTED, MAX_LIFTED_BITS, MAX_LIFTED_EXPONENT, GUARD = 1_000, 64, 500, 64
CHUNK, MAX_EXPANSION, FREE_EXPANSION, LANES, MAX_SHOWN = 1 << 16, 250, 1 << 20, 256, 2_000
SPLIT_INPUT, SPLIT_NEURON, REFRESH, LEMMA, CLOSE, EMPTY, CLOSE_LIFTED = 1, 2, 3, 4, 5, 6, 8

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

Ends = tuple[list[int], list[int], int]  # lower and upper ends of intervals over a common positive denominator
Slice = tuple[list[int], list[int]]  # the same of one Relu's input, over 2^grid
Neuron = tuple[int, int]  # a Relu and a coordinate that it rectifies
Columns = list[list[int]]  # coefficients of several objectives or lanes at once: for each coordinate, one of each
Term = tuple[int, list[int], int]  # (r, n, t): the sum of n_s phi_s phi_r over all lanes s, over 2^t


class Rejected(Exception):
    """Well-formed, but it does not prove what it should."""


class Malformed(Exception):
    """Not in the format."""


class Advice(NamedTuple):
    """How to choose multipliers where not by the rule; the lists have numbers over 2^scale."""

    slopes: dict[Neuron, int]  # of unstable neurons, in 255ths
    given: dict[Neuron, list[int]]  # [g]
    scale: int
    # In a lifted close:
    added: dict[Neuron, list[int]]  # [what is added to the rule's g in lane 0]
    lifted: dict[Neuron, list[int]]  # [lane, above, relu, chord, box]
    inputs: dict[int, list[int]]  # [box]


RULE = Advice({}, {}, 0, {}, {}, {})


class Affine(NamedTuple):
    """a -> W a + b. A row is (columns, weights, bias, slack), the slack over 2^slack_shift, the rest over 2^shift."""

    inputs: int
    shift: int
    slack_shift: int
    has_slack: bool
    rows: list[tuple[list[int], list[int], int, int]]
    largest: int  # of 1 and all absolute values of weights and biases

    def reach(self, entering: Ends) -> list[int]:
        """Return |W| m + |b| over den 2^shift, m >= |a| for all lo <= a <= hi."""
        lo, hi, den = entering
        m = [max(abs(a), abs(b)) for a, b in zip(lo, hi, strict=True)]
        return [sum(map(mul, map(abs, ws), [m[j] for j in js])) + abs(b) * den for js, ws, b, _ in self.rows]

    def ends(self, entering: Ends) -> Ends:
        """Interval arithmetic: enclose W a + b for all lo <= a <= hi, exactly, whatever the slack allows."""
        lo, hi, den = entering
        twice, width, lower, upper = list(map(add, lo, hi)), list(map(sub, hi, lo)), [], []
        reaches = self.reach(entering) if self.has_slack else [0] * len(self.rows)
        for (js, ws, b, s), r in zip(self.rows, reaches, strict=True):
            centre = sum(map(mul, ws, [twice[j] for j in js])) + 2 * b * den  # over 2 den 2^shift
            radius = sum(map(mul, map(abs, ws), [width[j] for j in js]))
            lower.append((centre - radius << self.slack_shift) - 2 * s * r)
            upper.append((centre + radius << self.slack_shift) + 2 * s * r)
        return lower, upper, 2 * den << self.shift + self.slack_shift

    def step(self, v: Columns, skip: set[int]) -> tuple[Columns, list[int]]:
        """Walk backwards: return W'v and v . b, over 2^(p + shift) for v over 2^p; columns in `skip` are left 0.

        The coefficients of all objectives on one coordinate become one integer with a lane for each, the sum of
        c_r 2^(bits r). Lanes are so wide that no sum below leaves [-half, half), half = 2^(bits - 1): plus half
        they are digits, which do not borrow from each other.
        """
        count, width = len(v[0]), (len(v) * self.largest * max(max(map(abs, c)) for c in v)).bit_length() // 8 + 2
        half = 1 << 8 * width - 1
        halves = int.from_bytes(half.to_bytes(width, "little") * count, "little")
        sums = [0] * (self.inputs + 1)  # the last one is v . b
        for column, (js, ws, b, _) in zip(v, self.rows, strict=True):
            if any(column):
                digits = b"".join([(c + half).to_bytes(width, "little") for c in column])
                lanes = int.from_bytes(digits, "little") - halves
                sums[-1] += b * lanes
                for j, w in zip(js, ws, strict=True):
                    if j not in skip:
                        sums[j] += w * lanes
        out = []
        for lanes in sums:
            digits = (lanes + halves).to_bytes(width * count, "little")
            out.append([int.from_bytes(digits[i : i + width], "little") - half for i in range(0, len(digits), width)])
        return out[:-1], out[-1]


class Network(NamedTuple):
    """Layers; the integer k among them is Relu k, which rectifies where ``masks[k]`` and passes the rest through."""

    inputs: int
    outputs: int
    layers: list[Affine | int]
    masks: list[list[int]]


class Case(NamedTuple):
    """A box in lowest terms, the atoms that must not all hold on it, and the denominator of all their numbers."""

    box: Ends
    unsafe: list[tuple[list[tuple[str, int, int]], int, int]]  # terms ("X", i, n), their sum's constant, whether strict
    scale: int


def need(condition: bool, message: str) -> None:
    """Refuse what is not in the format."""
    if not condition:
        raise Malformed(message)


def fits(value: Any, shape: Any) -> bool:
    """Compare a JSON value with a shape; keys must come in order. It recurs as deep as the shape."""
    if isinstance(shape, dict):
        return type(value) is dict and list(value) == list(shape) and all(map(fits, value.values(), shape.values()))
    if isinstance(shape, list):
        return type(value) is list and all(any(fits(v, s) for s in shape) for v in value)
    if isinstance(shape, tuple):
        return type(value) is list and len(value) == len(shape) and all(map(fits, value, shape))
    if isinstance(shape, set):
        return type(value) is int and value in shape
    return type(value) is shape if isinstance(shape, type) else bool(value == shape)


def read_json(text: bytes, what: str, *shapes: object) -> Any:
    """Parse canonical JSON: it must be what writing it again gives, so there are no spaces, duplicate keys, floats."""
    try:  # numbers that are not integers become strings and integers of too many digits are cut, so they differ too
        plain = text.decode("ascii")
        value = json.loads(plain, parse_float=str, parse_constant=str, parse_int=lambda n: int(n[:MAX_DIGITS]))
        again = json.dumps(value, separators=(",", ":"))
    except (ValueError, RecursionError):
        raise Malformed(f"{what}: not JSON in ASCII, or nested too deeply") from None
    need(again == plain, f"{what}: not canonical JSON with integers of at most {MAX_DIGITS} characters")
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
            layers.append(read_affine(item, size, f"layer {position}"))
            size = len(item["rows"])
    return Network(inputs, size, layers, masks)


def read_affine(item: Any, size: int, what: str) -> Affine:
    """Parse an affine layer that takes `size` values."""
    (m, n), rows, bias, slack = item["affine"], item["rows"], item["bias"], item["slack"]
    need(m > 0 and n == size and m == len(rows) == len(bias) == len(slack), f"{what}: sizes disagree")
    need(0 <= item["shift"] <= MAX_SHIFT and 0 <= item["slack_shift"] <= MAX_SHIFT, f"{what}: a shift is out of range")
    need(min(slack) >= 0, f"{what}: a slack is negative")
    for row in rows:
        need(len(row) % 2 == 0 and all(row[1::2]), f"{what}: rows must be pairs of a column and a nonzero weight")
        need(all(a < b for a, b in pairwise([-1, *row[::2], n])), f"{what}: columns must increase and be less than {n}")
    full = [(row[::2], row[1::2], b, s) for row, b, s in zip(rows, bias, slack, strict=True)]
    largest = max(abs(w) for _, ws, b, _ in full for w in (1, *ws, b))
    return Affine(n, item["shift"], item["slack_shift"], any(slack), full, largest)


def read_property(text: bytes, net: Network) -> tuple[list[Case], list[list[int]]]:
    """Parse the canonical property of a network: the cases, and which of them have the same box, as it turns up."""
    value = read_json(text, "property", PROPERTY)
    need((value["inputs"], value["outputs"]) == (net.inputs, net.outputs), "property: the network has other sizes")
    cases, sizes = [], {"X": net.inputs, "Y": net.outputs}
    goals: dict[tuple[object, ...], list[int]] = {}
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
        atoms = [([(kind, i, next(n)) for kind, i, *_ in a["terms"]], next(n), a["strict"]) for a in unsafe]
        cases.append(Case((lo, hi, d // shared), atoms, scale))
        goals.setdefault((*lo, *hi, d // shared), []).append(c)
    return cases, list(goals.values())


def over(factor: int, *lists: dict[Any, list[tuple[int, int]]]) -> list[Any]:
    """Bring numbers (m, e) = m 2^e, times a factor, over the same power of two; return its exponent and the lists."""
    scale = max((-e for found in lists for numbers in found.values() for _, e in numbers), default=0)
    scale = max(0, scale)
    return [scale, *({at: [factor * m << scale + e for m, e in ns] for at, ns in one.items()} for one in lists)]


def outward(ends: Ends, grid: int) -> Slice:
    """Round lower ends down and upper ends up to multiples of 2^-grid."""
    return [(a << grid) // ends[2] for a in ends[0]], [-((-b << grid) // ends[2]) for b in ends[1]]


def h(v: int, g: int, lo: int, hi: int) -> int:
    """Return the minimum over z in [lo, hi] of v relu(z) - g z."""
    at_lo = (v - g if lo > 0 else -g) * lo
    at_hi = (v - g if hi > 0 else -g) * hi
    least = at_lo if at_lo < at_hi else at_hi
    return 0 if least > 0 and lo < 0 < hi else least


def rule(v: int, p: int, lo: int, hi: int, slope: int, grid: int) -> int:
    """Return g over 2^grid for v over 2^p: v times a slope (where v < 0 that of the chord), rounded down."""
    if lo >= 0:
        return v << grid >> p
    if hi <= 0:
        return 0
    return (v * slope << grid) // (255 << p) if v >= 0 else (v * hi << grid) // (hi - lo << p)


def quadratic(S: list[list[int]], rows: list[list[int]]) -> int:
    """Bound w'S w + sum over rows (b_0, ..., b_h, d) of 2 (b . w) t + d t^2 from below, w_0 = 1, the rest in [0, 1].

    Where d > 0, 2 (b . w) t + d t^2 >= -(b . w)^2 / d, which goes into S, rounded down by less than 1 in each entry;
    where d = 0, 2 b_r w_r t >= min(2 b_r, 0). Then the last of w takes the place of t, until only w_0 is left.
    """
    S, lost = [row[: r + 1] for r, row in enumerate(S)], 0  # S is symmetric; its last row is (b, d) of the last of w
    for *b, d in reversed(S[1:] + rows):
        if d > 0:
            for r, c in enumerate(b):
                if c:
                    S[r][:] = [n - c * e // d for n, e in zip(S[r], b, strict=False)]
            lost += len(b) ** 2
        else:
            lost += 2 * sum(max(0, -c) for c in b)
        if d and min(d, *(row[-1] for row in S[: len(b)])) < 0:  # also keeps numbers from growing
            raise Rejected("the quadratic is not convex, or its least value is negative")
    return S[0][0] - lost


@dataclass
class Node:
    """The points of `box` whose input to Relu k lies in ``z[k]``, for all k."""

    net: Network
    grid: int
    box: Ends
    z: list[Slice]
    open: frozenset[int]  # the groups not yet proved unreachable here
    empty: bool = False  # some interval was found empty: the node holds no point

    @staticmethod
    def root(net: Network, grid: int, box: Ends, groups: int) -> Node:
        """Return the first node of a goal, with intervals by interval arithmetic."""
        node = Node(net, grid, box, [], frozenset(range(groups)))
        for k in range(len(net.masks)):
            node.z.append(outward(node.entering(net.layers.index(k)), grid))
        return node

    def child(self) -> Node:
        """Return the same node, one level below; the two share no list that is ever changed."""
        return replace(self, z=[(list(lo), list(hi)) for lo, hi in self.z])

    def cut(self, k: int, j: int, side: int, end: int) -> None:
        """Intersect the interval of one coordinate with z_j >= end (side 0) or z_j <= end (side 1)."""
        ends = self.z[k]
        ends[side][j] = (min if side else max)(ends[side][j], end)
        self.empty = self.empty or ends[0][j] > ends[1][j]

    def entering(self, position: int) -> Ends:
        """Enclose what enters a layer: the box or what leaves the last Relu, then interval arithmetic."""
        layers, masks, ends = self.net.layers, self.net.masks, self.box
        for layer in layers[max((i for i in range(position) if isinstance(layers[i], int)), default=0) : position]:
            if isinstance(layer, Affine):
                lo, hi = outward(layer.ends(ends), self.grid)
            else:
                lo, hi = (
                    [max(a, 0) if on else a for a, on in zip(z, masks[layer], strict=True)] for z in self.z[layer]
                )
            ends = lo, hi, 1 << self.grid
        return ends

    def relu_step(self, k: int, v: Columns, p: int, advice: Advice) -> tuple[Columns, int, list[Term]]:
        """Walk through Relu k: v . relu(z) >= g . z + terms. Return g, its scale and the terms."""
        mask, q = self.net.masks[k], advice.scale
        s = max(self.grid, q, 0 if all(mask) else p)  # g is over 2^s
        c = max(p, s)
        out, totals, terms = [], [0] * len(v[0]), []
        for j, (column, on, lo, hi) in enumerate(zip(v, mask, *self.z[k], strict=True)):
            if not on:
                out.append([x << s - p for x in column])  # g = v, h = 0
                continue
            if (k, j) in advice.lifted:
                lane, lo, hi = advice.lifted[k, j][0], min(lo, 0), max(hi, 0)
                above, relu, chord, box = (n << s - q for n in advice.lifted[k, j][1:])
                g, row = [0] * len(column), [x * hi << c - p for x in column]
                g[0], g[lane] = above - chord, relu
                row[0] += (chord * (hi - lo) - above * hi - (box << self.grid)) << c - s
                row[lane] += ((box << self.grid) - relu * hi) << c - s
                totals[0] += chord * lo << c - s
                terms.append((lane, row, c + self.grid))
                out.append(g)
                continue
            if (k, j) in advice.given:
                g = [advice.given[k, j][0] << s - q] * len(column)
            else:
                slope = advice.slopes.get((k, j), 255 if hi > -lo else 0)
                g = [rule(x, p, lo, hi, slope, self.grid) << s - self.grid if x else 0 for x in column]
            g[0] += advice.added.get((k, j), [0])[0] << s - q
            out.append(g)
            if any(column) or any(g):
                totals = [t + h(x << c - p, y << c - s, lo, hi) for t, x, y in zip(totals, column, g, strict=True)]
        return out, s, [(0, totals, c + self.grid), *terms]

    def walk(self, top: int, v: Columns, advice: Advice) -> tuple[Columns, int, list[Term]]:
        """Walk from what leaves `top` layers down to the inputs: v . a >= v' . x + terms. Return all."""
        p, terms = 0, [(0, [0] * len(v[0]), 0)]
        for position in range(top - 1, -1, -1):
            layer = self.net.layers[position]
            if isinstance(layer, Affine):
                if layer.has_slack:
                    entering = self.entering(position)
                    reaches = [-((-r << self.grid) // (entering[2] << layer.shift)) for r in layer.reach(entering)]
                    costs = [row[3] * r for row, r in zip(layer.rows, reaches, strict=True)]
                    loss = [-sum(map(mul, map(abs, one), costs)) for one in zip(*v, strict=True)]
                    terms.append((0, loss, p + layer.slack_shift + self.grid))
                below, skip = self.net.layers[max(0, position - 1)], set()
                if isinstance(below, int):  # where z <= 0, it does not matter what v is
                    at = enumerate(zip(self.net.masks[below], *self.z[below], strict=True))
                    skip = {j for j, (on, a, b) in at if on and a < 0 and b <= 0}
                v, gain = layer.step(v, skip)
                p += layer.shift
                terms.append((0, gain, p))
            else:
                v, p, more = self.relu_step(layer, v, p, advice)
                terms += more
        return v, p, terms

    def least(self, k: int, signs: list[tuple[int, int]], advice: Advice = RULE) -> list[int]:
        """Return lower bounds over 2^grid on sign * z_j, for pairs of j and sign, z the input of Relu k."""
        found: list[int] = []
        lo, hi, den = self.box
        for start in range(0, len(signs), LANES):
            part = signs[start : start + LANES]
            v = [[sign * (i == j) for j, sign in part] for i in range(len(self.net.masks[k]))]
            v, p, terms = self.walk(self.net.layers.index(k), v, advice)
            scale = max(p, *(t for _, _, t in terms))
            at_inputs = ([x * (a if x > 0 else b) << scale - p for x in c] for c, a, b in zip(v, lo, hi, strict=True))
            total = zip(*at_inputs, *([n * den << scale - t for n in ns] for _, ns, t in terms), strict=True)
            found += [(sum(numbers) << self.grid) // (den << scale) for numbers in total]
        return found

    def close(self, case: Case, mu: list[int], advice: Advice = RULE) -> tuple[int, int]:
        """Return D, at most mu . atoms on the node: if it is positive, no point of the node is in the case.

        2 D is the least of sum_rs S_rs phi_r phi_s + sum_i (2 sum_r b_ir phi_r psi_i + d_i psi_i^2), x = lo + (hi - lo)
        psi. With each input, box psi (1 - psi) >= 0 is subtracted.
        """
        y, x, (lo, hi, den) = [0] * self.net.outputs, [0] * self.net.inputs, self.box
        total = [0] * (1 + len(advice.lifted))
        for factor, (atom, constant, _) in zip(mu, case.unsafe, strict=True):
            total[0] += factor * constant
            for kind, i, n in atom:
                (x if kind == "X" else y)[i] += factor * n
        v, p, terms = self.walk(len(self.net.layers), [[n, *total[1:]] for n in y], advice)
        for column, n in zip(v, x, strict=True):
            column[0] += n << p
        scale = GUARD + max(p, advice.scale, *(t for _, _, t in terms))
        terms = [(r, [n * den for n in ns], t) for r, ns, t in [*terms, (0, total, 0)]]
        terms += [(0, [n * a for n in column], p) for column, a in zip(v, lo, strict=True)]
        S = [[0] * len(total) for _ in total]
        for r, ns, t in terms:
            for i, n in enumerate(ns):
                S[r][i] += n << scale - t
                S[i][r] += n << scale - t
        rows = []
        for i, (column, a, b) in enumerate(zip(v, lo, hi, strict=True)):
            box = advice.inputs.get(i, [0])[0] * den << scale - advice.scale
            rows.append([*(n * (b - a) << scale - p for n in column), 2 * box])
            rows[-1][0] -= box
        return quadratic(S, rows), 2 * den << scale

    def refresh(self) -> None:
        """Bound the inputs of all Relus anew: by interval arithmetic, then open neurons by the formula and the rule."""
        for k, mask in enumerate(self.net.masks):
            position = self.net.layers.index(k)
            for side, ends in enumerate(outward(self.entering(position), self.grid)):
                for j, end in enumerate(ends):
                    self.cut(k, j, side, end)
            if position > 1 and not self.empty:  # with one layer below, interval arithmetic leaves nothing to gain
                unstable = [
                    j for j, (on, lo, hi) in enumerate(zip(mask, *self.z[k], strict=True)) if on and lo < 0 < hi
                ]
                for side, sign in enumerate((1, -1)):
                    for j, end in zip(unstable, self.least(k, [(j, sign) for j in unstable]), strict=True):
                        self.cut(k, j, side, sign * end)
            if self.empty:
                return

    def split_input(self, i: int, mantissa: int, exponent: int) -> list[Node]:
        """Return the parts x_i <= m and x_i >= m, for m = mantissa 2^exponent strictly inside."""
        den = lcm(self.box[2], 1 << max(0, -exponent))
        lo, hi = ([a * (den // self.box[2]) for a in ends] for ends in self.box[:2])
        m = mantissa * (den << exponent if exponent >= 0 else den >> -exponent)
        if not lo[i] < m < hi[i]:
            raise Rejected(f"the split of input {i} is not inside its interval")
        parts = [self.child(), self.child()]
        parts[0].box, parts[1].box = (lo, [*hi[:i], m, *hi[i + 1 :]], den), ([*lo[:i], m, *lo[i + 1 :]], hi, den)
        return parts

    def split_neuron(self, k: int, j: int) -> list[Node]:
        """Return the parts z_j <= 0 and z_j >= 0."""
        parts = [self.child(), self.child()]
        for side, part in zip((1, 0), parts, strict=True):
            part.cut(k, j, side, 0)
        return parts


class Records:
    """The compressed part of a certificate, read in small pieces."""

    def __init__(self, stream: BinaryIO, net: Network) -> None:
        self.stream, self.inflate, self.net = stream, zlib.decompressobj(), net
        self.buffer, self.at, self.taken, self.made = b"", 0, 0, 0
        self.neurons = [(k, j) for k, mask in enumerate(net.masks) for j, on in enumerate(mask) if on]

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

    def neuron(self) -> Neuron:
        """Read the number of a Relu and a coordinate that it rectifies."""
        k = self.u(len(self.net.masks))
        j = self.u(len(self.net.masks[k]))
        need(bool(self.net.masks[k][j]), f"Relu {k} does not rectify coordinate {j}")
        return k, j

    def listed(self, items: Sequence[Any], value: Callable[[], Any]) -> dict[Any, Any]:
        """Read a list of values for some of the items; each says how many items it leaves out."""
        count = len(items)
        found, at = {}, 0
        for _ in range(self.u(count + 1)):
            at += self.u(count - at)
            found[items[at]] = value()
            at += 1
        return found

    def short(self, *, signed: bool = False) -> list[tuple[int, int]]:
        """Read a multiplier of a lifted close."""
        mantissa, exponent = self.d()
        need(mantissa >= 0 or signed, "the multiplier of an inequality is negative")
        need(
            mantissa.bit_length() <= MAX_LIFTED_BITS and abs(exponent) <= MAX_LIFTED_EXPONENT,
            "a multiplier is too long",
        )
        return [(mantissa, exponent)]

    def advice(self, below: int, factor: int = 1) -> Advice:
        """Read the advice for `factor` times an objective above the first `below` Relus."""
        neurons = self.neurons[: sum(map(sum, self.net.masks[:below]))]
        slopes = self.listed(neurons, self.byte)
        scale, given = over(factor, self.listed(neurons, lambda: [self.d()]))
        return RULE._replace(slopes=slopes, given=given, scale=scale)

    def lifted(self, factor: int) -> Advice:
        """Read the multipliers of a lifted close for `factor` times the objective."""
        products = self.listed(
            self.neurons, lambda: self.short() + self.short(signed=True) + self.short() + self.short()
        )
        need(len(products) <= MAX_LIFTED, f"a lifted close has more than {MAX_LIFTED} neurons")
        added = self.listed(self.neurons, lambda: self.short(signed=True))
        boxes = self.listed(range(self.net.inputs), self.short)
        scale, numbers, added, boxes = over(factor, products, added, boxes)
        lifted = {at: [lane, *four] for lane, (at, four) in enumerate(numbers.items(), 1)}
        return RULE._replace(scale=scale, added=added, lifted=lifted, inputs=boxes)


def visit(node: Node, cases: list[Case], records: Records) -> list[Node]:
    """Follow the records of one node up to its end; return the parts that are left to prove."""
    bounded = 0
    while node.open:
        kind = records.byte()
        if kind == EMPTY:
            if not node.empty:
                raise Rejected("the node is not known to be empty")
            break
        if kind == SPLIT_INPUT:
            return node.split_input(records.u(node.net.inputs), *records.d())
        if kind == SPLIT_NEURON:
            return node.split_neuron(*records.neuron())
        if kind in (CLOSE, CLOSE_LIFTED):
            group = records.u(len(cases))
            need(group in node.open, f"group {group} is closed already")
            mu = [records.u() for _ in cases[group].unsafe]
            factor, relus = cases[group].scale, len(node.net.masks)
            advice = records.advice(relus, factor) if kind == CLOSE else records.lifted(factor)
            if not node.empty and node.close(cases[group], mu, advice)[0] <= 0:
                raise Rejected(f"the bound for group {group} is not positive")
            node.open -= {group}
            continue
        need(kind in (REFRESH, LEMMA), f"unknown record {kind}")
        bounded += 1
        need(bounded <= MAX_BOUNDS, "too many refreshes and lemmas in one node")
        if kind == REFRESH:
            node.refresh()
        else:
            (k, j), side = records.neuron(), records.u(2)
            sign = -1 if side else 1
            node.cut(k, j, side, sign * node.least(k, [(j, sign)], records.advice(k))[0])
    return []


def prove(net: Network, cases: list[Case], goals: list[list[int]], grid: int, stream: BinaryIO) -> int:
    """Follow the tree of every goal to its end; return how many nodes there are."""
    records, nodes = Records(stream, net), 0
    for members in goals:
        mine = [cases[c] for c in members]
        stack = [Node.root(net, grid, mine[0].box, len(mine))]
        while stack:
            try:
                stack += reversed(visit(stack.pop(), mine, records))
                need(len(stack) <= MAX_WAITING, f"more than {MAX_WAITING} nodes are waiting")
            except (Rejected, Malformed) as error:
                raise type(error)(f"node {nodes}: {error}") from None
            nodes += 1
    need(not records.fill(), "records follow the last tree")
    need(not records.inflate.unused_data and not stream.read(1), "data follow the certificate")
    return nodes


def refute(net: Network, case: Case, x: list[int], den: int) -> None:
    """Require that the point x / den violates the case for certain."""
    lo, hi, d = case.box
    if not all(a * den <= v * d <= b * den for a, v, b in zip(lo, x, hi, strict=True)):
        raise Rejected("the point is outside the box")
    ends = x, x, den
    for layer in net.layers:
        if isinstance(layer, Affine):
            ends = layer.ends(ends)
        else:
            lo, hi = ([max(a, 0) if on else a for a, on in zip(e, net.masks[layer], strict=True)] for e in ends[:2])
            ends = lo, hi, ends[2]
    for number, (terms, constant, strict) in enumerate(case.unsafe):
        worst = constant * den * ends[2]
        for kind, i, n in terms:
            worst += n * (x[i] * ends[2] if kind == "X" else (ends[1] if n > 0 else ends[0])[i] * den)
        if worst > 0 or (strict and worst == 0):
            raise Rejected(f"the point does not certainly satisfy condition {number} of the case")


def check(network: bytes, property_: bytes, certificate: BinaryIO) -> str:
    """Return the statement that a certificate proves about a network and a property; its last line is the verdict."""
    net = read_network(network)
    cases, goals = read_property(property_, net)
    need(certificate.read(len(MAGIC)) == MAGIC, "not a certificate of format 1")
    line = certificate.readline(MAX_HEADER)
    need(line.endswith(b"\n"), "the header does not end")
    header = read_json(line[:-1], "header", VERIFIED, FALSIFIED)
    for name, text in (("network", network), ("property", property_)):
        digest = hashlib.sha256(text).hexdigest()
        if header[name] != digest:
            raise Rejected(f"the certificate is for another {name}, not for the one with SHA-256 {digest}")
    lines = [
        f"certificate: {line[:MAX_SHOWN].decode().strip()}",
        f"network: {net.inputs} inputs X, {sum(map(sum, net.masks))} ReLU neurons, {net.outputs} outputs Y",
        "semantics: exact real arithmetic, for all coefficients within the slack of their row",
        f"property: {property_[:MAX_SHOWN].decode()}{' ... and so on' * (len(property_) > MAX_SHOWN)}",
    ]
    if header["kind"] == "verified":
        need(0 <= header["grid"] <= MAX_GRID, "header: the grid is out of range")
        nodes = prove(net, cases, goals, header["grid"], certificate)
        lines.append("statement: no real point, from lower to upper of a case, has all unsafe conditions of that case")
        return "\n".join([*lines, f"proof: {len(goals)} boxes, {nodes} nodes", "PROVED"])
    c = header["case"]
    need(0 <= c < len(cases) and len(header["x"]) == net.inputs, "header: no such case, or a point of another size")
    need(not certificate.read(1), "data follow the certificate")
    refute(net, cases[c], *common(header["x"], "header"))
    lines.append(f"statement: this point x, from lower to upper of case {c}, has all unsafe conditions of that case")
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
