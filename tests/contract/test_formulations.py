"""What every formulation must do. A new one inherits all of this by its line in the registry."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from optverify import formulations, solvers
from optverify.bounds.crown import crown
from optverify.bounds.interval_propagation import propagate
from optverify.bounds.relaxed import frame_of, proved
from optverify.errors import InputError, ShapeError
from optverify.formulations import FORMULATIONS, Formulation, Largest, Objective, Weighted
from optverify.formulations.encoder import loose_error, read_input, read_multipliers
from optverify.formulations.program import Cone, Program
from optverify.formulations.triangle import chord
from optverify.interval import Interval
from optverify.network import Affine, Network, Relu
from optverify.preactivation import Bounds
from optverify.safe.program import safe_bound
from optverify.solvers import Status
from tests import oracle
from tests.strategies import boxes, duals, networks, points

each = pytest.mark.parametrize("formulation", FORMULATIONS.values(), ids=list(FORMULATIONS))
thorough = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
quick = settings(thorough, max_examples=40)

HIGHS = "highs"
CLAIM = 1e-5
"""How far a solver's claim may be off, relative to the sizes involved; for claims only."""


def bounds_of(network: Network, region: Interval, *, tight: bool) -> Bounds:
    """Return rigorous bounds, by backward substitution or by interval arithmetic."""
    if tight:
        found, _ = crown(network, region.take(None))
        return found.take(0)
    return propagate(network, region)[0]


def row_group(network: Network) -> Largest:
    return Largest(tuple(range(network.n_outputs)))


def fill(program: Program, network: Network, bounds: Bounds, values: list[oracle.Vector]) -> list[Fraction]:
    """Return the program's variables at a forward trace, by the documented names of their blocks."""
    known: dict[str, oracle.Vector] = {"x": values[0], "t": values[-1], "tau": [max(values[-1])]}
    relu = affine = 0
    for position, layer in enumerate(network.layers):
        if isinstance(layer, Relu):
            z, box = values[position], bounds.layers[relu]
            unstable = np.flatnonzero(layer.mask & (box.lower < 0) & (box.upper > 0))
            known[f"z[{relu}]"] = z
            known[f"a[{relu}]"] = [values[position + 1][j] for j in unstable]
            known[f"t[{relu}]"] = [Fraction(int(z[j] > 0)) for j in unstable]
            relu += 1
        else:
            known[f"h[{affine}]"] = values[position + 1]
            affine += 1
    point: list[Fraction] = []
    for name, block in program.variables.items():
        assert block.start == len(point)
        assert block.size == len(known[name])
        point += known[name]
    return point


def broken(program: Program, point: list[Fraction]) -> list[str]:
    """Name the bounds, rows and integralities that a point violates, exactly."""
    found = []
    for j, value in enumerate(point):
        low, high = program.lower[j], program.upper[j]
        if (low > -np.inf and value < Fraction(low)) or (high < np.inf and value > Fraction(high)):
            found.append(f"bounds of variable {j}")
        if program.integer[j] and value.denominator != 1:
            found.append(f"integrality of variable {j}")
    matrix = program.A.tocsr()
    for name, block in program.rows.items():
        for i in range(block.start, block.stop):
            span = slice(matrix.indptr[i], matrix.indptr[i + 1])
            entries = zip(matrix.indices[span].tolist(), matrix.data[span].tolist(), strict=True)
            slack = Fraction(program.b[i]) - sum(Fraction(v) * point[j] for j, v in entries)
            assert block.cone in (Cone.ZERO, Cone.NONNEG)
            if slack < 0 or (block.cone is Cone.ZERO and slack != 0):
                found.append(f"row {i} of {name}: {float(slack)}")
    return found


def exact_minimum(steps: list[oracle.Step], region: Interval, objective: Objective) -> Fraction:
    lower, upper = ([Fraction(v) for v in ends.tolist()] for ends in (region.lower, region.upper))
    if isinstance(objective, Largest):
        return oracle.minimum_of_largest(steps, lower, upper, objective.group)
    c = [Fraction(v) for v in objective.c.tolist()]
    return oracle.minimum(steps, lower, upper, c) + Fraction(objective.c0)


