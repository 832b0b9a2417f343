"""The trusted file: check a proof about a ReLU network in exact integers, with the standard library only.

    python -I -S optverify/kernel.py NETWORK.json PROPERTY.json CERTIFICATE

docs/certificate-v1.md has the formats. A certificate is a tree. A node stands for the points x of a box, and perhaps
of a ball, whose inputs z^k to the Relus lie in intervals l^k <= z^k <= u^k; the two children of a split cover their
parent. One theorem: for any mu >= 0 and any numbers g, walk backwards from the atoms of a case with coefficients v,

    start      mu . atoms = v . y + w . x + total
    affine     v . (W a + b) = (W'v) . a + v . b
    relu       v . relu(z) >= g . z + sum_j h(v_j, g_j; l_j, u_j),  h = min over z in [l, u] of v relu(z) - g z
    inputs     (v + w) . x >= sum_i min((v + w)_i lo_i, (v + w)_i hi_i), or as `Node.lowest` has it of a ball

then mu . atoms >= D, the sum of all constants, at every point of the node; if D > 0, none of them has all atoms <= 0.
With v = +e_j and -e_j, D bounds z_j. Lifted closes (section 5 of the formats) have many coefficients on a value, lane
r times some phi_r in [0, 1], and D is a bound on a quadratic. Numbers are integers "over" a denominator: no tolerance.
"""

from __future__ import annotations

import hashlib
import json
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, islice, pairwise
from math import gcd, isqrt, lcm
from operator import add, gt, le, mul, sub
from typing import Any, BinaryIO, NamedTuple

MAGIC = b"optverify certificate 1\n"
MAX_DIGITS, MAX_SHIFT, MAX_GRID, MAX_DENOMINATOR, MAX_HEADER = 4_300, 2_000, 200, 20_000, 1 << 26
MAX_BYTES, MAX_EXPONENT, MAX_WAITING, MAX_REFRESHES, MAX_LIFTED = 143, 5_000, 10_000, 1_000, 1_000
MAX_EXPANSION, FREE_EXPANSION, LANES, MAX_SHOWN = 250, 1 << 20, 256, 2_000
SPLIT_INPUT, SPLIT_NEURON, REFRESH, CLOSE, EMPTY, CLOSE_LIFTED = 1, 2, 3, 5, 6, 8

# Shapes of JSON: [a, b] is a list of any length of what fits a or b, (a, b) one of this length, {0, 1} one of these.
FORMATS = {"real", "float16", "bfloat16", "float32", "float64"}
AFFINE = {"affine": (int, int), "shift": int, "rows": [[int]], "bias": [int], "slack_shift": int, "slack": [int]}
LAYERS = [AFFINE | {"absolute": [int], "limits": [int]}, {"relu": [{0, 1}]}]
NETWORK = {"format": "optverify network 1", "semantics": FORMATS, "inputs": int, "layers": LAYERS}
ATOM = {"terms": [("X", int, int, int), ("Y", int, int, int)], "constant": (int, int), "strict": {0, 1}}
BOX, UNSAFE = {"lower": [(int, int)], "upper": [(int, int)]}, {"unsafe": [ATOM]}
BALL = {"norm": {0, 1, 2}, "centre": [(int, int)], "radius": (int, int)}
CASES = [BOX | UNSAFE, BOX | BALL | UNSAFE]
PROPERTY = {"format": "optverify property 1", "inputs": int, "outputs": int, "cases": CASES}
VERIFIED = {"kind": "verified", "network": str, "property": str, "semantics": FORMATS, "grid": int}
FALSIFIED = {"kind": "falsified", "network": str, "property": str, "semantics": FORMATS, "case": int, "x": [(int, int)]}

Ends = tuple[list[int], list[int], int]  # lower and upper ends of intervals over a common positive denominator
Ball = tuple[int, list[int], int, int]  # norm, centre and radius, and the denominator of both, which divides the box's
Columns = list[list[int]]  # coefficients of several objectives or lanes at once: for each coordinate, one of each


class Rejected(Exception):
    """Well-formed, but it does not prove what it should."""


class Malformed(Exception):
    """Not in the format."""


class Advice(NamedTuple):
    """How a neuron (k, j) gets multipliers, where not by the rule: over 2^scale, but for slopes, and times `factor`."""

    slopes: dict[tuple[int, int], int]  # of unstable neurons, in 255ths
    given: dict[tuple[int, int], int]  # g in lane 0
    relative: bool  # whether that is added to the rule's g
    scale: int
    factor: int
    lifted: dict[tuple[int, int], tuple[int, ...]]  # above, relu, chord, box of the neurons that have a lane
    inputs: dict[int, int]  # box


