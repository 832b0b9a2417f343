"""Safe boxes and dual boxes against an exact oracle in the plane, samples, and the definition of a maximal box."""

import re
from fractions import Fraction
from itertools import product
from math import inf

import numpy as np
import pytest

from optverify import Box, Network, dual_box, inputs, load_property, outputs, radius, safe_box
from optverify.certificate import check_file
from optverify.errors import InputError, ShapeError
from optverify.measures.boxes import OBJECTIVES
from optverify.query import Case, Query
from tests import oracle
from tests.measures.distances import pieces
from tests.measures.test_radius import tiny
from tests.oracle import _least, _pieces

STEP = Fraction(1, 64)


def unsafe_somewhere(network, box, label):
    zero = [Fraction(0)] * box.size
    return any(
        _least(zero, rows, box.lower, box.upper) is not None for rows in pieces(network, box.lower, box.upper, label)
    )


def maximal(network, answer, label):
    """Each face is where the definition says, and its counterexample where it is said to be."""
    for face in answer.faces:
        ends = {"lower": list(answer.box.lower), "upper": list(answer.box.upper)}
        assert ends[face.side][face.axis] == face.position
        if face.stop == "domain":
            assert face.position == (-1 if face.side == "lower" else 1)
            continue
        assert face.stop == "counterexample"
        ends[face.side][face.axis] += STEP if face.side == "upper" else -STEP
        assert all(a <= v <= b for a, v, b in zip(ends["lower"], face.witness.x, ends["upper"], strict=True))
        y = network.exact(face.witness.x)
        assert max(v for j, v in enumerate(y) if j != label) >= y[label]


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("seed", range(3))
def test_boxes_are_safe_and_maximal(objective, seed):
    network = tiny(seed)
    x = (np.random.default_rng(seed).integers(-8, 9, 2) / 8).tolist()
    y = network.exact([Fraction(v) for v in x])
    label = y.index(max(y))
    if y.count(max(y)) > 1:
        with pytest.raises(InputError, match="unsafe itself"):
            safe_box(network, x, objective, domain=(-1, 1), step=STEP)
        return
    answer = safe_box(network, x, objective, domain=(-1, 1), step=STEP)
    assert answer.box.contains([Fraction(v) for v in x])
    assert not unsafe_somewhere(network, answer.box, label)
    assert answer.complete
    maximal(network, answer, label)
    points = np.random.default_rng(0).uniform(0, 1, (1000, 2))
    low, high = (np.array([float(v) for v in ends]) for ends in (answer.box.lower, answer.box.upper))
    assert (network(low + points * (high - low)).argmax(axis=1) == label).all()
    if objective == "apothem" and answer.radius.upper < inf:
        assert answer.apothem >= answer.radius.lower


def test_the_apothem_is_the_radius():
    network = Network.from_arrays([([[1.0, 1.0], [0.0, 0.0]], [0.0, 1.0])])  # class 0 where x0 + x1 > 1
    answer = safe_box(network, [0.75, 0.75], step=STEP, order=[(0, "lower")])
    assert answer.apothem == pytest.approx(0.25, rel=1e-3)
    assert answer.edges == pytest.approx((0.5, 0.5), rel=1e-3)
    assert answer.diameter == pytest.approx(0.5, rel=1e-3)
    assert answer.log_volume == pytest.approx(2 * np.log(0.5), rel=1e-3)
    assert [face.stop for face in answer.faces] == ["counterexample", "domain"] * 2
    assert "apothem" in str(answer)
    printed = re.findall(r"\[(\S+), (\S+)\]", str(answer).split("box  ")[1].splitlines()[0])
    for (low, high), a, b in zip(printed, answer.box.lower, answer.box.upper, strict=True):
        assert a <= Fraction(low) <= Fraction(high) <= b
    assert answer.to_dict()["complete"]
    # The first face to move takes all that is to be had.
    first = safe_box(network, [0.75, 0.75], "maximal", step=STEP, order=[(1, "lower")])
    assert float(first.box.lower[1]) == pytest.approx(0.25, abs=float(STEP))
    assert first.box.lower[0] == Fraction(3, 4)


