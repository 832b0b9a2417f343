"""The verbs of the builder against exact rational arithmetic, and the shape of what they give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from optverify.errors import InputError
from optverify.io.lowering import Builder
from optverify.io.schedule import ZERO
from optverify.network import Affine, Network, Relu
from tests.io.rounding import deployed

N_INPUTS = 3
QUARTERS = st.integers(-12, 12).map(lambda n: n / 4)
SINGLES = st.floats(-4, 4, width=32, allow_subnormal=False)


def fractions(values: Any) -> Any:
    """Return an array of rationals."""
    array = np.asarray(values, np.float64)
    return np.array([Fraction(v) for v in array.ravel()], object).reshape(array.shape)


def singles(values: Any) -> Any:
    """Return an array of float32, in which all arithmetic rounds."""
    return np.asarray(values, np.float32)


@dataclass
class Operands:
    """What a verb is applied to: two tensors, as coordinates or as values, and some numbers."""

    build: Builder
    a: Any
    b: Any
    c: Any
    weight: Any
    bias: Any
    divisors: Any

    @property
    def both(self) -> Any:
        """The two tensors in one."""
        return np.concatenate([self.a, self.b])


def relu(values: Any) -> Any:
    """Rectify values of any kind."""
    return np.maximum(values, 0 * values)


Side = Callable[[Operands], Any]

# What is said to the builder, and what it means, in whatever arithmetic.
VERBS: dict[str, tuple[Side, Side]] = {
    "dense": (lambda o: o.build.affine(o.weight, o.both, o.bias), lambda o: o.weight @ o.both + o.bias),
    "dense product": (lambda o: o.build.affine(o.weight, o.both), lambda o: o.weight @ o.both),
    "sparse": (
        lambda o: o.build.affine(sp.csr_array(o.weight), o.both, o.bias),
        lambda o: o.weight @ o.both + o.bias,
    ),
    "sparse product": (lambda o: o.build.affine(sp.csr_array(o.weight), o.both), lambda o: o.weight @ o.both),
    "constant": (
        lambda o: np.concatenate([o.a, o.build.constant(o.c), [ZERO]]),
        lambda o: np.concatenate([o.a, o.c, 0 * o.c[:1]]),
    ),
    "relu": (lambda o: o.build.relu(o.a), lambda o: relu(o.a)),
    "concat": (lambda o: o.both, lambda o: o.both),
    "add": (lambda o: o.build.add([o.a, o.b, o.a]), lambda o: o.a + o.b + o.a),
    "add with bias": (lambda o: o.build.add([o.a, o.b], bias=o.c), lambda o: o.c + o.a + o.b),
    "subtract": (lambda o: o.build.add([o.a, o.b], [1.0, -1.0]), lambda o: o.a - o.b),
    "shift": (lambda o: o.build.shift(o.a, o.c), lambda o: o.a + o.c),
    "from constant": (lambda o: o.build.shift(o.a, o.c, sign=-1.0), lambda o: o.c - o.a),
    "scale": (lambda o: o.build.scale(o.a, o.c), lambda o: o.a * o.c),
    "divide": (lambda o: o.build.divide(o.a, o.divisors), lambda o: o.a / o.divisors),
    "mean": (
        lambda o: o.build.mean(np.stack([o.a, o.b, o.a, o.b], axis=-1)),
        lambda o: (o.a + o.b + o.a + o.b) / o.divisors[0],
    ),
    "negative": (lambda o: o.build.negative(o.a), lambda o: -o.a),
    "absolute": (lambda o: o.build.absolute(o.a), lambda o: abs(o.a)),
    "maximum": (lambda o: o.build.maximum(o.a, o.b), lambda o: np.maximum(o.a, o.b)),
    "minimum": (lambda o: o.build.minimum(o.a, o.b), lambda o: np.minimum(o.a, o.b)),
    "at least": (lambda o: o.build.at_least(o.a, o.c), lambda o: np.maximum(o.a, o.c)),
    "at most": (lambda o: o.build.at_most(o.a, o.c), lambda o: np.minimum(o.a, o.c)),
    "clip": (lambda o: o.build.clip(o.a, o.bias[0], o.c), lambda o: np.minimum(np.maximum(o.a, o.bias[0]), o.c)),
    "leaky": (lambda o: o.build.leaky(o.a, o.c), lambda o: relu(o.a) - o.c * relu(-o.a)),
    "round": (lambda o: o.build.round(o.a), lambda o: o.a),
}


class Program:
    """A random program, built as coordinates, and evaluated exactly and in float32 at one point."""

    def __init__(self, draw: Callable[[Any], Any], numbers: Any) -> None:
        self.draw, self.numbers = draw, numbers
        self.builder = Builder(N_INPUTS)
        self.point = self.several(SINGLES, N_INPUTS)
        self.tensors = [(self.builder.inputs, fractions(self.point), singles(self.point))]
        for _ in range(draw(st.integers(1, 8))):
            self.extend()

    def several(self, numbers: Any, *shape: int) -> Any:
        """Choose an array of numbers."""
        size = int(np.prod(shape))
        return np.array(self.draw(st.lists(numbers, min_size=size, max_size=size))).reshape(shape)

    def pick(self) -> list[Any]:
        """Choose a tensor that exists, and three entries of it with repetitions."""
        tensor = self.draw(st.sampled_from(self.tensors))
        order = self.several(st.integers(0, len(tensor[0]) - 1), N_INPUTS)
        return [side[order] for side in tensor]

    def extend(self) -> None:
        """Apply one random verb."""
        say, mean = VERBS[self.draw(st.sampled_from(sorted(VERBS)))]
        numbers = [self.several(self.numbers, *shape) for shape in ((N_INPUTS,), (2, 2 * N_INPUTS), (2,))]
        numbers.append(np.array([4.0, -2.0, 1.0]))
        (a, x, u), (b, y, v) = self.pick(), self.pick()
        self.tensors.append(
            (
                say(Operands(self.builder, a, b, *numbers)),
                mean(Operands(self.builder, x, y, *map(fractions, numbers))),
                mean(Operands(self.builder, u, v, *map(singles, numbers))),
            )
        )


@settings(max_examples=300, deadline=None)
@given(st.data(), st.sampled_from([QUARTERS, SINGLES]))
def test_any_program_equals_its_exact_meaning(data: st.DataObject, numbers: Any) -> None:
    """Whatever is built, in whatever order and with whatever repetitions, the network computes exactly that."""
    program = Program(data.draw, numbers)
    (ids, expected, _), (more_ids, more, _) = program.tensors[-1], program.pick()
    network = program.builder.network(np.concatenate([ids, more_ids]))
    assert network.exact([Fraction(v) for v in program.point]) == [*expected, *more]


@settings(max_examples=300, deadline=None)
@given(st.data(), st.sampled_from([QUARTERS, SINGLES, st.integers(-3, 3).map(float)]))
def test_any_program_bounds_its_float_execution(data: st.DataObject, numbers: Any) -> None:
    """Where the program rounds in float32, the counted roundings of the network allow for it."""
    program = Program(data.draw, numbers)
    ids, _, measured = program.tensors[-1]
    value, error = deployed(program.builder.network(ids), program.point)
    assert (np.abs(measured.astype(np.float64) - value) <= error).all()


def kinds(network: Network) -> str:
    """Return the layers as a word, A for Affine and R for Relu."""
    return "".join("A" if isinstance(layer, Affine) else "R" for layer in network.layers)


def first(network: Network) -> Affine:
    """Return the first layer."""
    layer = network.layers[0]
    assert isinstance(layer, Affine)
    return layer


def test_dense_network_is_what_it_is() -> None:
    """A plain network has the layers of its file and nothing else."""
    weight = np.arange(12.0).reshape(4, 3)
    build = Builder(3)
    z = build.shift(build.affine(weight, build.inputs), np.ones(4))
    network = build.network(build.affine(np.ones((1, 4)), build.relu(z), np.zeros(1)))
    assert kinds(network) == "ARA"
    assert np.array_equal(first(network).dense, weight)
    assert first(network).roundings.tolist() == [4] * 4
    assert not first(network).slack.any()


def test_product_used_twice_keeps_its_own_rows() -> None:
    """A product whose result is also used without the bias is still there, with its own roundings."""
    build = Builder(2)
    product = build.affine(np.ones((1, 2)), build.inputs)
    network = build.network(np.concatenate([build.shift(product, 3.0), product]))
    assert kinds(network) == "A"
    assert first(network).bias.tolist() == [3.0, 0.0]
    assert first(network).roundings.tolist() == [3, 2]


def test_parallel_branches_share_layers() -> None:
    """Two branches of the same depth do not make the network deeper than one."""
    build = Builder(2)
    ends = []
    for _ in range(2):
        z = build.relu(build.affine(np.eye(2), build.inputs, np.ones(2)))
        ends.append(build.relu(build.affine(np.eye(2), z, np.ones(2))))
    network = build.network(build.add(ends))
    assert kinds(network) == "ARARA"
    assert network.sizes == (2, 4, 4, 4, 4, 2)


def test_relu_of_input_and_input_itself() -> None:
    """A rectified input that is also used as it is gets copied by one exact layer."""
    build = Builder(2)
    network = build.network(np.concatenate([build.relu(build.inputs), build.inputs]))
    assert kinds(network)[:2] == "AR"
    assert network.exact([Fraction(-1), Fraction(2)]) == [0, 2, -1, 2]
    assert all(not layer.roundings.any() for layer in network.layers if isinstance(layer, Affine))


def test_rounded_rows_are_never_written_twice() -> None:
    """A rounded value needed both rectified and raw is computed once and then copied exactly."""
    build = Builder(2)
    z = build.affine(np.array([[1.0, 2.0]]), build.inputs, np.ones(1))
    network = build.network(build.absolute(z))
    affine_layers = [layer for layer in network.layers if isinstance(layer, Affine)]
    assert kinds(network) == "AARA"
    assert affine_layers[0].shape == (1, 2)
    assert affine_layers[1].roundings.tolist() == [0, 0]


def test_sums_count_their_additions() -> None:
    """Each tensor after the first costs a rounding, and so does the constant; padding costs none."""
    build = Builder(3)
    a, b, c = (build.inputs[i : i + 1] for i in range(3))
    assert first(build.network(build.add([a, b, c]))).roundings.tolist() == [2]
    assert first(build.network(build.add([a, b, c], bias=[1.0]))).roundings.tolist() == [3]
    assert first(build.network(build.add([a, np.array([ZERO])]))).roundings.tolist() == [0]


def test_rounded_rows_are_never_inserted() -> None:
    """Also where it would be exact over the reals, a step keeps its own layer and its roundings."""
    build = Builder(2)
    steps = build.affine(np.array([[1.0, 2.0], [3.0, -1.0]]), build.inputs)
    network = build.network(build.maximum(steps[:1], steps[1:]))
    assert kinds(network) == "AARA"
    assert first(network).roundings.tolist() == [2, 2]


def test_relu_is_idempotent_and_shared() -> None:
    """Rectifying twice, or the same value in two places, makes one neuron."""
    build = Builder(1)
    first, second = build.relu(build.inputs), build.relu(build.inputs)
    assert np.array_equal(first, second)
    assert np.array_equal(build.relu(first), first)
    assert build.network(build.add([first, second])).n_neurons == 1


def test_dead_coordinates_are_dropped() -> None:
    """What no output needs is not in the network, and leaves no trace in later layers."""
    build = Builder(3)
    build.relu(build.affine(np.ones((50, 3)), build.inputs))
    kept = build.relu(build.affine(np.ones((5, 3)), build.inputs))
    network = build.network(build.affine(np.ones((1, 2)), kept[1:3]))
    assert network.sizes == (3, 2, 2, 1)


def test_dead_entries_of_an_elementwise_step_are_dropped() -> None:
    """Such a step reads just the coordinates of its live rows, as a matrix with one entry in each row would."""
    build = Builder(3)
    before = build.relu(build.affine(np.ones((50, 3)), build.inputs, np.zeros(50)))
    scaled = build.relu(build.elementwise(np.arange(2.0, 52.0), before, 1.0, roundings=2))
    network = build.network(scaled[[7, 3]])
    assert network.sizes == (3, 2, 2, 2, 2, 2)
    assert [layer.roundings.tolist() for layer in network.layers if isinstance(layer, Affine)][1] == [2, 2]
    assert network.exact([Fraction(1), Fraction(2), Fraction(3)]) == [9 * 6 + 1, 5 * 6 + 1]


def test_a_product_by_entry_that_is_shifted_twice_keeps_both() -> None:
    """The same row may be written with several biases; each counts the rounding of its own."""
    build = Builder(2)
    product = build.scale(build.inputs, [3.0, 5.0])
    network = build.network(build.shift(product[[1, 0, 1]], [1.0, 2.0, 4.0]))
    assert first(network).dense.tolist() == [[0.0, 5.0], [3.0, 0.0], [0.0, 5.0]]
    assert first(network).bias.tolist() == [1.0, 2.0, 4.0]
    assert first(network).roundings.tolist() == [2, 2, 2]


def test_an_elementwise_step_of_repeated_and_absent_coordinates() -> None:
    """A coordinate may come twice, and the one that is always zero leaves the bias alone."""
    build = Builder(2)
    ids = np.array([0, ZERO, 1, 0])
    network = build.network(build.elementwise([2.0, 3.0, 0.0, -1.0], ids, [1.0, 2.0, 3.0, 4.0], roundings=2))
    assert network.exact([Fraction(1, 3), Fraction(7)]) == [Fraction(5, 3), 2, 3, Fraction(11, 3)]


def test_dead_rows_do_not_delay_live_ones() -> None:
    """A tensor's entries may be ready at different times; only those that are used count."""
    build = Builder(2)
    early, late = build.inputs[:1], build.absolute(build.relu(build.affine(np.eye(2), build.inputs))[:1])
    late = build.absolute(build.shift(late, -1.0))
    both = build.absolute(np.concatenate([build.negative(early), late]))
    network = build.network(build.absolute(build.shift(both[:1], -2.0)))
    assert len(network.relus) == 2
    assert network.exact([Fraction(-7), Fraction(3)]) == [5]