RULE = Advice({}, {}, False, 0, 1, {}, {})


class Affine(NamedTuple):
    """a -> W a + b. A row is (columns, weights, bias, slack), the slack over 2^slack_shift, the rest over 2^shift."""

    inputs: int
    shift: int
    slack_shift: int
    rows: list[tuple[list[int], list[int], int, int]]
    absolute: list[int]  # further error of each row, over 2^(shift + slack_shift)
    limits: list[int]  # of each row's sum of absolute values; 0: none
    most: int  # of 1 and all absolute values of weights and biases

    def off(self, entering: Ends) -> list[int]:
        """Bound what a row may be off, s (|W| m + |b|) + absolute with m >= |a|, over den 2^(shift + slack_shift)."""
        m, den = largest(entering), entering[2]
        off = [s and s * (sum(map(mul, map(abs, w), [m[j] for j in js])) + abs(b) * den) for js, w, b, s in self.rows]
        return [relative + absolute * den for relative, absolute in zip(off, self.absolute, strict=True)]

    def ends(self, entering: Ends) -> Ends:
        """Interval arithmetic: enclose W a + b for all lo <= a <= hi, exactly, with what rows may be off."""
        lo, hi, den = entering
        twice, width, lower, upper = list(map(add, lo, hi)), list(map(sub, hi, lo)), [], []
        for (js, ws, b, _), off in zip(self.rows, self.off(entering), strict=True):
            centre = sum(map(mul, ws, [twice[j] for j in js])) + 2 * b * den  # over 2 den 2^shift
            radius = sum(map(mul, map(abs, ws), [width[j] for j in js]))
            lower.append((centre - radius << self.slack_shift) - 2 * off)
            upper.append((centre + radius << self.slack_shift) + 2 * off)
        return lower, upper, 2 * den << self.shift + self.slack_shift

    def step(self, v: Columns, skip: set[int]) -> tuple[Columns, list[int]]:
        """Walk backwards: return W'v and v . b, over 2^(p + shift) for v over 2^p; columns in `skip` are left 0.

        The coefficients on one coordinate become one integer with a lane for each, sum_r c_r 2^(bits r). Lanes are so
        wide that no sum leaves [-half, half), half = 2^(bits - 1): plus half they are digits, which borrow nothing.
        """
        count, width = len(v[0]), (len(v) * self.most * max(max(map(abs, c)) for c in v)).bit_length() // 8 + 2
        half = 1 << 8 * width - 1
        halves = int.from_bytes(half.to_bytes(width, "little") * count, "little")
        sums = [0] * (self.inputs + 1)  # the last one is v . b
        for column, (js, ws, b, _) in zip(v, self.rows, strict=True):
            if any(column):
                lanes = (
                    int.from_bytes(b"".join([(c + half).to_bytes(width, "little") for c in column]), "little") - halves
                )
                sums[-1] += b * lanes
                for j, w in zip(js, ws, strict=True):
                    if j not in skip:
                        sums[j] += w * lanes
        packed, places = [(s + halves).to_bytes(width * count, "little") for s in sums], range(0, width * count, width)
        *out, gain = ([int.from_bytes(d[i : i + width], "little") - half for i in places] for d in packed)
        return out, gain


class Network(NamedTuple):
    """Layers; the integer k among them is Relu k, which rectifies where ``masks[k]`` and passes the rest through."""

    semantics: str
    inputs: int
    outputs: int
    layers: list[Affine | int]
    masks: list[list[int]]

    def relu(self, k: int, entering: Ends) -> Ends:
        """Enclose what leaves Relu k."""
        lo, hi = ([max(a, 0) if on else a for a, on in zip(z, self.masks[k], strict=True)] for z in entering[:2])
        return lo, hi, entering[2]

    def bounded(self, box: Ends) -> None:
        """Require that no row adds up more than its limit, in absolute values, which a Relu cancels: no overflow."""
        ends, m = box, largest(box)
        for layer in self.layers:
            if isinstance(layer, Affine):
                wide, ends = layer.ends(([-v for v in m], m, ends[2])), layer.ends(ends)
                m = largest(wide)
                held = all(not limit or v <= limit * ends[2] for v, limit in zip(m, layer.limits, strict=True))
                need(held, "a sum of absolute values is above its limit: overflow is possible", Rejected)
            else:
                ends = self.relu(layer, ends)
                m = [e if on else v for on, e, v in zip(self.masks[layer], largest(ends), m, strict=True)]


def largest(ends: Ends) -> list[int]:
    """Return the largest absolute value in each interval."""
    return list(map(max, map(abs, ends[0]), map(abs, ends[1])))