def below(bound: float, exact: Fraction) -> bool:
    """Tell whether a float bound holds: exactly, no tolerance."""
    return bound == -np.inf or (bound < np.inf and Fraction(bound) <= exact)


@each
@thorough
@given(st.data())
def test_every_true_trace_satisfies_every_row_exactly(formulation: Formulation, data: st.DataObject) -> None:
    """Layers in any order, slack, scales of 1e-8 to 1e8, degenerate and huge boxes: no row cuts a trace off."""
    network = data.draw(
        networks(
            scaled=True, slack=data.draw(st.booleans()), absolute=data.draw(st.booleans()), odd=True, max_neurons=6
        )
    )
    region = data.draw(boxes(network.n_inputs, huge=True))
    bounds = bounds_of(network, region, tight=data.draw(st.booleans()))
    steps = oracle.read(network, data.draw(st.integers(0, 5)))
    values = oracle.trace(steps, data.draw(points(region)))
    for objective in (Weighted(np.ones(network.n_outputs), 1.5), row_group(network)):
        program = formulation.build(network, region, bounds, objective)
        point = fill(program, network, bounds, values)
        assert broken(program, point) == []
        cost = sum((Fraction(c) * v for c, v in zip(program.c.tolist(), point, strict=True)), Fraction(program.c0))
        true = max(values[-1]) if isinstance(objective, Largest) else sum(values[-1]) + Fraction(1.5)
        assert cost == true


@each
@quick
@given(st.data())
def test_safe_bound_is_below_the_oracle(formulation: Formulation, data: st.DataObject) -> None:
    """With the solver's dual, no dual or a garbage dual, the bound holds exactly, also with slack."""
    network = data.draw(networks(scaled=True, slack=True, absolute=True, odd=True, max_neurons=4, max_inputs=2))
    region = data.draw(boxes(network.n_inputs))
    bounds = bounds_of(network, region, tight=data.draw(st.booleans()))
    c = np.array(
        data.draw(
            st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0]), min_size=network.n_outputs, max_size=network.n_outputs)
        )
    )
    objective = data.draw(st.sampled_from([Weighted(c, -0.1), row_group(network)]))
    program = formulation.build(network, region, bounds, objective)
    exact = exact_minimum(oracle.read(network, data.draw(st.integers(0, 3))), region, objective)
    solution = solvers.get(HIGHS).solve(program, time_limit=5.0)
    for dual in (solution.dual, solution.ray, data.draw(duals(program.n_rows, solution.dual))):
        assert below(safe_bound(program, dual), exact)
        if dual is not None:
            assert below(proved(frame_of(network, region, bounds), program, objective, dual), exact)


@each
@quick
@given(st.data())
def test_claims_match_the_kind(formulation: Formulation, data: st.DataObject) -> None:
    """On well-scaled networks the claim is at most the minimum, and is the minimum where `exact` says so."""
    network = data.draw(networks(max_neurons=4, max_inputs=2))
    region = data.draw(boxes(network.n_inputs))
    objective = data.draw(st.sampled_from([Weighted(np.ones(network.n_outputs)), row_group(network)]))
    bounds = bounds_of(network, region, tight=True)
    program = formulation.build(network, region, bounds, objective)
    exact = float(exact_minimum(oracle.read(network), region, objective))
    solution = solvers.get(HIGHS).solve(program)
    room = CLAIM * (1 + abs(exact) + np.abs(program.lower).max() + np.abs(program.upper).max())
    assert solution.status is Status.OPTIMAL
    assert solution.objective <= exact + room
    if formulation.exact:
        assert abs(solution.objective - exact) <= room + 2e-4 * abs(exact)
    else:
        # The dual that comes with the claim proves it, but for rounding.
        assert safe_bound(program, solution.dual) >= solution.objective - room


@quick
@given(st.data())
def test_tighter_formulations_are_tighter(data: st.DataObject) -> None:
    """Interval arithmetic <= triangle <= big-M, as claims."""
    network = data.draw(networks(max_neurons=5))
    region = data.draw(boxes(network.n_inputs))
    bounds, outputs = propagate(network, region)
    objective = Weighted(np.eye(network.n_outputs)[0])
    found = [
        solvers.get(HIGHS).solve(FORMULATIONS[name].build(network, region, bounds, objective)).objective
        for name in ("triangle", "bigm")
    ]
    room = CLAIM * (1 + float(outputs.magnitude().max()))
    assert outputs.lower[0] - room <= found[0] <= found[1] + room


