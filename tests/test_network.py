"""Networks: shapes, exact evaluation, digests, immutability."""

from __future__ import annotations

from fractions import Fraction

import flint
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from optverify.errors import InputError, ShapeError
from optverify.network import Affine, Network, Relu


def naive(network: Network, x: list[Fraction]) -> list[Fraction]:
    """Evaluate with one Fraction per product, straight from the definition."""
    for layer in network.layers:
        if isinstance(layer, Relu):
            x = [max(v, Fraction(0)) if on else v for v, on in zip(x, layer.mask.tolist(), strict=True)]
        else:
            dense = layer.dense.tolist()
            x = [
                sum((Fraction(w) * v for w, v in zip(row, x, strict=True)), Fraction(b))
                for row, b in zip(dense, layer.bias.tolist(), strict=True)
            ]
    return x


def random_network(seed: int, sparse: bool = False) -> Network:
    """Make a small network with masks and consecutive affine layers."""
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(5, 3)) * (rng.random((5, 3)) < 0.7) * 10.0 ** rng.integers(-8, 9, (5, 3))
    middle = rng.normal(size=(4, 5)).astype(np.float32)
    return Network(
        (
            Affine(sp.csr_array(weight) if sparse else weight, rng.normal(size=5)),
            Relu(rng.random(5) < 0.6),
            Affine(middle, np.zeros(4)),
            Affine(rng.normal(size=(2, 4)), rng.normal(size=2)),
        )
    )


@given(st.integers(0, 10**6), st.booleans(), st.lists(st.fractions(max_denominator=10**6), min_size=3, max_size=3))
def test_exact_evaluation_is_exact(seed: int, sparse: bool, x: list[Fraction]) -> None:
    """Integer arithmetic over a common denominator gives the same rationals as the definition."""
    network = random_network(seed, sparse)
    assert network.exact(x) == naive(network, x)


@given(st.integers(0, 10**6), st.integers(1, 5))
def test_batches_agree_with_single_points(seed: int, count: int) -> None:
    """A batch of inputs gives the rows that the single inputs give, near the exact values."""
    network = random_network(seed)
    points = np.random.default_rng(seed).normal(size=(count, 3))
    batch = network(points)
    assert batch.shape == (count, 2)
    for x, y in zip(points, batch, strict=True):
        size = np.abs(x)
        for layer in network.layers:  # the textbook forward error bound, generously rounded
            size = size if isinstance(layer, Relu) else np.abs(layer.dense) @ size + np.abs(layer.bias)
        for value, exact, scale in zip(y.tolist(), network.exact([Fraction(v) for v in x.tolist()]), size, strict=True):
            assert abs(Fraction(value) - exact) <= Fraction(float(scale)) * Fraction(40, 2**53)


def test_slack_widens_the_exact_enclosure() -> None:
    """With slack, `enclose` contains the values for all coefficients within it, and `exact` refuses."""
    slack = 2.0**-10
    network = Network((Affine([[3.0, -5.0]], [7.0], slack=[slack]), Relu([True]), Affine([[-1.0]], [0.0])))
    x = [Fraction(1, 3), Fraction(-1, 7)]
    ((low, high),) = network.enclose(x)
    middle = -(3 * x[0] - 5 * x[1] + 7)
    error = Fraction(slack) * (3 * abs(x[0]) + 5 * abs(x[1]) + 7)
    assert (low, high) == (middle - error, middle + error)
    with pytest.raises(InputError, match="enclose"):
        network.exact(x)


def test_carrying_the_input_appends_it() -> None:
    """The carried inputs come out unchanged behind the outputs."""
    network = random_network(3)
    x = [Fraction(1, 3), Fraction(-2), Fraction(5, 7)]
    assert network.carrying_input().exact(x) == network.exact(x) + x


def test_digest_depends_on_content_and_not_on_storage() -> None:
    """Dense and CSR storage agree; any changed number, mask, rounding or slack shows."""
    weight, bias = np.array([[1.0, 0.0], [0.5, -2.0]]), np.array([0.0, 1.0])
    dense, sparse = Network((Affine(weight, bias),)), Network((Affine(sp.csr_array(weight), bias),))
    assert dense.digest == sparse.digest
    by_columns = Affine(np.asfortranarray(weight), bias)
    signed = Affine(np.where(weight == 0, -0.0, weight), bias)
    assert dense.digest == Network((by_columns,)).digest == Network((signed,)).digest
    for layer in (*dense.layers, *sparse.layers, by_columns, signed):
        assert isinstance(layer, Affine)
        assert layer.roundings.tolist() == [2, 3]
        assert (layer.exact.columns, layer.exact.weights) == (((0,), (0, 1)), ((2,), (1, -4)))
    others = [
        Network((Affine(np.array([[1.0, 1e-300], [0.5, -2.0]]), bias),)),
        Network((Affine(weight, bias + 1e-9),)),
        Network((Affine(weight, bias, roundings=[0, 0]),)),
        Network((Affine(weight, bias, slack=[0.0, 1e-9]),)),
        Network((Affine(weight, bias), Relu([True, False]))),
        Network((Affine(weight, bias), Relu([True, True]))),
    ]
    assert len({dense.digest, *(network.digest for network in others)}) == 7