def test_tournament_needs_one_affine_layer_a_round() -> None:
    """The sum that ends a round of maxima and the difference that starts the next share a layer."""
    build = Builder(4)
    a, b, c, d = (build.inputs[i : i + 1] for i in range(4))
    network = build.network(build.maximum(build.maximum(a, b), build.maximum(c, d)))
    assert kinds(network) == "ARARA"
    assert network.n_neurons == 3
    assert all(not layer.roundings.any() for layer in network.layers if isinstance(layer, Affine))


def test_inexact_constants_keep_their_own_layer() -> None:
    """Where two exact rows cannot be added up without rounding they are not merged, and stay exact."""
    build = Builder(1)
    inner = build.at_least(build.inputs, 0.1)
    network = build.network(build.at_most(inner, 1e20))
    assert network.exact([Fraction(5)]) == [Fraction(5)]
    assert network.exact([Fraction(-5)]) == [Fraction(0.1)]


@pytest.mark.parametrize("slope", [0.01, float(np.float32(0.01)), 1 / 3, -0.2, 1.7])
def test_leaky_is_exact_for_every_slope(slope: float) -> None:
    """1 - slope need not be a float: then there are two rows, and still no slack."""
    build = Builder(1)
    network = build.network(build.leaky(build.inputs, slope))
    assert not network.has_slack
    assert network.exact([Fraction(-3)]) == [-3 * Fraction(slope)]
    assert network.exact([Fraction(3)]) == [3]


