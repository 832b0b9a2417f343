"""Write the files of accept/, reject/ and malformed/.

Run as ``python -m tests.kernel.make_cases``.

Each case is a folder with network.json, property.json and certificate; in reject/ and malformed/ also a file
``message`` with words that the checker's message must contain.
"""

from __future__ import annotations

import json
import shutil
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

from tests.kernel import build
from tests.kernel.build import EMPTY, REFRESH, RULE, advice, close, lifted, split_input, split_neuron, u

HERE = Path(__file__).parent
Json = dict[str, Any]


def dump(value: Json) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def affine(
    rows: list[list[int]],
    bias: list[int],
    shift: int = 0,
    slack: list[int] | None = None,
    absolute: list[int] | None = None,
    limits: list[int] | None = None,
) -> Json:
    """Write dense rows."""
    return {
        "affine": [len(rows), len(rows[0])],
        "shift": shift,
        "rows": [[n for j, w in enumerate(row) if w for n in (j, w)] for row in rows],
        "bias": bias,
        "slack_shift": 10 if slack else 0,
        "slack": slack or [0] * len(rows),
        "absolute": absolute or [0] * len(rows),
        "limits": limits or [0] * len(rows),
    }


def network(inputs: int, *layers: Json, semantics: str = "real") -> Json:
    return {"format": "optverify network 1", "semantics": semantics, "inputs": inputs, "layers": list(layers)}


def relu(*mask: int) -> Json:
    return {"relu": list(mask)}


def atom(constant: tuple[int, int], *terms: tuple[str, int, int, int], strict: int = 0) -> Json:
    return {"terms": [list(term) for term in terms], "constant": list(constant), "strict": strict}


def case(box: list[tuple[Fraction | int, Fraction | int]], *atoms: Json) -> Json:
    ends = [[Fraction(a).as_integer_ratio() for a in side] for side in zip(*box, strict=True)]
    return {"lower": [list(v) for v in ends[0]], "upper": [list(v) for v in ends[1]], "unsafe": list(atoms)}


def cut(part: Json, norm: int, centre: list[int], radius: tuple[int, int]) -> Json:
    """Write a case in a ball."""
    ball = {"norm": norm, "centre": [[v, 1] for v in centre], "radius": list(radius)}
    return {"lower": part["lower"], "upper": part["upper"], **ball, "unsafe": part["unsafe"]}


def property_(inputs: int, outputs: int, *cases: Json) -> Json:
    return {"format": "optverify property 1", "inputs": inputs, "outputs": outputs, "cases": list(cases)}


# relu(x) + relu(-x) = |x|
ABSOLUTE = network(1, affine([[1], [-1]], [0, 0]), relu(1, 1), affine([[1, 1]], [0]))
# relu(x) - relu(-x) = x: that y = x on [-1, 1] needs splits.
SAME = network(1, affine([[1], [-1]], [0, 0]), relu(1, 1), affine([[1, -1]], [0]))
# Two hidden layers, 2-2-2-1: y = relu(relu(x0 + x1) - relu(x0 - x1)) + relu(...) / 2 + ...
DEEP = network(
    2,
    affine([[2, 2], [2, -2]], [1, 0], 1),
    relu(1, 1),
    affine([[2, -1], [-1, 3]], [0, 1], 1),
    relu(1, 1),
    affine([[1, 1]], [1]),
)
# A coordinate that is passed through, two affine layers in a row, and slack of 3/1024.
MIXED = network(
    2,
    affine([[1, 1], [1, -1], [0, 1]], [0, 0, 1], 0, [3, 0, 0]),
    affine([[1, 0, 0], [0, 1, 1], [0, 0, 1]], [0, 0, 0], 0, [0, 3, 0]),
    relu(1, 1, 0),
    affine([[1, 1, 1]], [2], 0, [3]),
)
# relu(x) - relu(-x) in float16, whose largest number is 65504, with an error of 3/1024 |x| + 1/1024 and 0.
HALF = network(
    1,
    affine([[1], [-1]], [0, 0], 0, [3, 3], [1, 1], [65504, 65504]),
    relu(1, 1),
    affine([[1, -1]], [0], 0, [1], [0], [65504]),
    semantics="float16",
)
# relu(x0 + x1 + 4): over the square at least 2, and less in no ball.
SUM = network(2, affine([[1, 1]], [4]), relu(1), affine([[1]], [0]))
UNIT = [(-1, 1)]
SQUARE = [(-1, 1), (-1, 1)]
THIRD = [(Fraction(-1, 3), Fraction(1, 3)), (Fraction(-1, 10), Fraction(1, 7))]

