"""Boxes, queries and goals: exact regions, exact witnesses, and what the network of a goal computes."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from math import inf, nextafter

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from optverify.errors import InputError, ShapeError
from optverify.expressions import And, Atom, Condition, Linear, Or, inputs, outputs
from optverify.network import Affine, Network
from optverify.query import Case, Goal, Query, append_rows
from optverify.region import Box
from tests.test_expressions import conditions, fractions, holds, linears, points, small

relaxed = settings(deadline=None, max_examples=100)
thorough = settings(deadline=None, max_examples=200)

X = inputs(2)
Y = outputs(2)
UNIT = Box((0, 0), (1, 1))


def exactly(values: list[Fraction]) -> list[tuple[Fraction, Fraction]]:
    """Return degenerate enclosures."""
    return [(v, v) for v in values]


def networks(n_inputs: int = 2, n_outputs: int = 2) -> st.SearchStrategy[Network]:
    """Make networks of one hidden layer whose weights are halves."""

    def arrays(*shape: int) -> st.SearchStrategy[np.ndarray]:
        size = int(np.prod(shape))
        return st.lists(st.integers(-4, 4), min_size=size, max_size=size).map(lambda v: np.reshape(v, shape) / 2)

    hidden = 3
    return st.tuples(
        st.tuples(arrays(hidden, n_inputs), arrays(hidden)), st.tuples(arrays(n_outputs, hidden), arrays(n_outputs))
    ).map(Network.from_arrays)


# --- boxes


def test_ends_are_exact() -> None:
    """Decimal strings stay decimals; floats of any width stay what they are."""
    box = Box(("0.1", Decimal("-0.2"), 0.1), (np.float32(0.5), 1, Fraction(1, 3)))  # type: ignore[arg-type]
    assert box.lower == (Fraction(1, 10), Fraction(-1, 5), Fraction(0.1))
    assert box.upper == (Fraction(1, 2), Fraction(1), Fraction(1, 3))
    assert Box(np.full((2, 2), 0.1), np.ones(4)).lower == (Fraction(0.1),) * 4  # type: ignore[arg-type]


def test_nested_lists_keep_large_integers() -> None:
    """A nested list is not turned into an array of floats on the way."""
    n = 2**60 + 1
    assert Box([[n, 0.5]], [[n, 0.5]]).lower == (n, Fraction(1, 2))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("lower", "upper", "error", "message"),
    [
        ((0, 2), (1, 1), InputError, "input 1"),
        ((0, float("nan")), (1, 1), InputError, "finite"),
        ((0, 0), (1, inf), InputError, "finite"),
        ((0, "-1e309"), (1, 1), InputError, "input 1 .*float64 range"),
        ((0,), (1, 1), ShapeError, "as many lower as upper"),
        ((), (), ShapeError, "at least one"),
        (([1, 2], [3]), (1, 1), InputError, "finite number"),
    ],
)
def test_bad_boxes_are_named(lower: object, upper: object, error: type[Exception], message: str) -> None:
    """Reversed, infinite and ill-sized boxes raise, and say which input."""
    with pytest.raises(error, match=message):
        Box(lower, upper)  # type: ignore[arg-type]


@thorough
@given(st.lists(st.tuples(fractions, fractions), min_size=1, max_size=4))
def test_outward_is_the_tightest_float_box(pairs: list[tuple[Fraction, Fraction]]) -> None:
    """Each end is the nearest float on the outer side: the next one inward would cut the box."""
    box = Box(tuple(min(p) for p in pairs), tuple(max(p) for p in pairs))
    for a, b, low, high in zip(box.lower, box.upper, box.outward.lower, box.outward.upper, strict=True):
        assert Fraction(low) <= a
        assert b <= Fraction(high)
        assert Fraction(low) == a or Fraction(nextafter(low, inf)) > a
        assert Fraction(high) == b or Fraction(nextafter(high, -inf)) < b


def test_outward_at_the_ends_of_the_range() -> None:
    """Tiny ends round away from zero to the next subnormal, never to the wrong side."""
    box = Box(("-1e-400", "1e-400"), ("1e-400", "1.7976931348623157e308"))
    assert list(box.outward.lower) == [-5e-324, 0.0]
    assert list(box.outward.upper) == [5e-324, float("1.7976931348623157e308")]


def test_around_is_exact_and_clipped() -> None:
    """The ball x +- eps without rounding, cut by the domain; None does not cut."""
    box = Box.around(["0.05", "0.5", 1], "0.1", (0, 1))
    assert box.lower == (0, Fraction(2, 5), Fraction(9, 10))
    assert box.upper == (Fraction(3, 20), Fraction(3, 5), 1)
    assert Box.around([3], [0.5], clip=None) == Box(("2.5",), ("3.5",))
    assert Box.around([0, 0], ["0.1", 2], clip=(-1, 1)) == Box(("-0.1", -1), ("0.1", 1))
    assert Box.around(0.5, 0) == Box((0.5,), (0.5,))


@pytest.mark.parametrize(
    ("x", "eps", "clip", "error"),
    [
        ([0.5], -1, (0, 1), InputError),
        ([1.5], 1, (0, 1), InputError),
        ([0.5, 0.5], [1, 2, 3], (0, 1), ShapeError),
        ([float("nan")], 1, None, InputError),
        ([0.5], float("inf"), (0, 1), InputError),
    ],
)
def test_around_refuses_nonsense(x: object, eps: object, clip: object, error: type[Exception]) -> None:
    """Negative radii, points outside the domain and wrong sizes raise; nothing is clipped silently."""
    with pytest.raises(error):
        Box.around(x, eps, clip)  # type: ignore[arg-type]


def test_contains_and_clamp_are_exact() -> None:
    """The boundary belongs to the box, anything beyond does not, however little."""
    box = Box(("0.1",), ("0.3",))
    hair = Fraction(1, 10**40)
    assert box.contains([Fraction(1, 10)])
    assert box.contains([Fraction(3, 10)])
    assert not box.contains([Fraction(1, 10) - hair])
    assert not box.contains([Fraction(3, 10) + hair])
    assert not box.contains([Fraction(2, 10)] * 2)
    assert box.clamp([0.1]) == [Fraction(0.1)]  # just above the decimal 0.1
    assert box.clamp([0.3]) == [Fraction(0.3)]  # just below the decimal 0.3
    assert box.clamp([0.1 - 1e-17]) == [Fraction(1, 10)]
    assert box.clamp([7]) == [Fraction(3, 10)]


# --- queries


@thorough
@given(conditions, points)
def test_a_point_violates_exactly_where_the_unsafe_condition_holds(
    unsafe: Condition, point: tuple[list[Fraction], list[Fraction]]
) -> None:
    """`never`, `always` and `violated_by` against the truth of the condition, boundaries included."""
    x, y = point
    region = Box((-2, -2), (2, 2))
    inside = all(abs(v) <= 2 for v in x)
    reached = Query.never(region, unsafe, 2).violated_by(x, exactly(y))
    assert (reached is not None) == (inside and holds(unsafe, x, y))
    if reached is not None:
        assert all(holds(atom, x, y) for atom in unsafe.cases()[reached])
    unsafe_now = Query.always(region, unsafe, 2).violated_by(x, exactly(y)) is not None
    assert unsafe_now == (inside and not holds(unsafe, x, y))


@thorough
@given(linears(), st.booleans(), points, st.lists(small.map(abs), min_size=2, max_size=2))
def test_an_enclosed_output_violates_only_if_all_of_the_enclosure_does(
    linear: Linear, strict: bool, point: tuple[list[Fraction], list[Fraction]], radii: list[Fraction]
) -> None:
    """With outputs known within intervals, a violation counts only where every value in them violates."""
    x, y = point
    boxes = [(v - r, v + r) for v, r in zip(y, radii, strict=True)]
    corners = [[a, b] for a in boxes[0] for b in boxes[1]]
    query = Query((Case(Box((-3, -3), (3, 3)), (Atom(linear, strict),)),), 2, 2)
    expected = all(holds(Atom(linear, strict), x, corner) for corner in corners)
    assert (query.violated_by(x, boxes) is not None) == expected


def test_strict_and_closed_boundaries() -> None:
    """On the boundary <= is violated and < is not; a hair decides."""
    hair = Fraction(1, 10**30)
    x = [Fraction(0), Fraction(0)]
    closed, strict = (Query.never(UNIT, atom, 2) for atom in (Y[0] <= Y[1], Y[0] < Y[1]))
    for gap, expected in ((-hair, (0, 0)), (Fraction(0), (0, None)), (hair, (None, None))):
        y = exactly([1 + gap, Fraction(1)])
        assert (closed.violated_by(x, y), strict.violated_by(x, y)) == expected


def test_the_first_reached_case_is_named() -> None:
    """Cases are tried in order, each with its own region."""
    query = Query((Case(Box((2, 2), (3, 3)), ()), Case(UNIT, (Y[0] <= 0,)), Case(UNIT, ())), 2, 2)
    y = exactly([Fraction(1), Fraction(0)])
    assert query.violated_by([Fraction(0), Fraction(0)], y) == 2
    assert query.violated_by([Fraction(0), Fraction(0)], exactly([Fraction(0)] * 2)) == 1
    assert query.violated_by([Fraction(2), Fraction(3)], y) == 0
    assert query.violated_by([Fraction(2), Fraction(1)], y) is None


@given(st.lists(small, min_size=3, max_size=3))
@relaxed
def test_robust_means_the_label_wins_strictly(y: list[Fraction]) -> None:
    """A tie counts as a win of the target; targets restrict who may not win."""
    x = [Fraction(0), Fraction(0)]
    assert (Query.robust(UNIT, 1, 3).violated_by(x, exactly(y)) is None) == (y[1] > y[0] and y[1] > y[2])
    assert (Query.robust(UNIT, 1, 3, [2]).violated_by(x, exactly(y)) is None) == (y[1] > y[2])


@given(small, small, small)
@relaxed
def test_in_range_means_within_both_bounds(y: Fraction, low: Fraction, high: Fraction) -> None:
    """The bounds themselves are allowed."""
    x = [Fraction(0), Fraction(0)]
    for a, b in ((low, high), (low, None), (None, high)):
        inside = (a is None or a <= y) and (b is None or y <= b)
        reached = Query.in_range(UNIT, 1, 2, a, b).violated_by(x, exactly([Fraction(9), y]))
        assert (reached is None) == inside


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: Query.robust(UNIT, 3, 3), InputError),
        (lambda: Query.robust(UNIT, -1, 3), InputError),
        (lambda: Query.robust(UNIT, 0, 1), InputError),
        (lambda: Query.robust(UNIT, 0, 3, [0]), InputError),
        (lambda: Query.robust(UNIT, 0, 3, [3]), InputError),
        (lambda: Query.robust(UNIT, 0, 3, []), InputError),
        (lambda: Query.in_range(UNIT, 0, 3), InputError),
        (lambda: Query.in_range(UNIT, 3, 3, lower=0), InputError),
        (lambda: Query.in_range(UNIT, -1, 3, lower=0), InputError),
        (lambda: Query.never(UNIT, outputs(3)[2] <= 0, 2), ShapeError),
        (lambda: Query.never(UNIT, inputs(3)[2] <= 0, 2), ShapeError),
        (lambda: Query((Case(UNIT, ()),), 3, 2), ShapeError),
        (lambda: Query.from_rows(UNIT, [[1, 0]], [1, 2]), ShapeError),
        (lambda: Query.from_rows(UNIT, [[1, 0]], [1], [[1, 2, 3]]), ShapeError),
        (lambda: Query.from_rows(UNIT, [[1, float("nan")]], [1]), InputError),
    ],
)
def test_impossible_questions_are_errors(make: object, error: type[Exception]) -> None:
    """Labels, outputs and sizes that do not exist are refused when the question is asked."""
    with pytest.raises(error):
        make()  # type: ignore[operator]


def test_rows_become_atoms() -> None:
    """C y + D x + d <= 0, row by row, exactly, zeros left out."""
    query = Query.from_rows(UNIT, [["0.1", 0], [0, -2]], ["0.3", 0], [[0, 1], [0, 0]])
    assert query.cases == (Case(UNIT, (Y[0] * "0.1" + X[1] <= "-0.3", -2 * Y[1] <= 0)),)
    assert Query.from_rows(UNIT, [1, -1], 0.5).cases == (Case(UNIT, (Y[0] - Y[1] + 0.5 <= 0,)),)
    assert query.n_outputs == 2


PLAIN = Query((Case(Box(("0.1", 0), (1, 1)), (Y[0] - X[1] * "0.5" <= 1, Y[1] < 2)), Case(UNIT, ())), 2, 2)


def test_digest_is_stable() -> None:
    """The digest depends on the content only, and is the same in every version and process."""
    assert PLAIN.digest == "3e61f01a7786f2524c751aeab5894d968b9ed9f44609a800c2256c9604c4baf3"
    again = Query(
        (Case(Box((Fraction(1, 10), 0), (1.0, 1)), (-0.5 * X[1] + Y[0] - 1 <= 0, Y[1] < 2)), Case(UNIT, ())), 2, 2
    )
    assert again.digest == PLAIN.digest
    assert replace(PLAIN, text="other words").digest == PLAIN.digest


def test_digest_notices_every_change() -> None:
    """Ends, coefficients, constants, variables, strictness, order and sizes all count."""
    first, second = PLAIN.cases
    a, b = first.unsafe
    changed = [
        [replace(first, region=Box(("0.1", 0), (1, 2))), second],
        [replace(first, region=Box((0.1, 0), (1, 1))), second],
        [replace(first, unsafe=(a,)), second],
        [replace(first, unsafe=(b, a)), second],
        [replace(first, unsafe=(replace(a, strict=True), b)), second],
        [replace(first, unsafe=(Atom(a.linear + "1e-300"), b)), second],
        [replace(first, unsafe=(Atom(a.linear + Y[0] * "1e-300"), b)), second],
        [replace(first, unsafe=(Y[1] - X[1] * "0.5" <= 1, b)), second],
        [replace(first, unsafe=(Y[0] - X[0] * "0.5" <= 1, b)), second],
        [replace(first, unsafe=(Y[0] - Y[1] * "0.5" <= 1, b)), second],
        [second, first],
        [first],
        [first, second, second],
        [],
    ]
    queries = [PLAIN, *(Query(tuple(cases), 2, 2) for cases in changed), replace(PLAIN, n_outputs=3)]
    assert len({query.digest for query in queries}) == len(queries)


def test_digest_of_numbers_too_long_to_print() -> None:
    """Python refuses to print integers of more than 4300 digits; the digest does not mind."""
    tiny = Fraction(1, 10**5000)
    assert Query((Case(UNIT, (Y[0] <= tiny,)),), 2, 2).digest != Query((Case(UNIT, (Y[0] <= 0,)),), 2, 2).digest


# --- goals


@relaxed
@given(networks(), st.lists(st.tuples(st.booleans(), st.lists(linears(), max_size=3)), min_size=1, max_size=4), points)
def test_goal_outputs_are_the_left_sides(
    network: Network,
    specification: list[tuple[bool, list[Linear]]],
    point: tuple[list[Fraction], list[Fraction]],
) -> None:
    """Every case is in one goal, over its own region; its rows are its atoms' values, exactly."""
    other = Box((-1, -1), (2, 2))
    cases = [Case(UNIT if first else other, tuple(Atom(e) for e in rows)) for first, rows in specification]
    query = Query(tuple(cases), 2, 2)
    goals = query.goals(network)
    assert len(goals) == len({case.region for case in cases})
    assert sorted(k for goal in goals for k in goal.cases) == list(range(len(cases)))
    x, _ = point
    y = network.exact(x)
    for goal in goals:
        assert len(goal.groups) == len(goal.cases)
        values = goal.network.exact(x)
        assert set().union(*goal.groups) == set(range(len(values)))
        for rows, position in zip(goal.groups, goal.cases, strict=True):
            case = query.cases[position]
            assert goal.region == case.region
            expected = [atom.linear.value(x, y) for atom in case.unsafe] or [Fraction(-1)]
            assert {values[r] for r in rows} == set(expected)