@quick
@given(st.data())
def test_multipliers_of_the_dual_prove_the_claim(data: st.DataObject) -> None:
    """The triangle's dual, read as g and mu, gives the claimed optimum back: the signs are right."""
    network = data.draw(networks(max_neurons=5, odd=True))
    region = data.draw(boxes(network.n_inputs))
    bounds = bounds_of(network, region, tight=True)
    objective = data.draw(st.sampled_from([Weighted(np.ones(network.n_outputs), 0.25), row_group(network)]))
    program = FORMULATIONS["triangle"].build(network, region, bounds, objective)
    solution = solvers.get(HIGHS).solve(program)
    assert solution.dual is not None
    bound = proved(frame_of(network, region, bounds), program, objective, solution.dual)
    room = CLAIM * (1 + np.abs(program.lower).max() + np.abs(program.upper).max())
    # Where a Relu follows no Affine there is no g in the network's terms, and the rule of CROWN steps in.
    fed = all(i > 0 and isinstance(network.layers[i - 1], Affine) for i in network.relus)
    if fed and not isinstance(network.layers[-1], Relu):
        assert bound >= solution.objective - room
    assert bound <= solution.objective + room


def random_network(seed: int, *sizes: int) -> Network:
    rng = np.random.default_rng(seed)
    return Network.from_arrays([(rng.normal(size=(m, n)), rng.normal(size=m)) for n, m in pairwise(sizes)])


@pytest.mark.parametrize("slack", [0.0, 1e-6])
@pytest.mark.parametrize("objective", [Weighted(np.array([1.0, -1.0]), 0.25), Largest((0, 1)), Largest((1,))])
@pytest.mark.parametrize("seed", range(4))
def test_multipliers_of_wider_networks(seed: int, objective: Objective, slack: float) -> None:
    """The same with many unstable neurons, where every sign matters, and with equations split by slack."""
    network = random_network(seed, 3, 8, 8, 2)
    layers = [
        Affine(layer.weight, layer.bias, slack=np.resize([slack, 0.0], layer.shape[0]))
        if isinstance(layer, Affine)
        else layer
        for layer in network.layers
    ]
    network, region = Network(tuple(layers)), Interval(-np.ones(3), np.ones(3))
    bounds = bounds_of(network, region, tight=True)
    program = FORMULATIONS["triangle"].build(network, region, bounds, objective)
    solution = solvers.get(HIGHS).solve(program)
    assert solution.dual is not None
    bound = proved(frame_of(network, region, bounds), program, objective, solution.dual)
    # Slack costs the formula up to twice its error.
    assert solution.objective - 1e-6 - 1e3 * slack <= bound <= solution.objective + 1e-6 + 1e3 * slack


def test_bounds_of_implied_variables_take_no_part_in_the_dual() -> None:
    """Where interval arithmetic is tight the multipliers still add up to 1: t and tau have wider bounds."""
    network = Network((Affine([[1.0], [2.0]], np.zeros(2)),))
    region = Interval(np.array([1.0]), np.array([3.0]))
    for group in ((0,), (0, 1)):
        program = FORMULATIONS["triangle"].build(network, region, Bounds(()), Largest(group))
        found = read_multipliers(network, program, solvers.get(HIGHS).solve(program).dual)
        assert found is not None
        assert found.mu.sum() == pytest.approx(1.0)
        assert found.g[0][list(group)] == pytest.approx(found.mu)


SIZES = {
    # of a 2-3-2-1 network with p = 3 unstable neurons: variables, equations, inequalities, binaries
    "triangle": (2 + 5 + 3 + 1, 6, 2 * 3, 0),
    "bigm": (2 + 5 + 2 * 3 + 1, 6, 3 * 3, 3),
}