# y <= x - 1/8 is impossible
NEVER = property_(1, 1, case(UNIT, atom((1, 8), ("X", 0, -1, 1), ("Y", 0, 1, 1))))
TREE = split_input(0, 0, REFRESH + close(0, [1]), REFRESH + close(0, [1]))
Y = ("Y", 0, 1, 1)

# y <= x - 1 is impossible; that needs products of conditions. D is 0.49.
FAR = property_(1, 1, case(UNIT, atom((1, 1), ("X", 0, -1, 1), Y)))
PRODUCTS = [(0, (512, 0, 0, 598)), (1, (0, -792, 116, 86))]
LIFTED = lifted(0, [1], 10, PRODUCTS, [], [(0, 878)])


def less(norm: int, radius: tuple[int, int], value: tuple[int, int], low: Fraction | int = -1) -> Json:
    """Say that SUM is at most a value, in a ball about 0 and the square [low, 1]^2."""
    part = case([(low, 1), (low, 1)], atom((-value[0], value[1]), Y))
    return property_(2, 1, cut(part, norm, [0, 0], radius))


def accepted() -> dict[str, tuple[Json, Json, bytes]]:
    """Name -> network, property, records."""

    def fixed(g0: int, g1: int) -> bytes:
        return close(0, [1], advice((), [(0, (g0, 0)), (1, (g1, 0))]))

    neurons = split_neuron(
        0,
        0,
        split_neuron(0, 1, fixed(1, 0), close(0, [1])),
        split_neuron(0, 1, close(0, [1]), fixed(0, -1)),
    )
    positive = property_(1, 1, case(UNIT, atom((1, 8), Y)))
    three = property_(
        2,
        1,
        case(SQUARE, atom((0, 1), Y)),
        case(THIRD, atom((1, 2), Y), atom((-1, 1), Y)),
        case([(Fraction(-2, 2), 1), (-1, Fraction(3, 3))], atom((0, 1), Y, strict=1)),
    )
    deep = REFRESH + close(1, [1]) + close(0, [1])
    return {
        "input-split": (SAME, NEVER, TREE),
        "neuron-split": (SAME, NEVER, neurons),
        "slopes": (ABSOLUTE, positive, close(0, [3], advice([(0, 9), (1, 9)]))),
        "goals-and-groups": (DEEP, three, deep + REFRESH + close(0, [1, 0])),
        "inherited-groups": (
            DEEP,
            three,
            close(0, [1]) + split_input(0, Fraction(1, 4), close(1, [1]), REFRESH + close(1, [1])) + close(0, [1, 0]),
        ),
        "empty": (
            DEEP,
            property_(2, 1, case([(1, 2), (0, 0)], atom((0, 1), Y))),
            split_neuron(0, 0, EMPTY, close(0, [1])),
        ),
        "close-an-empty-node": (
            DEEP,
            property_(2, 1, case([(1, 2), (0, 0)], atom((0, 1), Y))),
            split_neuron(0, 0, close(0, [0]), close(0, [1])),
        ),
        "empty-by-formula": (
            DEEP,
            property_(2, 1, case([(1, 2), (0, 0)], atom((0, 1), Y), atom((0, 1)))),
            split_neuron(0, 1, EMPTY, close(0, [1, 0])),
        ),
        "mixed-slack": (
            MIXED,
            property_(2, 1, case(SQUARE, atom((1, 3), ("X", 1, -1, 1), Y), atom((-9, 1), ("X", 0, 2, 3)))),
            REFRESH + split_input(1, Fraction(-1, 2), close(0, [1, 0]), close(0, [1, 0])),
        ),
        "lifted": (SAME, FAR, LIFTED),
        # The box is not cut, so x <= 0, or x >= 0, is used by what is added to the first neuron's g.
        "lifted-split": (
            SAME,
            FAR,
            split_neuron(
                0,
                0,
                lifted(0, [1], 10, PRODUCTS[1:], [(0, 256)], [(0, 878)]),
                REFRESH + lifted(0, [1], 10, [(1, (0, 0, 512, 0))], [(0, -512)]),
            ),
        ),
        "lifted-alone": (SAME, NEVER, split_input(0, 0, REFRESH + lifted(0, [1], 0, []), REFRESH + close(0, [1]))),
        # |y - x| is at most (1 + 1/1024) 4/1024 + ... < 1/64 on each half.
        "float16": (
            HALF,
            property_(1, 1, case(UNIT, atom((1, 32), ("X", 0, -1, 1), Y))),
            split_input(0, 0, REFRESH + close(0, [1]), REFRESH + close(0, [1])),
        ),
        "no-layers-but-relu": (network(1, relu(1)), property_(1, 1, case(UNIT, atom((1, 1), Y))), close(0, [1])),
        # The least values are 4 - sqrt(2), 4 - 1 and 4 - 1.
        "ball-2": (SUM, less(2, (1, 1), (2585, 1000)), close(0, [1])),
        "ball-1": (SUM, less(1, (1, 1), (2999, 1000)), REFRESH + close(0, [1])),
        "ball-0": (SUM, less(0, (1, 1), (2999, 1000)), close(0, [1])),
        "ball-0-of-a-part": (SUM, less(0, (3, 2), (2999, 1000)), close(0, [1])),
        "ball-of-radius-0": (SUM, less(2, (0, 1), (3999, 1000)), REFRESH + close(0, [1])),
        "ball-in-parts": (
            SUM,
            less(2, (1, 1), (2585, 1000)),
            split_input(0, Fraction(-3, 4), REFRESH + close(0, [1]), REFRESH + close(0, [1])),
        ),
        "ball-outside": (SUM, less(2, (1, 1), (9, 1), Fraction(3, 4)), EMPTY),
        "ball-outside-a-part": (
            SUM,
            less(1, (1, 1), (4, 1), Fraction(1, 4)),
            split_input(0, Fraction(7, 8), REFRESH + close(0, [1]), EMPTY),
        ),
        "no-cases": (ABSOLUTE, property_(1, 1), b""),
    }