def test_networks_cannot_be_changed() -> None:
    """Arrays are copies and read-only; attributes cannot be assigned."""
    weight = np.ones((2, 2))
    layer = Affine(weight, [0.0, 0.0])
    weight[0, 0] = 9.0
    assert layer.weight[0, 0] == 1.0
    with pytest.raises(ValueError, match="read-only"):
        layer.weight[0, 0] = 2.0
    with pytest.raises(ValueError, match="read-only"):
        Affine(sp.csr_array(np.ones((2, 2))), [0.0, 0.0]).weight.data[0] = 2.0
    with pytest.raises(AttributeError):
        layer.bias = np.zeros(2)  # type: ignore[misc]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_and_biases_must_be_finite(bad: float) -> None:
    """NaN and infinities are refused with their place."""
    with pytest.raises(InputError, match="weight entry 1"):
        Affine([[1.0, bad]], [0.0])
    with pytest.raises(InputError, match="weight entry 0"):
        Affine(sp.csr_array(np.array([[0.0, bad]])), [0.0])
    with pytest.raises(InputError, match="bias entry 0"):
        Affine([[1.0, 1.0]], [bad])
    with pytest.raises(InputError, match="slack"):
        Affine([[1.0, 1.0]], [0.0], slack=[bad])


def test_numbers_that_no_float_holds_are_refused() -> None:
    """An integer or fraction is not rounded silently; one that is a float is taken."""
    with pytest.raises(InputError, match="no float64 holds"):
        Affine([[2**53 + 1]], [0])
    with pytest.raises(InputError, match="no float64 holds"):
        Affine([[1.0]], [Fraction(1, 3)])
    assert Affine([[2**53]], [Fraction(1, 4)]).bias[0] == 0.25
    with pytest.raises(ValueError, match="read-only"):
        Affine([[1.0]], [0.0]).csr.data[0] = 7.0


def test_exact_evaluation_agrees_with_flint() -> None:
    """Rational matrices of another library give the same numbers."""
    rng = np.random.default_rng(7)
    network = Network.from_arrays(
        [(rng.normal(size=(4, 3)), rng.normal(size=4)), (rng.normal(size=(2, 4)), rng.normal(size=2))]
    )
    x = [Fraction(1, 3), Fraction(-2, 7), Fraction(5)]

    def rational(v: float | Fraction) -> flint.fmpq:
        f = Fraction(v)
        return flint.fmpq(f.numerator, f.denominator)

    a = flint.fmpq_mat(3, 1, [rational(v) for v in x])
    for layer in network.layers:
        if isinstance(layer, Relu):
            a = flint.fmpq_mat(a.nrows(), 1, [max(v, flint.fmpq(0)) for v in a.entries()])
        else:
            m, n = layer.shape
            weight = flint.fmpq_mat(m, n, [rational(v) for v in layer.dense.ravel().tolist()])
            a = weight * a + flint.fmpq_mat(m, 1, [rational(v) for v in layer.bias.tolist()])
    assert [Fraction(int(v.p), int(v.q)) for v in a.entries()] == network.exact(x)


def test_sizes_must_fit() -> None:
    """Every mismatch is a ShapeError."""
    with pytest.raises(ShapeError):
        Network(())
    with pytest.raises(ShapeError):
        Network((Affine(np.ones((2, 3)), [0, 0]), Affine(np.ones((1, 3)), [0])))
    with pytest.raises(ShapeError):
        Network((Affine(np.ones((2, 3)), [0, 0]),), input_shape=(4,))
    with pytest.raises(ShapeError):
        Affine(np.ones((2, 3)), [0])
    with pytest.raises(ShapeError):
        Affine(np.ones(3), [0])
    with pytest.raises(ShapeError):
        random_network(0)(np.zeros((2, 4)))
    with pytest.raises(ShapeError):
        random_network(0).exact([Fraction(0)])


def test_images_are_flattened() -> None:
    """Inputs of the file's shape are accepted, with and without a batch axis."""
    network = Network((Affine(np.arange(6.0)[None], [0.0]),), input_shape=(1, 2, 3))
    image = np.arange(6.0).reshape(1, 2, 3)
    assert network(image).tolist() == [55.0]
    assert network(image[None]).tolist() == [[55.0]]
    assert network(image.ravel()).tolist() == [55.0]


def test_html_is_escaped() -> None:
    """A name with markup in it shows as text."""
    network = Network((Affine([[1.0]], [0.0]),), name="<script>alert(1)</script>")
    assert "<script>" not in network._repr_html_()
    assert "&lt;script&gt;" in network._repr_html_()
    assert "1 outputs" in repr(network)