@each
def test_sizes(formulation: Formulation) -> None:
    """The numbers of variables and rows are those of the docstring; each formulation has an entry here."""
    network = Network.from_arrays(
        [
            ([[1.0, 1.0], [1.0, -1.0], [0.0, 1.0]], [0.0, 0.0, 5.0]),  # unstable, unstable, active
            ([[1.0, -1.0, 0.0], [-1.0, -1.0, 0.0]], [0.0, -1.0]),  # unstable, inactive
            ([[1.0, 1.0]], [0.0]),
        ]
    )
    region = Interval(-np.ones(2), np.ones(2))
    program = formulation.build(network, region, propagate(network, region)[0], Weighted(np.ones(1)))
    equations = sum(block.size for block in program.rows.values() if block.cone is Cone.ZERO)
    found = program.n_variables, equations, program.n_rows - equations, int(program.integer.sum())
    assert found == SIZES[formulation.name]
    assert program.name == formulation.name


def test_columns_and_rows_by_name() -> None:
    """The blocks of a program are those that the encoder documents, in order."""
    network = Network(
        (
            Relu(np.array([True, False])),
            Affine([[1.0, 1.0], [0.0, 1.0]], np.zeros(2), slack=np.array([0.0, 0.5])),
            Affine([[1.0, -1.0]], np.zeros(1)),
            Relu(np.array([True])),
            Relu(np.array([True])),
        )
    )
    region = Interval(-np.ones(2), np.ones(2))
    program = FORMULATIONS["bigm"].build(network, region, propagate(network, region)[0], Largest((0,)))
    assert list(program.variables) == [
        "x",
        "z[0]",
        "a[0]",
        "t[0]",
        "h[0]",
        "z[1]",
        "a[1]",
        "t[1]",
        "z[2]",
        "a[2]",
        "t",
        "tau",
    ]
    assert list(program.rows) == [
        *("copy[0]", "above[0]", "active[0]", "inactive[0]", "affine[0]", "affine[0]+", "affine[0]-", "affine[1]"),
        *("above[1]", "active[1]", "inactive[1]", "copy[4]", "copy[5]", "largest"),
    ]


END = st.floats(min_value=5e-324, max_value=1.7976931348623157e308)


@settings(max_examples=500, deadline=None)
@given(END, END)
def test_chord_is_above_the_relu_exactly(below_zero: float, above_zero: float) -> None:
    """For all floats l < 0 < u, subnormal or near overflow: s l + q >= 0 and s u + q >= u, in rationals."""
    slope, offset = (float(v[0]) for v in chord(np.array([-below_zero]), np.array([above_zero])))
    assert np.isfinite(slope)
    if np.isfinite(offset):
        s, q, low, high = map(Fraction, (slope, offset, -below_zero, above_zero))
        assert s * low + q >= 0
        assert s * high + q >= high
        best = -high * low / (high - low)
        # And it is the best chord but for rounding, unless s is subnormal or u - l overflows.
        rough = s < Fraction(2) ** -1022 or high - low > Fraction(2) ** 1023
        assert rough or q <= best + high / 2**50 + Fraction(2) ** -998


@pytest.mark.parametrize("seed", range(10))
def test_chord_of_ordinary_bounds_exactly(seed: int) -> None:
    """The same for l and u of like size, where rounding of either end may decide."""
    rng = np.random.default_rng(seed)
    low, high = -rng.uniform(0, 1, 500), rng.uniform(0, 1, 500)
    rows = np.stack([*chord(low, high), low, high]).T.tolist()
    for s, q, a, b in (map(Fraction, row) for row in rows):
        assert s * a + q >= 0
        assert s * b + q >= b


def test_chord_of_infinite_bounds_is_dropped() -> None:
    """Without finite bounds there is no chord; what is returned is not finite and the row is left out."""
    slope, offset = chord(np.array([-np.inf, -1.0, -np.inf]), np.array([1.0, np.inf, np.inf]))
    assert not (np.isfinite(slope) & np.isfinite(offset)).any()