class Case(NamedTuple):
    """A box, cut by a ball or not, in lowest terms; the atoms that must not all hold there, and their denominator."""

    box: Ends
    ball: Ball | None
    unsafe: list[tuple[list[tuple[str, int, int]], int, int]]  # terms ("X", i, n), their sum's constant, whether strict
    scale: int


def need(condition: bool, message: str, otherwise: type[Exception] = Malformed) -> None:
    """Refuse what is not in the format, or what does not prove enough."""
    if not condition:
        raise otherwise(message)


def fits(value: Any, shape: Any) -> bool:
    """Compare a JSON value with a shape; keys must come in order. It recurs as deep as the shape."""
    if isinstance(shape, dict):
        return type(value) is dict and list(value) == list(shape) and all(map(fits, value.values(), shape.values()))
    if isinstance(shape, list):
        return type(value) is list and all(any(fits(v, s) for s in shape) for v in value)
    if isinstance(shape, tuple):
        return type(value) is list and len(value) == len(shape) and all(map(fits, value, shape))
    if isinstance(shape, set):
        return type(value) in (int, str) and value in shape
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
    size, net = value["inputs"], Network(value["semantics"], value["inputs"], 0, [], [])
    need(size > 0 and bool(value["layers"]), "network: no inputs or no layers")
    for position, item in enumerate(value["layers"]):
        what = f"layer {position}"
        if "relu" in item:
            need(len(item["relu"]) == size, f"{what}: the mask does not have length {size}")
            net.layers.append(len(net.masks))
            net.masks.append(item["relu"])
            continue
        (m, n), shift, rows, bias, slack_shift, slack, absolute, limits = item.values()
        sizes = {m, len(rows), len(bias), len(slack), len(absolute), len(limits)}
        need(m > 0 and n == size and len(sizes) == 1, f"{what}: sizes disagree")
        need(0 <= shift <= MAX_SHIFT and 0 <= slack_shift <= MAX_SHIFT, f"{what}: a shift is out of range")
        need(min(slack + absolute + limits) >= 0, f"{what}: a slack, error or limit is negative")
        for row in rows:
            need(len(row) % 2 == 0 and all(row[1::2]), f"{what}: rows must be pairs of a column and a nonzero weight")
            need(all(a < b for a, b in pairwise([-1, *row[::2], n])), f"{what}: columns must increase, less than {n}")
        full = [(row[::2], row[1::2], b, s) for row, b, s in zip(rows, bias, slack, strict=True)]
        most, size = max(abs(w) for _, ws, b, _ in full for w in (1, *ws, b)), m
        net.layers.append(Affine(n, shift, slack_shift, full, absolute, limits, most))
    return net._replace(outputs=size)