def test_rows_are_shared() -> None:
    """An atom that occurs in several cases, or twice in one, is one output of the goal's network."""
    network = Network.from_arrays([(np.eye(2), np.zeros(2))])
    a, b, c = Y[0] <= 0, Y[1] <= 0, X[0] + Y[1] <= 1
    query = Query(tuple(Case(UNIT, atoms) for atoms in ((a, b), (b, a, b), (a, c), ())), 2, 2)
    (goal,) = query.goals(network)
    assert goal.network.n_outputs == 4
    assert goal.groups == ((0, 1), (1, 0), (0, 2), (3,))
    assert goal.cases == (0, 1, 2, 3)
    strict = Query((Case(UNIT, (Y[0] < 0,)), Case(UNIT, (a,))), 2, 2)
    assert strict.goals(network)[0].groups == ((0,), (0,)), "strict atoms are closed for proving"


def test_regions_make_goals() -> None:
    """Cases over equal regions share a goal, in order of first appearance."""
    network = Network.from_arrays([(np.eye(2), np.zeros(2))])
    other = Box((0, 0), (2, 2))
    cases = [Case(region, (Y[k % 2] <= k,)) for k, region in enumerate([UNIT, other, Box((0, 0), (1, 1)), other])]
    goals = Query(tuple(cases), 2, 2).goals(network)
    assert [(goal.region, goal.cases) for goal in goals] == [(UNIT, (0, 2)), (other, (1, 3))]
    assert Query((), 2, 2).goals(network) == ()