def rejected() -> dict[str, tuple[bytes, bytes, bytes, str]]:
    """Name -> network, property, certificate, words of the message."""
    net, prop = dump(SAME), dump(NEVER)
    wider = dump(property_(1, 1, case([(-2, 1)], *NEVER["cases"][0]["unsafe"])))
    good = build.verified(net, prop, TREE)
    strict = dump(property_(1, 1, case(UNIT, atom((0, 1), ("X", 0, -1, 1), Y, strict=1))))
    # At 0 the output is 4 up to slack.
    loose = dump(MIXED), dump(property_(2, 1, case(SQUARE, atom((-4, 1), Y))))

    def made(records: bytes) -> bytes:
        return build.verified(net, prop, records)

    def ball(prop: Json, records: bytes) -> tuple[bytes, bytes]:
        return dump(prop), build.verified(dump(SUM), dump(prop), records)

    def made_far(records: bytes) -> bytes:
        return build.verified(net, dump(FAR), records)

    return {
        "not-positive": (net, prop, made(REFRESH + close(0, [1])), "the bound for group 0"),
        "not-positive-below": (
            net,
            prop,
            made(split_input(0, 0.25, close(0, [1]), close(0, [1]))),
            "the bound",
        ),
        "zero-mu": (net, prop, made(close(0, [0])), "not positive"),
        "touching": (
            net,
            dump(property_(1, 1, case(UNIT, atom((0, 1), ("X", 0, -1, 1), Y, strict=1)))),
            b"",
            "not positive",
        ),
        "no-atoms": (net, dump(property_(1, 1, case(UNIT))), b"", "not positive"),
        "wider-box": (net, wider, good, "another property"),
        "other-network": (
            dump(network(1, *SAME["layers"][:2], affine([[1, 2]], [0]))),
            prop,
            good,
            "another network",
        ),
        "not-empty": (net, prop, made(EMPTY), "not known to be empty"),
        "lifted-not-convex": (net, dump(FAR), made_far(lifted(0, [1], 10, [(1, (0, 792, 0, 0))])), "not convex"),
        "lifted-not-positive": (net, dump(FAR), made_far(lifted(0, [1], 10, [], [], [(0, 878)])), "not"),
        "overflow": (
            dump(HALF),
            dump(property_(1, 1, case([(0, 65500)], atom((1, 1), Y)))),
            b"",
            "overflow",
        ),
        "ball-2": (dump(SUM), *ball(less(2, (1, 1), (2586, 1000)), REFRESH + close(0, [1])), "not positive"),
        "ball-1": (dump(SUM), *ball(less(1, (1, 1), (3, 1)), REFRESH + close(0, [1])), "not positive"),
        "ball-0": (dump(SUM), *ball(less(0, (2, 1), (2, 1)), close(0, [1])), "not positive"),
        "ball-not-outside": (
            dump(SUM),
            *ball(less(2, (1, 1), (9, 1), Fraction(7, 10)), EMPTY),
            "not known to be empty",
        ),
        "ball-other-radius": (
            dump(SUM),
            dump(less(2, (2, 1), (2585, 1000))),
            build.verified(dump(SUM), dump(less(2, (1, 1), (2585, 1000))), close(0, [1])),
            "another property",
        ),
        "point-outside-the-ball": (
            dump(SUM),
            dump(less(2, (1, 1), (9, 1))),
            build.falsified(dump(SUM), dump(less(2, (1, 1), (9, 1))), 0, [Fraction(4, 5), Fraction(3, 4)]),
            "outside the ball",
        ),
        "point-overflow": (
            dump(HALF),
            dump(property_(1, 1, case([(0, 65500)], atom((0, 1), Y)))),
            build.falsified(
                dump(HALF), dump(property_(1, 1, case([(0, 65500)], atom((0, 1), Y)))), 0, [Fraction(65500)], "float16"
            ),
            "overflow",
        ),
        "semantics": (net, prop, good.replace(b'"real"', b'"float32"', 1), "semantics"),
        "split-outside": (net, prop, made(split_input(0, 2, b"", b"")), "not inside"),
        "split-at-the-end": (net, prop, made(split_input(0, 1, b"", b"")), "not inside"),
        "weak-slopes": (
            net,
            prop,
            made(split_input(0, 0, close(0, [1], advice([(0, 0), (1, 9)])), b"")),
            "not positive",
        ),
        "point-outside": (net, wider, build.falsified(net, wider, 0, [Fraction(3)]), "outside the box"),
        "point-not-strict": (net, strict, build.falsified(net, strict, 0, [Fraction(1, 2)]), "condition 0"),
        "point-not-certain": (*loose, build.falsified(*loose, 0, [Fraction(0)] * 2), "condition 0"),
        "point-safe": (net, prop, build.falsified(net, prop, 0, [Fraction(0)]), "condition 0"),
    }