@pytest.mark.parametrize("divisor", [3.0, 0.7, -1e-30, 8.0])
def test_division_encloses_the_quotient(divisor: float) -> None:
    """The enclosure holds x / c, and is a point where 1 / c is a float."""
    build = Builder(1)
    network = build.network(build.divide(build.inputs, divisor))
    ((low, high),) = network.enclose([Fraction(5)])
    assert low <= Fraction(5) / Fraction(divisor) <= high
    assert (low == high) == (divisor == 8.0)


@pytest.mark.parametrize("divisor", [0.0, np.inf, np.nan, 5e-324])
def test_division_without_result_is_refused(divisor: float) -> None:
    """Zero, infinity, NaN and divisors whose reciprocal overflows are input errors."""
    build = Builder(1)
    with pytest.raises(InputError, match="division by"):
        build.divide(build.inputs, divisor)


def test_mean_of_three_has_slack_and_of_four_has_none() -> None:
    """1/3 is no float, 1/4 is."""
    build = Builder(4)
    third = build.network(build.mean(build.inputs[:3]))
    fourth = build.network(build.mean(build.inputs))
    ((low, high),) = third.enclose([Fraction(1), Fraction(1), Fraction(2), Fraction(0)])
    assert low <= Fraction(4, 3) <= high
    assert third.has_slack
    assert not fourth.has_slack


