"""`verify` and `bound` against exact optima of tiny networks, and their behaviour at the edges."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from optverify import Box, Network, Query, Verdict, bound, inputs, outputs, verify
from optverify.errors import InputError, ShapeError
from optverify.network import Affine, Relu
from optverify.search.branching import Hybrid
from optverify.search.methods import METHODS
from optverify.search.tree import Progress
from optverify.witness import Replay
from tests import oracle
from tests.strategies import boxes, networks


def exact_box(box: object) -> Box:
    """Return a float box as an exact one."""
    return Box(tuple(box.lower.tolist()), tuple(box.upper.tolist()))  # type: ignore[attr-defined]


@settings(
    max_examples=150, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate]
)  # searches are slow to shrink
@given(st.data())
def test_verdicts_agree_with_the_exact_optimum(data: st.DataObject) -> None:
    """VERIFIED only if the unsafe set is empty, FALSIFIED only if not; decided where the margin is not tiny."""
    network = data.draw(networks(odd=data.draw(st.booleans()), scaled=data.draw(st.booleans())))
    box = exact_box(data.draw(boxes(network.n_inputs)))
    group = list(range(network.n_outputs))
    least = oracle.minimum_of_largest(oracle.read(network), box.lower, box.upper, group)
    margin = data.draw(st.sampled_from([Fraction(1), Fraction(1, 1000), Fraction(0), Fraction(-1, 1000), Fraction(-1)]))
    margin *= max(abs(least), Fraction(1))
    y = outputs(network.n_outputs)
    unsafe = y[0] <= least - margin
    for row in y[1:]:
        unsafe = unsafe & (row <= least - margin)
    strategy = data.draw(st.sampled_from([Hybrid(), Hybrid(few_inputs=0), Hybrid(few_neurons=0)]))
    answer = verify(network, Query.never(box, unsafe, network.n_outputs), strategy=strategy, time_limit=10)
    if margin > 0:
        assert answer.verdict is Verdict.VERIFIED
        assert answer.bound is not None
        assert 0 < Fraction(answer.bound) <= margin
        assert answer.closed == 1.0
    elif margin < 0:
        assert answer.verdict is Verdict.FALSIFIED
    else:
        assert answer.verdict is not Verdict.VERIFIED
    if answer.verdict is Verdict.FALSIFIED:
        assert answer.witness is not None
        x = list(answer.witness.x)
        assert box.contains(x)
        assert all(v <= least - margin for v in oracle.trace(oracle.read(network), x)[-1])


@settings(max_examples=20, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.data())
def test_every_method_encloses_the_exact_optimum(data: st.DataObject) -> None:
    """Lower <= optimum <= upper for all methods and senses; tighter methods are not looser; exact closes the gap."""
    network = data.draw(networks(odd=True, scaled=data.draw(st.booleans())))
    box = exact_box(data.draw(boxes(network.n_inputs)))
    c = [Fraction(data.draw(st.integers(-2, 2))) for _ in range(network.n_outputs)]
    steps = oracle.read(network)
    least = oracle.minimum(steps, box.lower, box.upper, c)
    most = -oracle.minimum(steps, box.lower, box.upper, [-v for v in c])
    lowers = []
    for method in METHODS:
        low = bound(network, box, c, method=method)
        high = bound(network, box, c, method=method, sense="max")
        assert low.lower == -math.inf or Fraction(low.lower) <= least
        assert Fraction(low.upper) >= least
        assert high.upper == math.inf or Fraction(high.upper) >= most
        assert Fraction(high.lower) <= most
        lowers.append(low.lower)
    assert lowers[:4] == sorted(lowers[:4])
    assert low.complete, low
    assert low.gap <= 1e-6 * max(1.0, abs(low.upper))


def test_strict_atoms_are_strict_for_witnesses_and_closed_for_proofs() -> None:
    """The set y < 0 is not reached where the least y is exactly 0, y <= 0 is; neither is verified."""
    network = Network.from_arrays([([[1.0]], [0.0]), ([[1.0]], [0.0])])  # relu(x)
    y = outputs(1)
    box = Box([-1], [1])
    assert verify(network, Query.never(box, y[0] <= 0, 1)).verdict is Verdict.FALSIFIED
    strict = verify(network, Query.never(box, y[0] < 0, 1), time_limit=5)
    assert strict.verdict is Verdict.UNKNOWN
    assert strict.near_miss is not None


def test_a_near_miss_is_not_a_counterexample() -> None:
    """A point that misses the unsafe set by 1e-9 is shown, and the property is verified all the same or unknown."""
    network = Network.from_arrays([([[1.0]], [0.0]), ([[1.0]], [0.0])])
    y = outputs(1)
    answer = verify(network, Query.never(Box([-1], [1]), y[0] <= "-0.000000001", 1))
    assert answer.verdict is Verdict.VERIFIED
    assert answer.witness is None


def test_mixed_properties_and_several_regions() -> None:
    """Atoms over inputs and outputs, and a disjunction of boxes, are decided."""
    network = Network.from_arrays([([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], [0.0])])  # |x|
    (x,), (y,) = inputs(1), outputs(1)
    assert (
        verify(network, Query.always(Box([-1], [2]), (y >= x - "0.001") & (y + "0.001" >= -x), 1)).verdict
        is Verdict.VERIFIED
    )
    one = Query.never(Box([1], [2]), y <= x - "0.001", 1).cases
    two = Query.never(Box([-2], [-1]), y <= x + "1.999", 1).cases
    assert verify(network, Query(one + two, 1, 1)).verdict is Verdict.VERIFIED
    three = Query.never(Box([-2], [-1]), y <= x + 2, 1).cases
    answer = verify(network, Query(one + three, 1, 1))
    assert answer.verdict is Verdict.FALSIFIED
    assert answer.witness is not None
    assert answer.witness.x == (Fraction(-1),)


def test_decimals_are_exact() -> None:
    """The threshold 0.1 lies between two floats: the property at 0.1 holds, strictly below it fails."""
    network = Network((Affine([[1.0]], [0.0]),))
    (y,) = outputs(1)
    box = Box(["0.1"], ["0.1"])
    assert verify(network, Query.always(box, y <= "0.1", 1), time_limit=2).verdict is not Verdict.FALSIFIED
    answer = verify(network, Query.always(box, y < "0.1", 1))
    assert answer.verdict is Verdict.FALSIFIED
    assert answer.witness is not None
    assert answer.witness.x == (Fraction(1, 10),)


def test_a_property_that_holds_with_equality_ends_as_unknown() -> None:
    """|x| >= x touches its limit on half of the region: the search gives up soon and says why."""
    network = Network.from_arrays([([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], [0.0])])  # |x|
    (x,), (y,) = inputs(1), outputs(1)
    for strategy in (Hybrid(), Hybrid(few_inputs=0), Hybrid(few_neurons=0)):
        answer = verify(network, Query.always(Box([-1], [2]), y >= x, 1), strategy=strategy, time_limit=20)
        assert answer.verdict is Verdict.UNKNOWN
        assert "within rounding" in answer.reason
        assert answer.bound is not None
        assert -1e-9 < answer.bound <= 0


def test_no_case_and_no_atom() -> None:
    """Nothing unsafe is verified at once; everything unsafe is falsified at any point."""
    network = Network((Affine([[1.0]], [0.0]),))
    assert verify(network, Query((), 1, 1)).verdict is Verdict.VERIFIED
    everything = Query.from_rows(Box([0], [1]), np.zeros((0, 1)), [])
    assert verify(network, everything).verdict is Verdict.FALSIFIED


def test_huge_values_are_unknown_and_never_an_error() -> None:
    """Where every bound overflows there is no verdict, and no warning either."""
    network = Network((Affine([[1e200]], [0.0]), Relu([True]), Affine([[1e200]], [0.0])))
    (y,) = outputs(1)
    answer = verify(network, Query.never(Box([1], [2]), y <= 0, 1), time_limit=1)
    assert answer.verdict is Verdict.UNKNOWN
    wide = bound(network, Box([1], [2]), [1], method="crown")
    assert wide.lower == -math.inf
    json.dumps(wide.to_dict(), allow_nan=False)


@pytest.mark.parametrize("solver", ["highs", None])
def test_time_limit_leaves_what_was_proved(solver: str | None) -> None:
    """A search that cannot end in time is unknown, with a bound that holds and the share that is closed."""
    rng = np.random.default_rng(0)
    sizes = (8, 60, 60, 60, 1)
    steps = [(rng.normal(size=(b, a)), rng.normal(size=b)) for a, b in pairwise(sizes)]
    network = Network.from_arrays(steps)
    seen: list[Progress] = []
    (y,) = outputs(1)
    query = Query.never(Box.around(np.zeros(8), 1, clip=None), y <= -1e6, 1)
    answer = verify(
        network, Query.never(query.cases[0].region, y <= -300, 1), time_limit=1.5, solver=solver, progress=seen.append
    )
    assert answer.verdict is Verdict.UNKNOWN
    assert "time limit" in answer.reason
    assert seen
    assert seen[-1].nodes <= answer.nodes
    assert 0.0 <= answer.closed < 1.0
    points = rng.uniform(-1, 1, (20_000, 8))
    if answer.bound is not None:
        assert answer.bound <= (network(points) + 300).min()


def test_interrupt_leaves_the_best_bound() -> None:
    """Ctrl-C during the search gives UNKNOWN with a rigorous bound, not an exception."""
    rng = np.random.default_rng(0)
    sizes = (5, 30, 30, 1)
    steps = [(rng.normal(size=(b, a)), rng.normal(size=b)) for a, b in pairwise(sizes)]
    network = Network.from_arrays(steps)

    def interrupt(progress: Progress) -> None:
        if progress.nodes > 20:
            raise KeyboardInterrupt

    exact = bound(network, Box.around(np.zeros(5), 1, clip=None), [1], progress=interrupt)
    assert not exact.complete
    assert exact.reason == "interrupted"
    assert math.isfinite(exact.lower)
    assert exact.lower <= exact.upper
    (y,) = outputs(1)
    query = Query.never(Box.around(np.zeros(5), 1, clip=None), y <= exact.lower / 2 + exact.upper / 2, 1)
    answer = verify(network, query, progress=interrupt)
    if answer.verdict is Verdict.UNKNOWN:
        assert answer.reason.startswith("interrupted")
        assert answer.bound is not None


def test_wrong_questions_are_errors() -> None:
    """Sizes, names and options that do not fit are refused with one clear error."""
    network = Network((Affine([[1.0, 2.0]], [0.0]),))
    box = Box([0, 0], [1, 1])
    with pytest.raises(ShapeError, match="3 inputs"):
        verify(network, Query.never(Box([0, 0, 0], [1, 1, 1]), outputs(1)[0] <= 0, 1))
    with pytest.raises(ShapeError, match="Y_1"):
        Query.never(box, outputs(2)[1] <= 0, 1)
    with pytest.raises(ShapeError, match="Y_4"):
        bound(network, box, outputs(5)[4])
    with pytest.raises(ShapeError, match="2 entries"):
        bound(network, box, [1, 2])
    with pytest.raises(InputError, match="unknown method"):
        bound(network, box, [1], method="magic")
    with pytest.raises(InputError, match="there is no solver"):
        bound(network, box, [1], method="triangle", solver="magic")
    with pytest.raises(InputError, match="needs a solver"):
        bound(network, box, [1], method="triangle", solver=None)
    with pytest.raises(InputError, match="sense"):
        bound(network, box, [1], sense="up")  # type: ignore[arg-type]


def test_results_have_text_json_and_html() -> None:
    """The forms agree on the verdict, JSON is strict and HTML is escaped and without scripts."""
    network = Network((Affine([[1.0]], [0.0]),))
    query = Query.never(Box([0], [1]), outputs(1)[0] >= "0.5", 1, text="<b>never</b> above 0.5")
    answer = verify(network, query)
    data = json.loads(json.dumps(answer.to_dict(), allow_nan=False))
    assert data["verdict"] == "falsified"
    keys = {"verdict", "reason", "semantics", "bound", "claim", "witness", "seconds", "versions"}
    assert keys <= set(data)
    assert "FALSIFIED" in str(answer)
    assert "<b>never</b>" not in answer._repr_html_()
    assert "&lt;b&gt;" in answer._repr_html_()
    enclosure = bound(network, Box([0], [1]), "Y_0 - 2*X_0", sense="max")
    assert json.loads(json.dumps(enclosure.to_dict(), allow_nan=False))["sense"] == "max"
    assert enclosure.lower <= 0.0 <= enclosure.upper
    assert "max" in str(enclosure)
    assert "<table" in enclosure._repr_html_()
    assert "\n" not in repr(answer) + repr(enclosure)


def test_classifier_robustness_untargeted_and_targeted() -> None:
    """The winner by a fixed margin is robust up to the exact radius and not beyond; targets restrict the rivals."""
    network = Network((Affine([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]], [0.0, 0.0, 0.25]),))
    x = ["0.9", "0.5"]
    inside = Query.robust(Box.around(x, "0.19", (0, 1)), 0, 3)
    outside = Query.robust(Box.around(x, "0.2", (0, 1)), 0, 3)
    assert verify(network, inside).verdict is Verdict.VERIFIED
    assert verify(network, outside).verdict is Verdict.FALSIFIED  # a tie counts for the rival
    assert verify(network, Query.robust(Box.around(x, "0.2", (0, 1)), 0, 3, targets=[2])).verdict is Verdict.VERIFIED
    with pytest.raises(InputError):
        Query.robust(Box.around(x, "0.2", (0, 1)), 0, 3, targets=[0])


def test_output_ranges() -> None:
    """An output-range query holds at the exact range and fails inside it."""
    network = Network.from_arrays([([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], [0.0])])
    box = Box([-1], [2])
    assert verify(network, Query.in_range(box, 0, 1, upper=2.001, lower=-0.001)).verdict is Verdict.VERIFIED
    assert verify(network, Query.in_range(box, 0, 1, upper=1.999)).verdict is Verdict.FALSIFIED
    with pytest.raises(InputError):
        Query.in_range(box, 0, 1)


def test_replay_says_where_rounding_leaves_the_region() -> None:
    """A decimal bound that float32 does not hold: the witness is exact, its float32 neighbour is outside."""
    said = Replay("onnxruntime", (0.4000000059604645,), (0.75,), violates=False, outside=True)
    assert "leaves the region" in str(said)
    assert "does not violate" not in str(said)