@relaxed
@given(networks(), linears(fractions), points)
def test_rounded_coefficients_come_with_their_uncertainty(
    network: Network, linear: Linear, point: tuple[list[Fraction], list[Fraction]]
) -> None:
    """A coefficient such as 0.1 is no float: the enclosure of the goal's output contains the exact value."""
    assume(linear.terms)
    goal_network = append_rows(network, [linear])
    x, _ = point
    truth = linear.value(x, network.exact(x))
    ((low, high),) = goal_network.enclose(x)
    assert low <= truth <= high
    numbers = [linear.constant, *linear.terms.values()]
    exact = all(Fraction(float(v)) == v for v in numbers)
    assert goal_network.has_slack is not exact
    assert (low == high == truth) or not exact
    assert high - low <= Fraction(1, 2**45) * (1 + sum(abs(v) for v in numbers)) * 1000


def test_slack_of_one_tenth() -> None:
    """0.1 Y_0 at Y_0 = 1: the float 0.1 is not the answer, and the slack is about one half unit of roundoff."""
    network = Network.from_arrays([(np.eye(1), np.zeros(1))])
    appended = append_rows(network, [Linear({("Y", 0): Fraction(1, 10)}, Fraction(0))])
    ((low, high),) = appended.enclose([Fraction(1)])
    assert low <= Fraction(1, 10) < Fraction(0.1) <= high
    assert 0 < high - low < Fraction(1, 2**52)
    assert isinstance(appended.layers[-1], Affine)
    assert appended.layers[-1].roundings.tolist() == [0]


