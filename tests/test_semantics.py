"""Formats and their rounding, against numpy, ml_dtypes and integers."""

from __future__ import annotations

import copy
import pickle
from fractions import Fraction

import ml_dtypes  # comes with onnx
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from optverify.errors import InputError
from optverify.semantics import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, REAL, SEMANTICS, Semantics, named
from tests.every_execution import rounded

FORMATS = [FLOAT16, BFLOAT16, FLOAT32, FLOAT64]
KINDS = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float32": np.float32, "float64": np.float64}


@pytest.mark.parametrize("semantics", SEMANTICS.values(), ids=str)
def test_there_is_one_of_each_in_every_process(semantics: Semantics) -> None:
    """What travels to a worker or is copied stays the same object; a format of one's own stays equal."""
    assert pickle.loads(pickle.dumps(semantics)) is semantics
    assert copy.deepcopy(semantics) is semantics
    own = Semantics("tiny", 3, -2, 3)
    assert pickle.loads(pickle.dumps(own)) == own


@pytest.mark.parametrize("semantics", FORMATS, ids=str)
def test_constants_are_those_of_the_format(semantics: Semantics) -> None:
    """Unit roundoff, smallest and largest numbers agree with those of the type."""
    info = ml_dtypes.finfo(KINDS[semantics.name])
    assert semantics.largest == float(info.max)
    assert semantics.normal == float(info.smallest_normal)
    assert semantics.subnormal == float(info.smallest_subnormal)
    assert 2 * semantics.unit == float(info.eps)
    assert named(semantics.name) is semantics


@given(st.sampled_from(FORMATS), st.floats(allow_nan=False, allow_infinity=False))
def test_rounding_is_that_of_integers(semantics: Semantics, x: float) -> None:
    """Any float64 is rounded as exact arithmetic rounds it; beyond the largest number it becomes infinite."""
    exact = rounded(Fraction(x), semantics)
    found = float(semantics.round(x))
    assert found == (np.copysign(np.inf, x) if abs(exact) > semantics.largest else float(exact))
    assert bool(semantics.holds(x)) == (exact == Fraction(x) and abs(x) <= semantics.largest)


@pytest.mark.parametrize("name", ["float16", "float32"])
def test_rounding_is_that_of_numpy(name: str) -> None:
    """On a million random bit patterns, subnormal and halfway ones among them."""
    rng = np.random.default_rng(0)
    narrow, wide = (rng.integers(0, 2**32, 200_000, np.uint32).view(kind) for kind in (np.float16, np.float32))
    with np.errstate(all="ignore"):
        x = np.concatenate([narrow.astype(np.float64), wide.astype(np.float64)])
        x = x[np.isfinite(x)]
        x = np.concatenate([x, x * (1 + 2.0**-11), x * (1 + 2.0**-24), x * 1.000001])
        expected = x.astype(KINDS[name]).astype(np.float64)
    assert np.array_equal(named(name).round(x), expected)


@given(st.sampled_from(FORMATS), st.fractions(), st.fractions(min_value=0, max_value=1), st.integers(0, 40))
@example(FLOAT16, Fraction(1, 2**25), Fraction(1), 12)  # rounds to 0, whose neighbour is the smallest number
def test_a_number_within_an_interval_is_found_if_there_is_one(
    semantics: Semantics, low: Fraction, width: Fraction, scale: int
) -> None:
    """What is found is a number of the format in the interval; where nothing is found, there is none."""
    high = low + width / 2**scale
    x = semantics.within(low, low, high)
    if x is not None:
        assert low <= Fraction(x) <= high
        assert semantics.holds(x)
        return
    below = rounded(low, semantics)
    ulp = max(abs(below) * Fraction(2 * semantics.unit), Fraction(semantics.subnormal))
    candidates = [below + k * ulp / 2 for k in range(-4, 5)]
    assert not [
        c for c in candidates if low <= c <= high and rounded(c, semantics) == c and abs(c) <= semantics.largest
    ]


def test_ends_that_are_no_numbers() -> None:
    """The one float32 between two float64 is found from either side; between two neighbours there is none."""
    one, after = Fraction(1), Fraction(1) + Fraction(1, 2**23)
    tiny = Fraction(1, 2**60)
    assert FLOAT32.within(after - tiny, after - tiny, after + tiny) == float(after)
    assert FLOAT32.within(one + tiny, one + tiny, after - tiny) is None
    assert FLOAT32.within(one - tiny, one - Fraction(1, 2**24), one - tiny) == 1 - 2.0**-24
    assert FLOAT16.within(Fraction(10**6), Fraction(0), Fraction(10**6)) == 65504.0
    assert FLOAT16.within(Fraction(10**6), Fraction(10**5), Fraction(10**6)) is None


def test_names() -> None:
    """The reals are the default; another name is an error that lists those that there are."""
    assert named("real") is REAL
    assert REAL.unit == 0.0
    assert list(SEMANTICS) == ["real", "float16", "bfloat16", "float32", "float64"]
    with pytest.raises(InputError, match=r"float8.*choose from real"):
        named("float8")


@pytest.mark.parametrize("semantics", SEMANTICS.values(), ids=str)
def test_there_is_one_object_of_each(semantics: Semantics) -> None:
    """In a copy, and in what another process is sent, too: all code asks which it is."""
    assert pickle.loads(pickle.dumps(semantics)) is semantics
    assert copy.deepcopy(semantics) is semantics
