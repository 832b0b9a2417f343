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

Exact = np.ndarray[Any, np.dtype[np.object_]]

N_INPUTS = 3
QUARTERS = st.integers(-12, 12).map(lambda n: n / 4)


def fractions(values: Any) -> Exact:
    """Return an array of rationals."""
    array = np.asarray(values, np.float64)
    return np.array([Fraction(v) for v in array.ravel()], object).reshape(array.shape)


def relu(values: Exact) -> Exact:
    """Rectify rationals."""
    return np.maximum(values, Fraction(0))


@dataclass
class Operands:
    """What a random verb is applied to: two tensors with their values, and numbers."""

    build: Builder
    a: Any
    x: Exact
    b: Any
    y: Exact
    c: Any
    numbers: Callable[..., Any]

    @property
    def k(self) -> Exact:
        """The numbers as rationals."""
        return fractions(self.c)


class Program:
    """A random program, built twice: as coordinates, and as rationals at one point."""

    def __init__(self, draw: Callable[[Any], Any]) -> None:
        self.draw = draw
        self.builder = Builder(N_INPUTS)
        self.point = draw(st.lists(QUARTERS, min_size=N_INPUTS, max_size=N_INPUTS))
        self.tensors = [(self.builder.inputs, fractions(self.point))]

    def pick(self) -> tuple[Any, Exact]:
        """Choose a tensor that exists, and three entries of it with repetitions."""
        ids, values = self.draw(st.sampled_from(self.tensors))
        order = self.draw(st.lists(st.integers(0, ids.size - 1), min_size=N_INPUTS, max_size=N_INPUTS))
        return ids[order], values[order]

    def numbers(self, *shape: int) -> Any:
        """Choose small dyadic numbers."""
        size = int(np.prod(shape))
        return np.array(self.draw(st.lists(QUARTERS, min_size=size, max_size=size))).reshape(shape)

    def extend(self) -> None:
        """Apply one random verb."""
        operands = Operands(self.builder, *self.pick(), *self.pick(), self.numbers(N_INPUTS), self.numbers)
        self.tensors.append(VERBS[self.draw(st.sampled_from(sorted(VERBS)))](operands))


def affine(o: Operands, stored: Callable[[Any], Any], bias: Any) -> tuple[Any, Exact]:
    """Apply a dense or sparse product, with or without bias."""
    weight = o.numbers(2, 2 * N_INPUTS)
    ids = o.build.affine(stored(weight), np.concatenate([o.a, o.b]), bias)
    return ids, fractions(weight) @ np.concatenate([o.x, o.y]) + (0 if bias is None else fractions(bias))


def constant(o: Operands) -> tuple[Any, Exact]:
    """Mix in constants and the coordinate that is zero."""
    ids = np.concatenate([o.a, o.build.constant(o.c), [ZERO]])
    return ids, np.concatenate([o.x, o.k, fractions([0.0])])


BIAS = np.array([0.5, -1.0])
DIVISORS = np.array([0.5, -2.0, 1.0])
TWO = np.full(N_INPUTS, 2.0)