def test_property_fixed_inputs_and_weights(tmp_path):
    network = Network.from_arrays([([[1.0, 1.0, 5.0]], [0.0])])
    y, x = outputs(1), inputs(3)
    path = str(tmp_path / "box.cert")
    answer = safe_box(
        network,
        [0, 0, 0],
        property=(y[0] <= 1) & (x[0] - x[1] <= 10),
        domain=(-4, 4),
        fixed=[2],
        weights=[1, 3, 1],
        step=STEP,
        certificate=path,
    )
    assert answer.radius.lower <= 0.25 <= answer.radius.upper
    assert answer.box.lower == (-4, -4, 0) or answer.complete
    assert float(answer.box.upper[0]) == pytest.approx(0.25, abs=0.02)
    assert float(answer.box.upper[1]) == pytest.approx(0.75, abs=0.06)
    assert [face.stop for face in answer.faces[4:]] == ["fixed", "fixed"]
    assert answer.certified
    unsafe = Query.always(answer.box, (y[0] <= 1) & (x[0] - x[1] <= 10), 1)
    assert check_file(path, network, unsafe).kind == "verified"
    conjunction = Query(
        (Case(Box([0, 0, 0], [1, 1, 1]), ((y[0] >= 1).cases()[0][0], (x[1] <= 0).cases()[0][0])),), 3, 1
    )
    both = safe_box(network, [0, 1, 0], property=conjunction, domain=(0, 2), step=STEP)
    assert both.complete
    for face in both.faces:
        if face.stop == "counterexample":
            assert conjunction.cases[0].unsafe
            assert network.exact(face.witness.x)[0] >= 1
            assert face.witness.x[1] <= 0


def test_time_runs_out():
    rng = np.random.default_rng(0)
    network = Network.from_arrays(
        [
            (rng.normal(size=(30, 10)), rng.normal(size=30)),
            (rng.normal(size=(30, 30)), rng.normal(size=30)),
            (rng.normal(size=(3, 30)), np.zeros(3)),
        ]
    )
    answer = safe_box(network, rng.uniform(0, 1, 10), time_limit=0.3)
    assert not answer.complete
    assert "undecided" in {face.stop for face in answer.faces}
    assert "undecided" in str(answer)
    assert not dual_box(network, 0, time_limit=1e-6).complete


@pytest.mark.parametrize("seed", range(3))
def test_dual_box_against_the_oracle(seed):
    network = tiny(seed)
    lower, upper = [Fraction(-1)] * 2, [Fraction(1)] * 2
    for label in range(2):
        answer = dual_box(network, label, domain=(-1, 1), step=STEP)
        rows = []
        for piece, y in _pieces(oracle.read(network), lower, upper):
            rows.append(
                [*piece, *([a - b for a, b in zip(y[j], y[label], strict=True)] for j in range(3) if j != label)]
            )
        least = {}
        for axis in range(2):
            for sign, side in ((1, "lower"), (-1, "upper")):
                cost = [Fraction(sign * (i == axis)) for i in range(2)]
                found = [v for v in (_least(cost, r, lower, upper) for r in rows) if v is not None]
                least[axis, side] = sign * min(found) if found else None
        if least[0, "lower"] is None:
            assert answer.outer is None
            assert "no point" in str(answer)
            continue
        assert answer.complete
        for face in answer.faces:
            true, sign = least[face.axis, face.side], 1 if face.side == "lower" else -1
            assert 0 <= sign * (true - face.position) <= STEP
            assert sign * (face.witness.x[face.axis] - true) >= 0
        assert all(a <= b for a, b in zip(answer.outer.lower, answer.inner.lower, strict=True))


@pytest.mark.parametrize("semantics", ["real", "float32"])
def test_certificates_of_a_dual_box_cover_the_domain(semantics, tmp_path):
    """Every point of the domain is in the outer box or in a box that a proof is about; points refute the inner ends."""
    network = Network.from_arrays([([[1.0, 1.0], [0.0, 0.0]], [0.0, 1.5])])
    answer = dual_box(network, 0, step=STEP, semantics=semantics, certificates=str(tmp_path / "proofs"))
    assert answer.certified
    assert answer.outer.lower[0] > 0.4
    proved, kinds = [], set()
    for path in sorted((tmp_path / "proofs").glob("*.proof")):
        query = load_property(str(path.with_suffix(".vnnlib")))
        statement = check_file(str(path), network, query)
        assert statement.semantics == semantics
        assert statement.kind == ("verified" if path.stem.endswith("outer") else "falsified")
        kinds.add(path.stem)
        if statement.kind == "verified":
            proved += {case.region for case in query.cases}
    assert {"face-0-lower-outer", "face-1-lower-outer", "face-0-lower-inner", "face-1-lower-inner"} <= kinds
    grid = [Fraction(k, 64) for k in range(65)]
    for point in product(grid, grid):
        assert answer.outer.contains(point) or any(box.contains(point) for box in proved)
    nothing = dual_box(network, 0, domain=(0, 0.5), semantics=semantics, certificates=str(tmp_path / "none"))
    assert (nothing.outer, nothing.certified) == (None, True)
    assert [path.name for path in sorted((tmp_path / "none").iterdir())] == ["empty.proof", "empty.vnnlib"]


