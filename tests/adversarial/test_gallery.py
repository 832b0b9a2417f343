"""No trap of the gallery is answered wrongly, over the reals or in float32; a naive verifier falls into them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from optverify.bound import bound
from optverify.deployment import deployed
from optverify.executions import Executor
from optverify.results import Verdict
from optverify.semantics import FLOAT32
from optverify.verify import verify
from tests.adversarial import gallery
from tests.adversarial.gallery import Trap

VERIFIED, FALSIFIED, UNKNOWN = Verdict.VERIFIED, Verdict.FALSIFIED, Verdict.UNKNOWN

TRAPS: dict[str, tuple[Callable[[], Trap], Verdict, Verdict, str]] = {
    # name: generator, the true answer over the reals, what the deployed answer must be, word of its reason or execution
    "precision": (partial(gallery.behind_detector, gallery.PRECISION, 1.0), VERIFIED, FALSIFIED, "left to right"),
    "order 1": (partial(gallery.behind_detector, gallery.ORDER_1, 15.0), VERIFIED, FALSIFIED, "left to right"),
    "order 2": (partial(gallery.behind_detector, gallery.ORDER_2, 2.0), VERIFIED, FALSIFIED, "ascending"),
    "order 3": (partial(gallery.behind_detector, gallery.ORDER_3, 512.0), VERIFIED, FALSIFIED, "ascending"),
    "always active": (gallery.always_active, VERIFIED, FALSIFIED, "left to right"),
    "large-weight trigger": (gallery.large_weight_trigger, FALSIFIED, FALSIFIED, "float32"),
    "flat bias 2^22": (partial(gallery.flat_bias, 2.0**22), VERIFIED, FALSIFIED, "left to right"),
    "flat bias 1e6": (partial(gallery.flat_bias, 1e6), VERIFIED, FALSIFIED, "left to right"),
    "flat bias 1e5": (partial(gallery.flat_bias, 1e5), VERIFIED, UNKNOWN, "within rounding"),
    "flat bias 1": (partial(gallery.flat_bias, 1.0), VERIFIED, VERIFIED, "rigorous bounds"),
    "overflow": (gallery.overflow, VERIFIED, UNKNOWN, "overflow is possible"),
    "underflow": (gallery.underflow, VERIFIED, FALSIFIED, "left to right"),
    "flushed to zero": (gallery.flushed, VERIFIED, FALSIFIED, "flush to zero"),
}


@pytest.mark.parametrize("name", TRAPS)
def test_answers_over_the_reals_and_deployed(name: str) -> None:
    """Both answers are what they must be, and the deployed one says in which execution it fails, or why it is open."""
    make, real, in_float32, word = TRAPS[name]
    trap = make()
    assert verify(trap.network, trap.query).verdict is real
    answer = verify(trap.network, trap.query, semantics="float32")
    assert answer.verdict is in_float32
    assert answer.semantics == "float32"
    assert word in (answer.witness.execution if answer.witness else answer.reason)
    assert (answer.bound is not None) == (in_float32 is VERIFIED)


@pytest.mark.parametrize("name", [name for name, trap in TRAPS.items() if trap[1] is VERIFIED and trap[2] is FALSIFIED])
def test_a_naive_verifier_is_fooled(name: str) -> None:
    """Over the reals HiGHS, taken at its word, or CROWN proves each trap that float32 falls into."""
    trap = TRAPS[name][0]()
    (case,) = trap.query.cases
    (atom,) = case.unsafe
    answer = bound(trap.network, case.region, atom.linear, method="triangle", solver="highs")
    assert (answer.lower if answer.claim is None else answer.claim) > 0


@pytest.mark.parametrize("name", [name for name, trap in TRAPS.items() if trap[2] is FALSIFIED])
def test_witnesses_replay(name: str) -> None:
    """The execution that is named gives the outputs that are shown, at a point of the format, and they are unsafe."""
    trap = TRAPS[name][0]()
    witness = verify(trap.network, trap.query, semantics="float32").witness
    assert witness is not None
    x = np.array([float(v) for v in witness.x])
    assert FLOAT32.holds(x).all()
    assert trap.query.violated_by(witness.x, witness.y) == witness.case == 0
    order = witness.execution.removeprefix("float32, ")
    assert Executor(deployed(trap.network, FLOAT32))(x, order).tolist() == [float(v) for v, _ in witness.y]