@pytest.mark.parametrize(
    "number", ["1e400", "-1e309", "1e-400", "1e-320", "2.2e-308", Fraction(2) ** 1024, Fraction(1, 2**1023)]
)
@pytest.mark.parametrize("where", ["coefficient", "constant"])
def test_coefficients_outside_float64_are_errors(number: Fraction | str, where: str) -> None:
    """Overflow and underflow would make the relative slack meaningless."""
    network = Network.from_arrays([(np.eye(2), np.zeros(2))])
    atom = Y[0] * number <= 0 if where == "coefficient" else Y[0] + number <= 0
    with pytest.raises(InputError, match="outside the range"):
        Query.never(UNIT, atom, 2).goals(network)


def test_extreme_normal_coefficients_are_accepted() -> None:
    """The largest and the smallest normal numbers are within the range."""
    network = Network.from_arrays([(np.eye(2), np.zeros(2))])
    atom = Y[0] * 2.0**-1022 + Y[1] * 1.7976931348623157e308 <= 0
    (goal,) = Query.never(UNIT, atom, 2).goals(network)
    assert goal.network.exact([Fraction(1), Fraction(1)]) == [atom.linear.constant + sum(atom.linear.terms.values())]


def test_a_network_of_another_size_is_an_error() -> None:
    """Inputs and outputs must both fit."""
    query = Query.never(UNIT, Y[0] <= 0, 2)
    for shape in ((2, 3), (3, 2)):
        with pytest.raises(ShapeError, match="the network has"):
            query.goals(Network.from_arrays([(np.zeros(shape), np.zeros(shape[0]))]))