def test_dual_box_of_a_property_and_of_a_flat_domain():
    network = Network.from_arrays([([[1.0, 1.0]], [0.0])])
    y = outputs(1)
    answer = dual_box(network, property=y[0] >= 1.5, step=STEP)
    assert answer.outer.lower == (pytest.approx(0.5, abs=0.02),) * 2
    flat = dual_box(network, property=y[0] >= 1.5, domain=Box([1, 0], [1, 1]), step=STEP)
    assert flat.outer.lower[0] == flat.outer.upper[0] == 1
    assert flat.complete


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"objective": "largest"}, InputError, "largest"),
        ({"step": 0}, InputError, "step"),
        ({"step": float("nan")}, InputError, "finite"),
        ({"weights": [1]}, ShapeError, "weights"),
        ({"weights": [1, 0]}, InputError, "fixed"),
        ({"fixed": [2]}, ShapeError, "input 2"),
        ({"order": [(2, "lower")]}, InputError, "order"),
        ({"x": [2, 0]}, InputError, "outside"),
        ({"label": 1}, InputError, "unsafe itself"),
    ],
)
def test_bad_input(arguments, error, words):
    network = Network.from_arrays([([[1.0, 1.0], [0.0, 0.0]], [0.0, 1.0])])
    with pytest.raises(error, match=words):
        safe_box(network, **({"x": [0.75, 0.75]} | arguments))


def test_bad_input_of_dual_boxes():
    network = Network.from_arrays([([[1.0, 1.0], [0.0, 0.0]], [0.0, 1.0])])
    for label in (None, 2, -1):
        with pytest.raises(InputError, match="label"):
            dual_box(network, label)
    with pytest.raises(InputError, match="step"):
        dual_box(network, 0, step=-1)


def test_apothem_is_no_smaller_than_that_of_other_boxes():
    network, x = tiny(4), [0.125, -0.25]
    best = safe_box(network, x, domain=(-1, 1), step=STEP)
    other = safe_box(network, x, "maximal", domain=(-1, 1), step=STEP)
    assert best.apothem >= min(other.apothem, radius(network, x, domain=(-1, 1)).lower)


def test_no_box_around_an_unsafe_point_that_is_no_float():
    """1/10 is below the float 0.1, to which it is rounded."""
    identity = Network.from_arrays([([[1.0]], [0.0])])
    for objective in OBJECTIVES:
        with pytest.raises(InputError, match="unsafe itself"):
            safe_box(identity, [Fraction(1, 10)], objective, property=outputs(1)[0] >= 0.1, time_limit=5)
        assert safe_box(identity, [0.1], objective, property=outputs(1)[0] >= 0.1, time_limit=5).box.lower == (0.1,)


def test_printed_and_written_sides_are_inside():
    """Decimals of few digits as they are, floats that only look like one rounded inward; JSON exactly."""
    from optverify.measures.results import _around, _inside

    box = Box([0.1, "0.1", "-1/3"], ["0.2", 0.2, "1/3"])
    ends = [side.strip("[]").split(", ") for side in _inside(box).split("; ")]
    for (low, high), a, b in zip(ends, box.lower, box.upper, strict=True):
        assert a <= Fraction(low) <= Fraction(high) <= b
    assert ends[0][1] == "0.2"
    assert ends[1][0] == "0.1"
    ends = [side.strip("[]").split(", ") for side in _around(box).split("; ")]
    for (low, high), a, b in zip(ends, box.lower, box.upper, strict=True):
        assert Fraction(low) <= a <= b <= Fraction(high)