@each
def test_overflowing_networks_are_sound(formulation: Formulation) -> None:
    """Where interval arithmetic overflows the program still holds every trace, and proves what it can."""
    network = Network.from_arrays(
        [([[1e200], [-1e200]], [0.0, 1.0]), ([[1e200, 1e200], [1.0, -1e-200]], [0.0, 0.0]), ([[1.0, 1.0]], [0.0])]
    )
    region = Interval(np.array([-1.0]), np.array([1.0]))
    bounds, _ = propagate(network, region)
    program = formulation.build(network, region, bounds, Weighted(np.ones(1)))
    for x in (-1, 0, Fraction(1, 3), 1):
        values = oracle.trace(oracle.read(network), [Fraction(x)])
        assert broken(program, fill(program, network, bounds, values)) == []
    solution = solvers.get(HIGHS).solve(program, time_limit=5.0)
    exact = exact_minimum(oracle.read(network), region, Weighted(np.ones(1)))
    for dual in (solution.dual, np.ones(program.n_rows), None):
        assert below(safe_bound(program, dual), exact)


@each
def test_slack_that_overflows_drops_its_row_only(formulation: Formulation) -> None:
    """Of two rows with slack the first overflows: it says nothing, the second still holds the output down."""
    layer = Affine([[1e300], [1.0]], np.zeros(2), slack=np.array([1e10, 0.5]))
    network, region = Network((layer,)), Interval(np.array([-1.0]), np.array([1.0]))
    program = formulation.build(network, region, Bounds(()), Weighted(np.array([0.0, 1.0])))
    assert broken(program, [Fraction(1), Fraction(10) ** 309, Fraction(3, 2)]) == []
    assert broken(program, [Fraction(1), Fraction(0), Fraction(2)]) != []
    found = read_multipliers(network, program, np.arange(1.0, program.n_rows + 1))
    assert found is not None
    assert found.g[0].shape == (2,)


@each
def test_a_network_without_neurons_is_encoded_exactly(formulation: Formulation) -> None:
    """A purely affine network is a linear program whose optimum is its minimum."""
    network = Network((Affine([[1.0, -2.0]], np.array([0.5])),))
    region = Interval(np.array([0.0, 0.0]), np.array([1.0, 1.0]))
    program = formulation.build(network, region, Bounds(()), Weighted(np.ones(1)))
    solution = solvers.get(HIGHS).solve(program)
    assert solution.objective == pytest.approx(-1.5)
    assert safe_bound(program, solution.dual) <= -1.5


@each
def test_bounds_may_cover_the_first_layers_only(formulation: Formulation) -> None:
    """Relu layers beyond the given bounds are bounded by interval arithmetic."""
    network = Network.from_arrays([([[1.0]], [0.0]), ([[1.0]], [-0.5]), ([[1.0]], [0.0])])
    region = Interval(np.array([-1.0]), np.array([1.0]))
    full = propagate(network, region)[0]
    part = formulation.build(network, region, Bounds(full.layers[:1]), Weighted(np.ones(1)))
    whole = formulation.build(network, region, full, Weighted(np.ones(1)))
    assert (part.lower == whole.lower).all()
    assert (part.upper == whole.upper).all()


TINY_NET = Network.from_arrays([([[1.0, 1.0], [1.0, -1.0]], [0.0, 0.0]), ([[1.0, 1.0], [1.0, 0.0]], [0.0, 1.0])])
TINY_BOX = Interval(-np.ones(2), np.ones(2))


@each
@pytest.mark.parametrize(
    ("region", "objective", "error", "text"),
    [
        (Interval(np.zeros(3), np.ones(3)), Weighted(np.ones(2)), ShapeError, "region"),
        (Interval(np.ones(2), np.zeros(2)), Weighted(np.ones(2)), InputError, "empty"),
        (TINY_BOX, Weighted(np.ones(3)), ShapeError, "3 coefficients"),
        (TINY_BOX, Weighted(np.array([1.0, np.nan])), InputError, "not finite"),
        (TINY_BOX, Weighted(np.ones(2), np.inf), InputError, "c0"),
        (TINY_BOX, Largest(()), ShapeError, "group"),
        (TINY_BOX, Largest((0, 0)), ShapeError, "group"),
        (TINY_BOX, Largest((2,)), ShapeError, "group"),
        (TINY_BOX, Largest((-1,)), ShapeError, "group"),
    ],
)
def test_unusable_arguments_are_named(
    formulation: Formulation, region: Interval, objective: Objective, error: type[Exception], text: str
) -> None:
    """Sizes that disagree, empty regions and coefficients that are no numbers raise errors that say so."""
    bounds = propagate(TINY_NET, TINY_BOX)[0]
    with pytest.raises(error, match=text):
        formulation.build(TINY_NET, region, bounds, objective)