def malformed() -> dict[str, tuple[bytes, bytes, bytes, str]]:
    """Name -> network, property, certificate, words of the message."""
    net, prop = dump(SAME), dump(NEVER)
    good = build.verified(net, prop, TREE)
    head = good[: good.index(b"\n", len(build.MAGIC)) + 1]

    def made(records: bytes) -> bytes:
        return build.verified(net, prop, records)

    def text(old: bytes, new: bytes, where: bytes = net) -> bytes:
        assert where.count(old) >= 1
        return where.replace(old, new, 1)

    def header(old: bytes, new: bytes) -> bytes:
        return text(old, new, good)

    networks = {
        "float": (text(b'"bias":[0,0]', b'"bias":[0.0,0]'), "canonical"),
        "exponent": (text(b'"bias":[0,0]', b'"bias":[1e9,0]'), "canonical"),
        "nan": (text(b'"bias":[0,0]', b'"bias":[NaN,0]'), "canonical"),
        "boolean": (text(b'"bias":[0,0]', b'"bias":[false,0]'), "misplaced"),
        "boolean-mask": (text(b'"relu":[1,1]', b'"relu":[1,true]'), "misplaced"),
        "string": (text(b'"bias":[0,0]', b'"bias":["0",0]'), "misplaced"),
        "null": (text(b'"bias":[0,0]', b'"bias":null'), "misplaced"),
        "minus-zero": (text(b'"bias":[0,0]', b'"bias":[-0,0]'), "canonical"),
        "plus": (text(b'"bias":[0,0]', b'"bias":[+1,0]'), "not JSON"),
        "duplicate-key": (text(b'"inputs":1', b'"inputs":1,"inputs":1'), "canonical"),
        "unknown-key": (text(b'"inputs":1', b'"inputs":1,"name":"a"'), "misplaced"),
        "key-order": (text(b'"shift":0,"rows":[[0,1],[0,-1]]', b'"rows":[[0,1],[0,-1]],"shift":0'), "misplaced"),
        "space": (text(b'"inputs":1', b'"inputs": 1'), "canonical"),
        "newline": (net + b"\n", "canonical"),
        "extra": (net + b"{}", "not JSON"),
        "truncated": (net[:-1], "not JSON"),
        "nothing": (b"", "not JSON"),
        "deep": (b"[" * 100_000, "deeply"),
        "not-ascii": (text(b"network", "nétwork".encode()), "ASCII"),
        "escape": (text(b"network", b"\\u006eetwork"), "canonical"),
        "format": (text(b"network 1", b"network 2"), "misplaced"),
        "long-integer": (text(b'"bias":[0,0]', b'"bias":[' + b"9" * 5_000 + b",0]"), ""),
        "shift": (text(b'"shift":0', b'"shift":1000000000000'), "shift"),
        "negative-shift": (text(b'"shift":0', b'"shift":-1'), "shift"),
        "huge-layer": (text(b'"affine":[2,1]', b'"affine":[1000000000000,1]'), "sizes"),
        "negative-slack": (text(b'"slack":[0,0]', b'"slack":[0,-1]'), "slack"),
        "negative-absolute": (text(b'"absolute":[0,0]', b'"absolute":[0,-1]'), "negative"),
        "negative-limit": (text(b'"limits":[0,0]', b'"limits":[0,-1]'), "negative"),
        "few-limits": (text(b'"limits":[0,0]', b'"limits":[0]'), "sizes"),
        "many-errors": (text(b'"absolute":[0,0]', b'"absolute":[0,0,0]'), "sizes"),
        "semantics": (text(b'"real"', b'"exact"'), "misplaced"),
        "semantics-number": (text(b'"real"', b"1"), "misplaced"),
        "no-semantics": (text(b'"semantics":"real",', b""), "misplaced"),
        "zero-weight": (text(b"[0,-1]", b"[0,0]"), "nonzero"),
        "odd-row": (text(b"[0,-1]", b"[0,-1,0]"), "pairs"),
        "column-order": (text(b"[0,1,1,-1]", b"[1,-1,0,1]"), "increase"),
        "column-twice": (text(b"[0,1,1,-1]", b"[0,1,0,-1]"), "increase"),
        "column-range": (text(b"[0,1,1,-1]", b"[0,1,2,-1]"), "increase"),
        "column-negative": (text(b"[0,1,1,-1]", b"[-1,1,1,-1]"), "increase"),
        "mask-length": (text(b'"relu":[1,1]', b'"relu":[1,1,1]'), "mask"),
        "mask-value": (text(b'"relu":[1,1]', b'"relu":[1,2]'), "misplaced"),
        "no-inputs": (text(b'"inputs":1', b'"inputs":0'), "inputs"),
        "list": (b"[]", "misplaced"),
    }
    properties = {
        "zero-denominator": (text(b"[1,8]", b"[1,0]", prop), "denominator"),
        "negative-denominator": (text(b"[1,8]", b"[1,-8]", prop), "denominator"),
        "reversed-box": (text(b'"upper":[[1,1]]', b'"upper":[[-2,1]]', prop), "above"),
        "box-size": (text(b'"upper":[[1,1]]', b'"upper":[[1,1],[1,1]]', prop), "size"),
        "output-range": (text(b'["Y",0', b'["Y",1', prop), "no such variable"),
        "variable": (text(b'["Y",0', b'["Z",0', prop), "misplaced"),
        "zero-coefficient": (text(b'["Y",0,1', b'["Y",0,0', prop), "or a 0"),
        "variable-twice": (text(b'["Y",0,1,1]]', b'["Y",0,1,1],["Y",0,1,1]]', prop), "order"),
        "variable-order": (text(b'[["X",0,-1,1],["Y",0,1,1]]', b'[["Y",0,1,1],["X",0,-1,1]]', prop), "order"),
        "strict": (text(b'"strict":0', b'"strict":2', prop), "misplaced"),
        "sizes": (text(b'"inputs":1', b'"inputs":2', prop), "sizes"),
    }
    round_ = dump(less(2, (1, 2), (1, 1)))
    balls = {
        "norm": (b'"norm":2', b'"norm":3', "misplaced"),
        "norm-boolean": (b'"norm":2', b'"norm":true', "misplaced"),
        "centre": (b'"centre":[[0,1],[0,1]]', b'"centre":[[0,1]]', "improper ball"),
        "centre-denominator": (b'"centre":[[0,1],[0,1]]', b'"centre":[[0,1],[0,0]]', "denominator"),
        "radius": (b'"radius":[1,2]', b'"radius":[-1,2]', "improper ball"),
        "radius-denominator": (b'"radius":[1,2]', b'"radius":[1,-2]', "denominator"),
        "order": (b'"norm":2,"centre":[[0,1],[0,1]]', b'"centre":[[0,1],[0,1]],"norm":2', "misplaced"),
        "no-radius": (b',"radius":[1,2]', b"", "misplaced"),
    }
    certificates = {
        "magic": (header(b"certificate 1", b"certificate 2"), "format 1"),
        "no-header": (build.MAGIC, "header"),
        "header-key": (header(b'"kind"', b'"sort"'), "header"),
        "semantics": (header(b'"real"', b'"float31"'), "header"),
        "grid": (header(b'"grid":40', b'"grid":201'), "grid"),
        "grid-boolean": (header(b'"grid":40', b'"grid":true'), "header"),
        "header-space": (header(b'"grid":40', b'"grid": 40'), "header"),
        "cut-short": (good[:-3], "truncated"),
        "no-records": (head, "truncated"),
        "damaged": (good[:-1] + bytes([good[-1] ^ 1]), "damaged"),
        "trailing-bytes": (good + b"\0", "follow"),
        "trailing-stream": (good + zlib.compress(b""), "follow"),
        "trailing-records": (made(TREE + REFRESH), "follow"),
        "uncovered-split": (made(split_input(0, 0, REFRESH + close(0, [1]), b"")), "end before"),
        "empty-stream": (made(b""), "end before"),
        "unknown-record": (made(b"\7"), "unknown record"),
        "record-zero": (made(b"\0"), "unknown record"),
        "group-range": (made(close(1, [1])), "less than 1"),
        "input-range": (made(split_input(1, 0, b"", b"")), "less than 1"),
        "relu-range": (made(split_neuron(1, 0, b"", b"")), "less than 1"),
        "rule-cut-short": (made(close(0, [1], RULE[:1])), "end before"),
        "coordinate-range": (made(split_neuron(0, 2, b"", b"")), "less than 2"),
        "slope-count": (made(u(5) + u(0) + u(1) + u(3)), "less than 3"),
        "many-slopes": (made(u(5) + u(0) + u(1) + u(1 << 60)), "less than 3"),
        "slope-place": (made(close(0, [1], u(1) + u(2) + b"\7")), "less than 2"),
        "slopes-beyond-the-last": (made(close(0, [1], u(2) + u(1) + b"\7" + u(0) + b"\7")), "less than 0"),
        "multiplier-count": (made(close(0, [1], u(0) + u(3))), "less than 3"),
        "multiplier-place": (made(close(0, [1], u(0) + u(1) + u(2))), "less than 2"),
        "exponent-range": (made(u(1) + u(0) + build.d(1, -5_001)), "exponent"),
        "endless-integer": (made(u(5) + u(0) + b"\x80" * 3_000), "too long"),
        "lifted-cut-short": (made(LIFTED[:-1]), "end before"),
        "lifted-shift": (made(lifted(0, [1], 2_000, [])), "less than 2000"),
        "lifted-count": (made(u(8) + u(0) + u(1) + u(0) + u(3)), "less than 3"),
        "lifted-place": (made(lifted(0, [1], 0, [(2, (0, 0, 0, 0))])), "less than 2"),
        "lifted-added-place": (made(lifted(0, [1], 0, [], [(2, 1)])), "less than 2"),
        "lifted-input-count": (made(lifted(0, [1], 0, [], [], [(0, 1), (1, 1)])), "less than 2"),
        "lifted-input-place": (made(lifted(0, [1], 0, [], [], [(1, 1)])), "less than 1"),
        "lifted-long": (made(lifted(0, [1], 0, [(0, (1 << 1_001, 0, 0, 0))])), "too long"),
        "lifted-group": (made(lifted(1, [1], 0, [])), "less than 1"),
        "refreshed-too-often": (made(REFRESH * 1_001 + TREE), "refreshes"),
    }
    masked = dump(network(1, affine([[1], [-1]], [0, 0]), relu(1, 0), affine([[1, 1]], [0])))
    groups = property_(1, 1, case(UNIT, atom((2, 1), Y)), case(UNIT, atom((3, 1), Y)))
    closed = build.verified(net, dump(groups), close(1, [1]) + close(1, [1]))
    found = {f"network-{name}": (bad, prop, good, words) for name, (bad, words) in networks.items()}
    found |= {f"property-{name}": (net, bad, good, words) for name, (bad, words) in properties.items()}
    for name, (old, new, words) in balls.items():
        found[f"property-ball-{name}"] = (dump(SUM), round_.replace(old, new), good, words)
        assert found[f"property-ball-{name}"][1] != round_
    found |= {f"certificate-{name}": (net, prop, bad, words) for name, (bad, words) in certificates.items()}
    found["certificate-passed-through"] = (
        masked,
        prop,
        build.verified(masked, prop, split_neuron(0, 1, b"", b"")),
        "does not rectify",
    )
    found["certificate-closed-twice"] = (net, dump(groups), closed, "closed already")
    found["point-trailing"] = (net, prop, build.falsified(net, prop, 0, [Fraction(0)]) + b"\n", "follow")
    found["point-case"] = (net, prop, build.falsified(net, prop, 1, [Fraction(0)]), "case")
    found["point-size"] = (net, prop, build.falsified(net, prop, 0, [Fraction(0)] * 2), "size")
    return found