def test_wide_networks_get_sparse_rows() -> None:
    """With thousands of inputs in play the appended layer is sparse and still exact."""
    n = 5000
    network = Network.from_arrays([(np.ones((1, n)), np.zeros(1))])
    row = Linear({("X", n - 1): Fraction(3), ("Y", 0): Fraction(1)}, Fraction(1, 2))
    appended = append_rows(network, [row])
    assert appended.layers[-1].is_sparse  # type: ignore[union-attr]
    x = [Fraction(k % 7) for k in range(n)]
    assert appended.exact(x) == [sum(x) + 3 * x[-1] + Fraction(1, 2)]


def test_goal_is_what_pose_makes() -> None:
    """`Goal.pose` takes any subset of the cases."""
    network = Network.from_arrays([(np.eye(2), np.zeros(2))])
    query = Query.never(UNIT, Or((Y[0] <= 0, And((Y[1] <= 0, Y[0] <= Y[1])))), 2)
    goal = Goal.pose(network, query, UNIT, [1])
    assert goal.cases == (1,)
    assert goal.network.exact([Fraction(3), Fraction(5)]) == [5, -2]


def test_regions_are_described_as_they_are() -> None:
    """No digit of a decimal is lost: a property card says what the file says."""
    said = str(Box(["0.123456789", "1000000.4", "1/3"], ["0.12345678901", "1000000.6", 1]))
    assert said == "X_0 in [0.123456789, 0.12345678901], X_1 in [1000000.4, 1000000.6], X_2 in [1/3, 1]"