@each
def test_unusable_bounds_are_named(formulation: Formulation) -> None:
    """Bounds of another shape, or that leave no point."""
    good = propagate(TINY_NET, TINY_BOX)[0].layers[0]
    with pytest.raises(ShapeError, match="bounds of shape"):
        formulation.build(TINY_NET, TINY_BOX, Bounds((Interval(np.zeros(3), np.ones(3)),)), Weighted(np.ones(2)))
    with pytest.raises(InputError, match="empty"):
        formulation.build(TINY_NET, TINY_BOX, Bounds((Interval(good.upper + 1, good.lower),)), Weighted(np.ones(2)))


@each
@settings(max_examples=30, deadline=None)
@given(st.data())
def test_reading_garbage_never_raises(formulation: Formulation, data: st.DataObject) -> None:
    """Duals and points of wrong size or full of NaN become None or finite numbers within the region."""
    program = formulation.build(TINY_NET, TINY_BOX, propagate(TINY_NET, TINY_BOX)[0], Largest((0, 1)))
    dual = data.draw(duals(program.n_rows))
    found = read_multipliers(TINY_NET, program, dual)
    assert (found is None) == (dual is None or dual.shape != (program.n_rows,))
    if found is not None:
        assert [g.shape for g in found.g] == [(2,), (2,)]
        assert all(np.isfinite(g).all() for g in (*found.g, found.mu))
        assert found.mu.shape == (2,)
        assert (found.mu >= 0).all()
    x = read_input(program, data.draw(duals(program.n_variables)))
    assert x is None or ((x >= TINY_BOX.lower).all() and (x <= TINY_BOX.upper).all())


@quick
@given(st.data())
def test_loose_error_covers_every_choice(data: st.DataObject) -> None:
    """|W'a + b' - W a - b| <= E for coefficients anywhere within their slack, exactly."""
    network = data.draw(networks(scaled=True, slack=True, absolute=True))
    layer = network.layers[0]
    assume(isinstance(layer, Affine) and layer.loose.any())
    assert isinstance(layer, Affine)
    region = data.draw(boxes(network.n_inputs, huge=True))
    x = data.draw(points(region))
    alone = Network((layer,))
    plain, moved = (oracle.trace(oracle.read(alone, seed), x)[-1] for seed in (None, data.draw(st.integers(0, 9))))
    error = [Fraction(e) for e in loose_error(layer, region).tolist()]
    assert all(abs(p - q) <= e for p, q, e in zip(plain, moved, error, strict=True))


@each
@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-16, 3e-16, 1e-10, 0.3]))
def test_slack_rows_hold_at_the_extremes(formulation: Formulation, seed: int, slack: float) -> None:
    """One row whose coefficients are all at the end of their slack, at a corner of the box: rounding decides."""
    rng = np.random.default_rng(seed)
    weight, bias, x = rng.normal(size=(1, 1)), rng.normal(size=1), np.array([rng.choice([-1.0, 1.0])])
    network = Network((Affine(weight, bias, slack=np.array([slack])),))
    program = formulation.build(network, Interval(-np.ones(1), np.ones(1)), Bounds(()), Weighted(np.ones(1)))
    for sign in (1, -1):
        # sign chooses the upper or the lower end of each product's interval.
        terms = Fraction(weight[0, 0] * x[0]), Fraction(bias[0])
        t = sum((v + sign * Fraction(slack) * abs(v) for v in terms), Fraction(0))
        assert broken(program, [Fraction(x[0]), t]) == []


def test_the_registry_is_covered() -> None:
    """Names agree with keys, each has a size here, and an unknown name is answered with the known ones."""
    assert set(SIZES) == set(FORMULATIONS)
    for name, entry in FORMULATIONS.items():
        assert (entry.name, formulations.get(name)) == (name, entry)
        assert entry.summary
        assert "References" in (entry.build.__doc__ or "")
    with pytest.raises(InputError, match="triangle"):
        formulations.get("pentagon")