VERBS: dict[str, Callable[[Operands], tuple[Any, Exact]]] = {
    "dense": lambda o: affine(o, np.asarray, BIAS),
    "dense product": lambda o: affine(o, np.asarray, None),
    "sparse": lambda o: affine(o, sp.csr_array, BIAS),
    "sparse product": lambda o: affine(o, sp.csr_array, None),
    "constant": constant,
    "relu": lambda o: (o.build.relu(o.a), relu(o.x)),
    "concat": lambda o: (np.concatenate([o.a, o.b]), np.concatenate([o.x, o.y])),
    "add": lambda o: (o.build.add([o.a, o.b, o.a]), o.x + o.y + o.x),
    "add with bias": lambda o: (o.build.add([o.a, o.b], bias=o.c), o.x + o.y + o.k),
    "subtract": lambda o: (o.build.add([o.a, o.b], [1.0, -1.0]), o.x - o.y),
    "shift": lambda o: (o.build.shift(o.a, o.c), o.x + o.k),
    "from constant": lambda o: (o.build.shift(o.a, o.c, sign=-1.0), o.k - o.x),
    "scale": lambda o: (o.build.scale(o.a, o.c), o.x * o.k),
    "divide": lambda o: (o.build.divide(o.a, DIVISORS), o.x / fractions(DIVISORS)),
    "mean": lambda o: (o.build.mean(np.stack([o.a, o.b], axis=-1), 2 * TWO), (o.x + o.y) / 4),
    "negative": lambda o: (o.build.negative(o.a), -o.x),
    "absolute": lambda o: (o.build.absolute(o.a), abs(o.x)),
    "maximum": lambda o: (o.build.maximum(o.a, o.b), np.maximum(o.x, o.y)),
    "minimum": lambda o: (o.build.minimum(o.a, o.b), np.minimum(o.x, o.y)),
    "at least": lambda o: (o.build.at_least(o.a, o.c), np.maximum(o.x, o.k)),
    "at most": lambda o: (o.build.at_most(o.a, o.c), np.minimum(o.x, o.k)),
    "clip": lambda o: (o.build.clip(o.a, -0.75, o.c), np.minimum(np.maximum(o.x, Fraction(-3, 4)), o.k)),
    "leaky": lambda o: (o.build.leaky(o.a, o.c), relu(o.x) - o.k * relu(-o.x)),
    "round": lambda o: (o.build.round(o.a), o.x),
}


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_program_equals_its_exact_meaning(data: st.DataObject) -> None:
    """Whatever is built, in whatever order and with whatever repetitions, the network computes exactly that."""
    program = Program(data.draw)
    for _ in range(data.draw(st.integers(1, 8))):
        program.extend()
    ids, expected = program.tensors[-1]
    first_ids, first = program.pick()
    network = program.builder.network(np.concatenate([ids, first_ids]))
    assert network.exact([Fraction(v) for v in program.point]) == [*expected, *first]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_program_bounds_its_float_execution(data: st.DataObject) -> None:
    """No row of a network has a coordinate twice with rounding: copies stay apart, so |W| covers each term."""
    program = Program(data.draw)
    for _ in range(data.draw(st.integers(1, 8))):
        program.extend()
    ids, _ = program.tensors[-1]
    for layer in program.builder.network(ids).layers:
        if isinstance(layer, Affine):
            terms = layer.csr.count_nonzero(axis=1)
            several = (terms + (layer.bias != 0)) > 1
            integer = [set(abs(row.data)) <= {0.0, 1.0, 2.0, 3.0, 4.0} for row in layer.csr]
            assert all(layer.roundings[i] > 0 or integer[i] for i in np.flatnonzero(several))


def kinds(network: Network) -> str:
    """Return the layers as a word, A for Affine and R for Relu."""
    return "".join("A" if isinstance(layer, Affine) else "R" for layer in network.layers)


def test_dense_network_is_what_it_is() -> None:
    """A plain network has the layers of its file and nothing else."""
    weight = np.arange(12.0).reshape(4, 3)
    build = Builder(3)
    z = build.shift(build.affine(weight, build.inputs), np.ones(4))
    network = build.network(build.affine(np.ones((1, 4)), build.relu(z), np.zeros(1)))
    assert kinds(network) == "ARA"
    first = network.layers[0]
    assert isinstance(first, Affine)
    assert np.array_equal(first.dense, weight)
    assert first.roundings.tolist() == [4] * 4
    assert not first.slack.any()


def test_product_used_twice_keeps_its_own_rows() -> None:
    """A product whose result is also used without the bias is still there, with its own roundings."""
    build = Builder(2)
    product = build.affine(np.ones((1, 2)), build.inputs)
    network = build.network(np.concatenate([build.shift(product, 3.0), product]))
    (layer,) = network.layers
    assert isinstance(layer, Affine)
    assert layer.bias.tolist() == [3.0, 0.0]
    assert layer.roundings.tolist() == [3, 2]


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
    first, second = network.layers
    assert isinstance(first, Affine)
    assert isinstance(second, Affine)
    assert first.is_sparse
    assert not second.is_sparse


def test_identity_network_is_one_exact_layer() -> None:
    """Outputs that are inputs still make a network."""
    build = Builder(3)
    network = build.network(build.inputs[::-1])
    assert kinds(network) == "A"
    assert network.exact([Fraction(1), Fraction(2), Fraction(3)]) == [3, 2, 1]
    last = build.network(build.relu(build.inputs))
    assert kinds(last) == "R"
    assert isinstance(last.layers[0], Relu)