def write(folder: Path, network: bytes, property_: bytes, certificate: bytes, message: str | None = None) -> None:
    folder.mkdir(parents=True)
    (folder / "network.json").write_bytes(network)
    (folder / "property.json").write_bytes(property_)
    (folder / "certificate").write_bytes(certificate)
    if message is not None:
        (folder / "message").write_text(message)


def main() -> None:
    for kind in ("accept", "reject", "malformed"):
        shutil.rmtree(HERE / kind, ignore_errors=True)
    for name, (net, prop, records) in accepted().items():
        texts = dump(net), dump(prop)
        write(HERE / "accept" / name, *texts, build.verified(*texts, records))
    reach = dump(DEEP), dump(property_(2, 1, case(THIRD, atom((-3, 2), ("X", 0, 1, 1), Y, strict=1))))
    write(HERE / "accept" / "point", *reach, build.falsified(*reach, 0, [Fraction(-1, 3), Fraction(-1, 10)]))
    loose = dump(MIXED), dump(property_(2, 1, case(SQUARE, atom((-9, 1), ("X", 0, 1, 1), Y))))
    write(HERE / "accept" / "point-slack", *loose, build.falsified(*loose, 0, [Fraction(1, 3), Fraction(1, 7)]))
    for norm, radius in ((2, (1, 1)), (1, (7, 5)), (0, (5, 2))):  # 0.8^2 + 0.6^2 = 1
        texts = dump(SUM), dump(less(norm, radius, (27, 5)))
        point = build.falsified(*texts, 0, [Fraction(4, 5), Fraction(3, 5)])
        write(HERE / "accept" / f"point-in-a-ball-{norm}", *texts, point)
    for name, (network_, prop_, certificate, message) in rejected().items():
        if not certificate:
            certificate = build.verified(network_, prop_, TREE if name != "no-atoms" else REFRESH + close(0))
        write(HERE / "reject" / name, network_, prop_, certificate, message)
    for name, parts in malformed().items():
        write(HERE / "malformed" / name, *parts)


if __name__ == "__main__":
    main()