@pytest.mark.parametrize("bound", [np.nan, np.inf])
def test_bounds_that_make_no_sense_are_refused(bound: float) -> None:
    """max(x, infinity) and max(x, NaN) are input errors; minus infinity is no bound at all."""
    build = Builder(1)
    with pytest.raises(InputError):
        build.at_least(build.inputs, bound)
    assert np.array_equal(build.at_least(build.inputs, -np.inf), build.inputs)
    assert np.array_equal(build.at_most(build.inputs, np.inf), build.inputs)


def test_layers_are_stored_by_density() -> None:
    """A large sparse step is CSR, a large dense one is an array."""
    build = Builder(200)
    sparse = build.scale(build.inputs, np.full(200, 2.0))
    network = build.network(build.affine(np.ones((100, 200)), sparse))
    assert [layer.is_sparse for layer in network.layers if isinstance(layer, Affine)] == [True, False]


def test_identity_network_is_one_exact_layer() -> None:
    """Outputs that are inputs still make a network."""
    build = Builder(3)
    network = build.network(build.inputs[::-1])
    assert kinds(network) == "A"
    assert network.exact([Fraction(1), Fraction(2), Fraction(3)]) == [3, 2, 1]
    last = build.network(build.relu(build.inputs))
    assert kinds(last) == "R"
    assert isinstance(last.layers[0], Relu)