def read_property(text: bytes, net: Network) -> tuple[list[Case], list[list[int]]]:
    """Parse the canonical property of a network: the cases, and which of them have the same box, as it turns up."""
    value = read_json(text, "property", PROPERTY)
    need((value["inputs"], value["outputs"]) == (net.inputs, net.outputs), "property: the network has other sizes")
    cases, sizes = [], {"X": net.inputs, "Y": net.outputs}
    goals: dict[tuple[object, ...], list[int]] = {}
    for c, item in enumerate(value["cases"]):
        what, unsafe = f"case {c}", item["unsafe"]
        lower, upper, centre, radius = item["lower"], item["upper"], item.get("centre", []), item.get("radius", (0, 1))
        need(len(lower) == len(upper) == net.inputs, f"{what}: a box of another size")
        need(len(centre) == ("norm" in item) * net.inputs and radius[0] >= 0, f"{what}: an improper ball")
        ends, d = common([*lower, *upper, *centre, radius], what)
        shared, size = gcd(d, *ends), net.inputs
        lo, hi, x, (r,) = (
            [a // shared for a in ends[i:j]] for i, j in pairwise((0, size, 2 * size, len(ends) - 1, None))
        )
        need(all(map(le, lo, hi)), f"{what}: lower above upper")
        ball = (item["norm"], x, r, d // shared) if "norm" in item else None
        for atom in unsafe:
            terms = atom["terms"]
            need(all(0 <= i < sizes[kind] and n for kind, i, n, _ in terms), f"{what}: no such variable, or a 0")
            need(all(a[:2] < b[:2] for a, b in pairwise(terms)), f"{what}: variables must be in order, X before Y")
        numbers, scale = common([p for a in unsafe for p in (*(t[2:] for t in a["terms"]), a["constant"])], what)
        n = iter(numbers)
        atoms = [([(kind, i, next(n)) for kind, i, *_ in a["terms"]], next(n), a["strict"]) for a in unsafe]
        cases.append(Case((lo, hi, d // shared), ball, atoms, scale))
        goals.setdefault((*lo, *hi, *x, r, d // shared, item.get("norm")), []).append(c)
    return cases, list(goals.values())


def h(v: int, g: int, lo: int, hi: int) -> int:
    """Return the minimum over z in [lo, hi] of v relu(z) - g z."""
    least = min((v - g if lo > 0 else -g) * lo, (v - g if hi > 0 else -g) * hi)
    return 0 if least > 0 and lo < 0 < hi else least


def rule(v: int, p: int, lo: int, hi: int, slope: int, grid: int) -> int:
    """Return g over 2^grid for v over 2^p: v times a slope (where v < 0 that of the chord), rounded down."""
    if lo >= 0 or hi <= 0:
        return v << grid >> p if lo >= 0 else 0
    return (v * slope << grid) // (255 << p) if v >= 0 else (v * hi << grid) // (hi - lo << p)


def quadratic(M: list[list[int]], rows: list[list[int]]) -> int:
    """Bound 2 w'M w + sum over rows (b_0, ..., b_h, d) of 2 (b . w) t + d t^2 from below, w_0 = 1, the rest in [0, 1].

    Where d > 0, 2 (b . w) t + d t^2 >= -(b . w)^2 / d, which goes into S, each entry too large by less than 1; else
    b_r w_r t >= min(b_r, 0). Then the last row of S is that of the next t, until w_0 is left.
    """
    S, lost = [[M[r][s] + M[s][r] for s in range(r + 1)] for r in range(len(M))], 0  # half of a symmetric matrix
    for *b, d in reversed(S[1:] + rows):
        if d > 0:
            for r, c in enumerate(b):
                if c:
                    S[r][:] = [n - c * e // d for n, e in zip(S[r], b, strict=False)]
        lost += len(b) ** 2 if d else 2 * sum(max(0, -c) for c in b)
        need(not d or min(d, *(row[-1] for row in S[: len(b)])) >= 0, "not convex, or not positive", Rejected)
    return S[0][0] - lost


@dataclass
class Node:
    """The points of `box` and `ball` whose input to Relu k is in ``z[k]``, over 2^grid: at first, by box arithmetic."""

    net: Network
    grid: int
    box: Ends
    open: frozenset[int]  # the groups not yet proved unreachable here
    z: tuple[Ends, ...] = ()
    empty: bool = False  # some interval was found empty: the node holds no point
    ball: Ball | None = None

    def __post_init__(self) -> None:
        for k in range(len(self.z), len(self.net.masks)):
            self.z += (self.outward(self.entering(self.net.layers.index(k))),)

    def meet(self, k: int, lo: list[int], hi: list[int]) -> None:
        """Intersect the intervals of Relu k with others."""
        lo, hi = list(map(max, self.z[k][0], lo)), list(map(min, self.z[k][1], hi))
        self.z = (*self.z[:k], (lo, hi, 1 << self.grid), *self.z[k + 1 :])
        self.empty = self.empty or any(map(gt, lo, hi))

    def outward(self, ends: Ends) -> Ends:
        """Round lower ends down and upper ends up to the grid."""
        lo, hi, den = ends
        return [(a << self.grid) // den for a in lo], [-((-b << self.grid) // den) for b in hi], 1 << self.grid

    def entering(self, position: int) -> Ends:
        """Enclose what enters a layer: the box or what leaves the last Relu, then interval arithmetic."""
        net, ends = self.net, self.box
        first = max((i for i in range(position) if isinstance(net.layers[i], int)), default=0)
        for layer in net.layers[first:position]:
            ends = self.outward(layer.ends(ends)) if isinstance(layer, Affine) else net.relu(layer, self.z[layer])
        return ends

    def relu_step(self, k: int, v: Columns, p: int, advice: Advice, T: int, M: Columns) -> tuple[Columns, int]:
        """Walk through Relu k: v . relu(z) >= g . z + what is added to M. Return g and its scale; see `walk`."""
        mask, q, f = self.net.masks[k], advice.scale, advice.factor
        s, out = max(self.grid, q, 0 if all(mask) else p), []  # g is over 2^s
        c, up = max(p, s), T - max(p, s) - self.grid
        for j, (col, on, lo, hi) in enumerate(zip(v, mask, *self.z[k][:2], strict=True)):
            slope = advice.slopes.get((k, j), 255 if hi << 10 > -1025 * lo else 0)
            if (k, j) in advice.lifted:
                lane, lo, hi = 1 + list(advice.lifted).index((k, j)), min(lo, 0), max(hi, 0)
                above, relu, chord, box = (n * f << c - q for n in advice.lifted[k, j])
                M[lane] = [m + (x * hi << up + c - p) for m, x in zip(M[lane], col, strict=True)]
                M[0][0] += chord * lo << up
                M[0][lane] += chord * (hi - lo) - above * hi - (box << self.grid) << up
                M[lane][lane] += (box << self.grid) - relu * hi << up
                g = [0] * len(col)
                g[0], g[lane] = above - chord >> c - s, relu >> c - s
            elif not on:
                g = [x << s - p for x in col]  # h = 0
            else:
                g = [rule(x, p, lo, hi, slope, self.grid) << s - self.grid if x else 0 for x in col]
                if (k, j) in advice.given:
                    g[0] = (advice.given[k, j] * f << s - q) + advice.relative * g[0]
                if any(col) or any(g):
                    M[0] = [m + (h(x << c - p, y << c - s, lo, hi) << up) for m, x, y in zip(M[0], col, g, strict=True)]
            out.append(g)
        return out, s

    def walk(self, top: int, v: Columns, advice: Advice) -> tuple[Columns, int, Columns, int]:
        """Walk from v . a, a leaving `top` layers: v . a >= v' . x + phi'M phi. Return v', p, M and T."""
        shifts = sum(layer.shift + layer.slack_shift for layer in self.net.layers if isinstance(layer, Affine))
        T = 2 * self.grid + advice.scale + shifts  # M is over 2^T, and nothing below is over more
        p, M = 0, [[0] * len(v[0]) for _ in range(1 + len(advice.lifted))]  # v is over 2^p
        for position, layer in reversed(list(enumerate(self.net.layers[:top]))):
            if isinstance(layer, int):
                v, p = self.relu_step(layer, v, p, advice, T, M)
                continue
            entering = self.entering(position)
            den = entering[2] << layer.shift + layer.slack_shift
            off = [-((-n << T - p) // den) for n in layer.off(entering)]
            loss = [sum(map(mul, map(abs, lane), off)) for lane in zip(*v, strict=True)]
            k = self.net.layers[max(0, position - 1)]
            known = zip(self.net.masks[k], *self.z[k][:2], strict=True) if isinstance(k, int) else ()
            skip = {j for j, (on, a, b) in enumerate(known) if on and a < 0 and b <= 0}  # there v does not matter
            (v, gain), p = layer.step(v, skip), p + layer.shift
            M[0] = [m + (n << T - p) - lost for m, n, lost in zip(M[0], gain, loss, strict=True)]
        return v, p, M, T

    def lowest(self, v: Sequence[int]) -> int:
        """Bound v . x from below, over 2^grid times the denominator of the box.

        In a ball of radius R about c let d = x - c, lo <= d <= hi. With any multiplier m >= 0 of what R allows,

            norm 1    v . d >= sum_i min over d_i of (v_i d_i + m |d_i|) - m R
            norm 2    v . d >= sum_i min over d_i of (v_i d_i + m d_i^2) - m R^2
            norm 0    v . d >= - the sum of the R largest gains, as all other d_i are 0

        The m that is chosen is best: that at which the minimisers use up R, first where they gain most.
        """
        (lo, hi, den), v = self.box, [n << self.grid for n in v]
        corner: int = sum(n * (low if n > 0 else high) for n, low, high in zip(v, lo, hi, strict=True))
        if not self.ball:
            return corner
        norm, centre, radius, d = self.ball
        c, R = [n * (den // d) for n in centre], radius * (den // d)
        lo, hi, at_c = list(map(sub, lo, c)), list(map(sub, hi, c)), sum(map(mul, v, c))
        size, ends = list(map(abs, v)), list(zip(v, lo, hi, strict=True))
        used = [max(0, low, -high) for low, high in zip(lo, hi, strict=True)]
        reach = [max(0, -low if n > 0 else high) for n, low, high in ends]
        if norm == 0:
            bound = -sum(sorted(map(mul, size, reach))[max(0, len(v) - radius // d) :])
        elif norm == 1:
            order = sorted(zip(size, map(sub, reach, used), strict=True), reverse=True)
            spent = accumulate((max(0, e) for _, e in order), initial=sum(used))
            m = next((n for (n, _), e in zip(order, islice(spent, 1, None), strict=True) if e >= R), 0)
            bound = sum(min(n * z + m * abs(z) for z in (a, b, min(max(a, 0), b))) for n, a, b in ends) - m * R
        else:
            k, slope, left = self.grid + (R + max(size)).bit_length(), 0, R * R - sum(map(mul, used, used))
            moves = [(n * n, a * a, b * b) for n, a, b in zip(size, used, reach, strict=True) if n and a < b]
            starts = [((a << 2 * k) // n, n, a) for n, a, _ in moves]  # from t = 1 / m^2 on, d_i^2 is t v_i^2
            for t, n, a in sorted(starts + [((b << 2 * k) // n, -n, -b) for n, _, b in moves]):
                if slope * t >= left << 2 * k:
                    m = isqrt((slope << 2 * k) // left) if slope and left > 0 else max(size) << 2 * k  # twice, over 2^k
                    break
                slope, left = slope + n, left + a
            else:
                m = 0
            twice = (
                (-(n * n) << 2 * k) // m
                if a * m <= -n << k <= b * m and m
                else min((n * z << k + 1) + m * z * z for z in (a, b))
                for n, a, b in ends
            )
            bound = (sum(twice) - m * R * R) >> k + 1
        found: int = at_c + bound
        return max(corner, found)

    def least(self, k: int, signs: list[tuple[int, int]]) -> list[int]:
        """Return lower bounds over 2^grid on sign * z_j, for pairs of j and sign, z the input of Relu k."""
        if not 0 < len(signs) <= LANES:
            return self.least(k, signs[:LANES]) + self.least(k, signs[LANES:]) if signs else []
        v, den = [[sign * (i == j) for j, sign in signs] for i in range(len(self.net.masks[k]))], self.box[2]
        v, p, M, T = self.walk(self.net.layers.index(k), v, RULE)
        ends = map(self.lowest, zip(*v, strict=True))
        p += self.grid
        return [((end << T - p) + m * den << self.grid) // (den << T) for end, m in zip(ends, M[0], strict=True)]

    def close(self, case: Case, mu: list[int], advice: Advice = RULE) -> tuple[int, int]:
        """Return D, at most mu . atoms on the node: if it is positive, no point of the node is in the case."""
        y, x, total, (lo, hi, den) = [0] * self.net.outputs, [0] * self.net.inputs, 0, self.box
        for factor, (terms, constant, _) in zip(mu, case.unsafe, strict=True):
            total += factor * constant
            for kind, i, n in terms:
                (x if kind == "X" else y)[i] += factor * n
        advice = advice._replace(factor=case.scale)  # as all numbers of the case are
        v, p, M, T = self.walk(len(self.net.layers), [[n, *[0] * len(advice.lifted)] for n in y], advice)
        if not advice.lifted:
            end = self.lowest([c + (n << p) for (c,), n in zip(v, x, strict=True)])
            return (end << T - p - self.grid) + (M[0][0] + (total << T)) * den, den << T
        M, rows = [[m * den for m in row] for row in M], []
        M[0][0] += total * den << T
        for i, (column, n, a, b) in enumerate(zip(v, x, lo, hi, strict=True)):
            column[0] += n << p
            M[0] = [m + (c * a << T - p) for m, c in zip(M[0], column, strict=True)]
            box = advice.inputs.get(i, 0) * case.scale * den << T - advice.scale
            first, *others = (c * (b - a) << T - p for c in column)
            rows.append([first - box, *others, 2 * box])
        return quadratic(M, rows), 2 * den << T

    def refresh(self) -> None:
        """Bound the inputs of all Relus anew: by interval arithmetic, then open neurons by the formula and the rule."""
        for k, mask in enumerate(self.net.masks):
            position = self.net.layers.index(k)
            self.meet(k, *self.outward(self.entering(position))[:2])
            if (
                position > (not self.ball) and isinstance(self.net.layers[position - 1], Affine) and not self.empty
            ):  # else no gain
                lo, hi = map(list, self.z[k][:2])
                unstable = [j for j, (on, a, b) in enumerate(zip(mask, lo, hi, strict=True)) if on and a < 0 < b]
                ends = self.least(k, [(j, 1) for j in unstable] + [(j, -1) for j in unstable])
                for i, j in enumerate(unstable):
                    lo[j], hi[j] = ends[i], -ends[len(unstable) + i]
                self.meet(k, lo, hi)

    def split_input(self, i: int, mantissa: int, exponent: int) -> tuple[Node, Node]:
        """Return the parts x_i <= m and x_i >= m, for m = mantissa 2^exponent strictly inside."""
        den = lcm(self.box[2], 1 << max(0, -exponent))
        lo, hi = ([a * (den // self.box[2]) for a in ends] for ends in self.box[:2])
        m = mantissa * (den << exponent if exponent >= 0 else den >> -exponent)
        need(lo[i] < m < hi[i], f"the split of input {i} is not inside its interval", Rejected)
        below, above = (lo, [*hi[:i], m, *hi[i + 1 :]], den), ([*lo[:i], m, *lo[i + 1 :]], hi, den)
        return replace(self, box=below).outside(), replace(self, box=above).outside()

    def outside(self) -> Node:
        """Mark the node as empty if the nearest point of its box is not in the ball."""
        if self.ball:
            norm, centre, radius, d = self.ball
            c, R = [n * (self.box[2] // d) for n in centre], radius * (self.box[2] // d)
            away = [max(0, low - n, n - high) for n, low, high in zip(c, *self.box[:2], strict=True)]
            distance = sum(map(bool, away)) * self.box[2] if norm == 0 else sum(n**norm for n in away)
            self.empty = self.empty or distance > (R if norm < 2 else R * R)
        return self

    def split_neuron(self, k: int, j: int) -> tuple[Node, Node]:
        """Return the parts z_j <= 0 and z_j >= 0."""
        (lo, hi, _), below, above = self.z[k], replace(self), replace(self)
        below.meet(k, lo, [*hi[:j], 0, *hi[j + 1 :]])
        above.meet(k, [*lo[:j], 0, *lo[j + 1 :]], hi)
        return below, above


class Records:
    """The compressed part of a certificate."""

    def __init__(self, stream: BinaryIO, net: Network) -> None:
        data, inflate, self.net = stream.read(), zlib.decompressobj(), net
        try:
            records = inflate.decompress(data, MAX_EXPANSION * len(data) + FREE_EXPANSION)
        except zlib.error:
            raise Malformed("the compressed data are damaged") from None
        need(inflate.eof, "the compressed data are truncated, or expand too far")
        need(not inflate.unused_data, "data follow the certificate")
        self.bytes = iter(records)
        self.neurons = [(k, j) for k, mask in enumerate(net.masks) for j, on in enumerate(mask) if on]

    def byte(self) -> int:
        """Read one byte."""
        byte = next(self.bytes, -1)
        need(byte >= 0, "the records end before the tree does")
        return byte

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

    def s(self) -> int:
        """Read a signed integer: 0, -1, 1, -2, 2, ... are written 0, 1, 2, 3, 4, ..."""
        n = self.u()
        return -(n + 1 >> 1) if n & 1 else n >> 1

    def d(self) -> tuple[int, int]:
        """Read a dyadic number, mantissa and exponent."""
        mantissa, exponent = self.s(), self.s()
        need(abs(exponent) <= MAX_EXPONENT, "an exponent is out of range")
        return mantissa, exponent

    def listed(self, items: Sequence[Any], value: Callable[[], Any], most: int = sys.maxsize) -> dict[Any, Any]:
        """Read a list of values for some of the items, at most so many; each says how many items it leaves out."""
        found, at, count = {}, 0, len(items)
        for _ in range(self.u(1 + min(count, most))):
            at += self.u(count - at)
            found[items[at]] = value()
            at += 1
        return found

    def advice(self, *, lifted: bool) -> Advice:
        """Read how a close chooses multipliers."""
        if lifted:
            scale, u, s = self.u(MAX_SHIFT), self.u, self.s
            products = self.listed(self.neurons, lambda: (u(), s(), u(), u()), MAX_LIFTED)
            given, inputs = self.listed(self.neurons, s), self.listed(range(self.net.inputs), u)
            return RULE._replace(given=given, relative=True, scale=scale, lifted=products, inputs=inputs)
        slopes, given = self.listed(self.neurons, self.byte), self.listed(self.neurons, self.d)
        scale = max([0, *(-e for _, e in given.values())])
        return RULE._replace(slopes=slopes, given={at: m << scale + e for at, (m, e) in given.items()}, scale=scale)


def visit(node: Node, cases: list[Case], records: Records) -> tuple[Node, ...]:
    """Follow the records of one node up to its end; return the parts that are left to prove."""
    refreshes, masks = 0, node.net.masks
    while node.open:
        kind = records.byte()
        if kind == SPLIT_INPUT:
            return node.split_input(records.u(node.net.inputs), *records.d())
        if kind == SPLIT_NEURON:
            k = records.u(len(masks))
            j = records.u(len(masks[k]))
            need(bool(masks[k][j]), f"Relu {k} does not rectify coordinate {j}")
            return node.split_neuron(k, j)
        if kind in (CLOSE, CLOSE_LIFTED):
            group = records.u(len(cases))
            need(group in node.open, f"group {group} is closed already")
            mu = [records.u() for _ in cases[group].unsafe]
            advice = records.advice(lifted=kind == CLOSE_LIFTED)
            proved = node.empty or node.close(cases[group], mu, advice)[0] > 0
            need(proved, f"the bound for group {group} is not positive", Rejected)
            node.open -= {group}
        elif kind == EMPTY:
            need(node.empty, "the node is not known to be empty", Rejected)
            node.open = frozenset()
        else:
            refreshes += 1
            need(kind == REFRESH and refreshes <= MAX_REFRESHES, f"unknown record {kind}, or too many refreshes")
            node.refresh()
    return ()


def prove(net: Network, cases: list[Case], goals: list[list[int]], grid: int, stream: BinaryIO) -> int:
    """Follow the tree of every goal to its end; return how many nodes there are."""
    records, nodes = Records(stream, net), 0
    for members in goals:
        mine = [cases[c] for c in members]
        net.bounded(mine[0].box)
        stack = [Node(net, grid, mine[0].box, frozenset(range(len(mine))), ball=mine[0].ball).outside()]
        while stack:
            try:
                stack += reversed(visit(stack.pop(), mine, records))
            except Rejected as error:
                raise Rejected(f"node {nodes + 1}: {error}") from None
            need(len(stack) <= MAX_WAITING, f"more than {MAX_WAITING} nodes are waiting")
            nodes += 1
    need(next(records.bytes, None) is None, "records follow the last tree")
    return nodes


def refute(net: Network, case: Case, x: list[int], den: int) -> None:
    """Require that the point x / den violates the case for certain."""
    lo, hi, d = case.box
    need(all(a * den <= v * d <= b * den for a, v, b in zip(lo, x, hi, strict=True)), "outside the box", Rejected)
    here = [v * d for v in x]
    node = Node(net, 0, (here, here, den * d), frozenset(), ball=case.ball)
    need(not node.outside().empty, "outside the ball", Rejected)
    ends = x, x, den
    net.bounded(ends)
    for layer in net.layers:
        ends = layer.ends(ends) if isinstance(layer, Affine) else net.relu(layer, ends)
    for number, (terms, constant, strict) in enumerate(case.unsafe):
        worst = constant * den * ends[2]
        for kind, i, n in terms:
            worst += n * (x[i] * ends[2] if kind == "X" else (ends[1] if n > 0 else ends[0])[i] * den)
        need(worst < 0 or (worst == 0 and not strict), f"condition {number} does not certainly hold", Rejected)


def check(network: bytes, property_: bytes, certificate: BinaryIO) -> str:
    """Return the statement that a certificate proves about a network and a property; its last line is the verdict."""
    net = read_network(network)
    cases, goals = read_property(property_, net)
    need(certificate.read(len(MAGIC)) == MAGIC, "not a certificate of format 1")
    line = certificate.readline(MAX_HEADER)
    need(line.endswith(b"\n"), "the header does not end")
    header = read_json(line[:-1], "header", VERIFIED, FALSIFIED)
    for name, text in (("network", network), ("property", property_)):
        need(header[name] == hashlib.sha256(text).hexdigest(), f"the certificate is for another {name}", Rejected)
    need(header["semantics"] == net.semantics, "the network is under other semantics", Rejected)
    if header["kind"] == "verified":
        need(0 <= header["grid"] <= MAX_GRID, "header: the grid is out of range")
        nodes = prove(net, cases, goals, header["grid"], certificate)
        statement = (
            "no real point of a case, from lower to upper and in its ball, has all unsafe conditions of that case"
        )
        verdict = f"proof: {len(goals)} boxes, {nodes} nodes\nPROVED"
    else:
        c, verdict = header["case"], "REFUTED"
        need(0 <= c < len(cases) and len(header["x"]) == net.inputs, "header: no such case, or a point of another size")
        need(not certificate.read(1), "data follow the certificate")
        refute(net, cases[c], *common(header["x"], "header"))
        statement = (
            f"this point x, from lower to upper of case {c} and in its ball, has all unsafe conditions of that case"
        )
    return f"""certificate: {line[:MAX_SHOWN].decode().strip()}
network: {net.inputs} inputs X, {sum(map(sum, net.masks))} ReLU neurons, {net.outputs} outputs Y
semantics: {net.semantics}; for all coefficients within the slack and all errors within the absolute of their row
property: {property_[:MAX_SHOWN].decode()}{" ... and so on" * (len(property_) > MAX_SHOWN)}
statement: {statement}
{verdict}"""


def main(arguments: list[str]) -> int:
    """Check the three files named; print what was proved."""
    if len(arguments) != 3:
        print("usage: python -I -S kernel.py NETWORK.json PROPERTY.json CERTIFICATE", file=sys.stderr)
        return 2
    try:
        with open(arguments[0], "rb") as net, open(arguments[1], "rb") as prop, open(arguments[2], "rb") as certificate:
            print(check(net.read(), prop.read(), certificate))
            return 0
    except (Rejected, Malformed, OSError, MemoryError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1 if isinstance(error, Rejected) else 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
