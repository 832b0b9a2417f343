"""The lifted relaxation at nodes: what linear bounds cannot prove, the same verdicts, trees, proofs and interrupts."""

from __future__ import annotations

import io
import math
import signal
import threading
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from optverify import Box, Network, Query, Verdict, kernel, outputs, verify
from optverify.bounds.crown import crown
from optverify.bounds.relaxed import frame_of, relaxed
from optverify.canonical import network_text, property_text
from optverify.certificate import check_file
from optverify.errors import InputError
from optverify.formulations.encoder import objective_of
from optverify.interval import Interval
from optverify.preactivation import Bounds
from optverify.proof import NeuronSplit
from optverify.query import Goal
from optverify.search import cascade, semidefinite, workers
from optverify.search.node import Node, divide
from optverify.search.semidefinite import close_groups, nodes_before, price, promising
from optverify.search.tree import Progress
from tests import oracle
from tests.strategies import boxes, networks


def random_network(seed: int, *sizes: int) -> Network:
    """Make a fully connected network whose values neither vanish nor explode."""
    rng = np.random.default_rng(seed)
    steps = [(rng.normal(size=(m, n)) / np.sqrt(n), 0.3 * rng.normal(size=m)) for n, m in pairwise(sizes)]
    return Network.from_arrays(steps)


def cube(size: int) -> Box:
    """Return the inputs from -1 to 1."""
    return Box.around(np.zeros(size), 1, clip=None)


def above(size: int, value: str) -> Query:
    """Ask whether the one output stays above a value."""
    return Query.never(cube(size), outputs(1)[0] <= Fraction(value), 1)


AT_ROOT = random_network(4, 14, 16, 16, 1), above(14, "-0.98")
"""The relaxation closes the root; without it there is no end after 6,000 nodes."""

BY_SPLITS = random_network(0, 14, 16, 16, 1), above(14, "-1.01")
"""The relaxation closes the halves of halves."""


def root(goal: Goal) -> tuple[Interval, Bounds]:
    """Return the box of a goal and bounds on it."""
    region = goal.region.outward
    return region, crown(goal.network, region.take(None))[0].take(0)


def exact(network: Network, query: Query, path: str) -> None:
    """Run the kernel in this process."""
    kernel.check(network_text(network), property_text(query), io.BytesIO(Path(path).read_bytes()))


def test_the_relaxation_closes_in_one_node_what_linear_programs_leave_open() -> None:
    """Backward bounds and the triangle program prove nothing at the root; the lifted relaxation all."""
    network, query = AT_ROOT
    (goal,) = query.goals(network)
    region, bounds = root(goal)
    frame = frame_of(goal.network, region, bounds)
    assert relaxed(frame, bounds, objective_of(goal, 0), "highs").lower < 0
    answer = verify(network, query, relaxation="lifted")
    assert answer.verdict is Verdict.VERIFIED
    assert (answer.nodes, answer.programs) == (1, 1)
    assert answer.bound is not None
    assert answer.bound > 0


def test_auto_tries_the_root_once_a_search_is_long() -> None:
    """The search stops for the relaxation after as many nodes as that costs; short ones never ask for it."""
    network, query = AT_ROOT
    answer = verify(network, query)
    assert answer.verdict is Verdict.VERIFIED
    assert answer.programs == 1
    assert semidefinite.SOONEST < answer.nodes < 200
    short = verify(network, above(14, "-3"))
    assert short.verdict is Verdict.VERIFIED
    assert short.programs == 0


def test_a_network_with_few_inputs_is_left_to_input_splits() -> None:
    """However long the search is, automatic does not mean the relaxation there."""
    network = random_network(7, 6, 24, 24, 1)
    answers = [verify(network, above(6, "-1.6"), relaxation=name, solver=None) for name in ("auto", "triangle")]
    assert answers[0].nodes == answers[1].nodes > 2 * semidefinite.SOONEST
    assert answers[0].programs == 0


def test_auto_begins_again_where_the_root_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the relaxation does not close at the root it closes below, in a tree of its own."""
    monkeypatch.setattr(cascade, "SECOND", 4.0)
    network, query = BY_SPLITS
    lifted, auto = (verify(network, query, relaxation=name) for name in ("lifted", "auto"))
    assert lifted.verdict is auto.verdict is Verdict.VERIFIED
    assert lifted.nodes > 1
    assert auto.programs == lifted.programs
    assert auto.nodes > lifted.nodes + 4.0 * price(network, 14)
    assert auto.bound == lifted.bound


def test_what_the_relaxation_costs_grows_with_its_size() -> None:
    """As many nodes, a case left open at the root each; none are enough where it is too large."""
    assert nodes_before(Goal.pose(random_network(0, 20, 1200, 1), above(20, "0"), cube(20), [0])) == math.inf
    assert nodes_before(Goal.pose(random_network(0, 20, 1), above(20, "0"), cube(20), [0])) < math.inf
    small = nodes_before(Goal.pose(random_network(0, 20, 30, 1), above(20, "0"), cube(20), [0]))
    large = nodes_before(Goal.pose(random_network(0, 200, 30, 1), above(200, "0"), cube(200), [0]))
    assert small < large < math.inf


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(data=st.data())
def test_verdicts_agree_with_the_exact_optimum(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tiny networks of any shape, none or one neuron, points for boxes, conjunctions: exact, with proof or without."""
    network = data.draw(networks(odd=data.draw(st.booleans())))
    box = data.draw(boxes(network.n_inputs))
    region = Box(tuple(box.lower.tolist()), tuple(box.upper.tolist()))
    group = range(network.n_outputs)
    least = oracle.minimum_of_largest(oracle.read(network), region.lower, region.upper, group)
    margin = data.draw(st.sampled_from([Fraction(1, 100), Fraction(0), Fraction(-1, 100)]))
    unsafe = outputs(network.n_outputs)[0] <= least - margin
    for row in outputs(network.n_outputs)[1:]:
        unsafe = unsafe & (row <= least - margin)
    query = Query.never(region, unsafe, network.n_outputs)
    path = str(tmp_path_factory.mktemp("proof") / "proof") if data.draw(st.booleans()) else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(semidefinite, "LEAST_PRICE", 1e-9)
        answer = verify(network, query, relaxation="lifted", time_limit=2, certificate=path)
    assert answer.verdict is not (Verdict.FALSIFIED if margin > 0 else Verdict.VERIFIED)
    assert answer.bound is None or Fraction(answer.bound) <= margin
    if path is not None and answer.verdict is Verdict.VERIFIED:
        exact(network, query, path)


@pytest.mark.parametrize("relaxation", ["lifted", "auto"])
def test_proofs_are_accepted_by_both_checkers(tmp_path: Path, relaxation: str) -> None:
    """A tree with nodes that the relaxation closed, and one with a root that it closed late."""
    network, query = BY_SPLITS if relaxation == "lifted" else AT_ROOT
    path = str(tmp_path / "proof")
    answer = verify(network, query, relaxation=relaxation, certificate=path)
    assert answer.verdict is Verdict.VERIFIED
    assert answer.certificate is not None
    assert answer.programs > 0
    assert check_file(path, network, query).kind == "verified"
    exact(network, query, path)


def test_a_conjunction_is_closed_as_a_whole(tmp_path: Path) -> None:
    """Neither row is positive everywhere, their largest is; and each of two cases is closed by itself."""
    network = random_network(3, 14, 12, 12, 2)
    y, path = outputs(2), str(tmp_path / "proof")
    query = Query.never(cube(14), ((y[0] <= -1) & (y[1] <= -1)) | (y[0] <= -9), 2)
    answer = verify(network, query, relaxation="lifted", certificate=path)
    assert answer.verdict is Verdict.VERIFIED
    exact(network, query, path)


def test_the_tree_does_not_depend_on_the_number_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Verdict and tree are those of one process.

    The last digits of its bound are not: the linear algebra of an interior-point method depends on where arrays lie.
    """
    monkeypatch.setattr(workers, "PATIENCE", -1.0)
    network, query = BY_SPLITS
    alone, together = (verify(network, query, relaxation="lifted", workers=n) for n in (1, 2))
    assert alone.verdict is together.verdict is Verdict.VERIFIED
    assert (alone.nodes, alone.programs) == (together.nodes, together.programs)
    assert alone.bound is not None
    assert together.bound is not None
    assert min(alone.bound, together.bound) > 0


def test_an_interrupt_while_the_root_is_tried_leaves_the_plain_search(tmp_path: Path) -> None:
    """Ctrl-C in the relaxation: UNKNOWN, what is proved is saved, and resumed it ends."""
    network, query = AT_ROOT
    tree = str(tmp_path / "tree")
    with pytest.MonkeyPatch.context() as patch:

        def interrupted(*_: object, **__: object) -> None:
            signal.raise_signal(signal.SIGINT)

        assert threading.current_thread() is threading.main_thread()
        patch.setattr("optverify.search.expand.close_groups", interrupted)
        answer = verify(network, query, save=tree)
    assert answer.verdict is Verdict.UNKNOWN
    assert answer.reason.startswith("interrupted")
    assert answer.reason.endswith("(the tree is saved)")
    assert 0 < answer.closed < 1
    assert answer.bound is not None
    assert verify(network, query, resume=tree, certificate=str(tmp_path / "proof")).certified


def test_a_saved_tree_with_lifted_closes_is_gone_on_with(tmp_path: Path) -> None:
    """Stopped after some nodes that the relaxation closed."""
    network, query = random_network(5, 14, 16, 16, 1), above(14, "-3.3")
    tree, path = str(tmp_path / "tree"), str(tmp_path / "proof")

    def stop(progress: Progress) -> None:
        if progress.closed > 0.3:
            raise KeyboardInterrupt

    first = verify(network, query, relaxation="lifted", save=tree, progress=stop)
    assert first.verdict is Verdict.UNKNOWN
    assert first.programs > 1
    second = verify(network, query, relaxation="lifted", resume=tree, certificate=path)
    assert second.verdict is Verdict.VERIFIED
    exact(network, query, path)


def test_a_time_limit_ends_a_relaxation() -> None:
    """What takes longer than there is time for closes nothing and is no error."""
    network = random_network(0, 300, 200, 200, 1)
    answer = verify(network, above(300, "-30"), relaxation="lifted", time_limit=0.5)
    assert answer.verdict is Verdict.UNKNOWN
    assert "time limit" in answer.reason


def test_nothing_is_tried_that_will_not_close_or_is_cheaper_to_split() -> None:
    """Prediction by what was gained on the path; groups by what is missing; a price; a largest size."""
    network, query = BY_SPLITS
    (goal,) = query.goals(network)
    region, bounds = root(goal)
    node = Node(region.lower, region.upper, bounds.layers, (0, 1))
    values = {0: -0.01, 1: -4.0}
    assert list(promising(network, node, bounds, values, 0.0)) == [1]
    assert list(promising(network, node, bounds, {0: -3.9, 1: -4.0}, 0.0)) == [1, 0]
    for gain, tried in ((3.9, {}), (4.1, {1: -4.0}), (-math.inf, {}), (math.nan, {})):
        learned = Node(region.lower, region.upper, bounds.layers, (0, 1), lift=gain)
        assert promising(network, learned, bounds, values, 0.0) == tried
    assert promising(network, node, bounds, {0: -math.inf}, 0.0) == {}
    stable = Bounds(tuple(Interval(np.ones(z.shape), np.full(z.shape, 2.0)) for z in bounds.layers))
    assert promising(network, node, stable, values, 0.0) == {}


def test_halves_of_a_neuron_and_no_time() -> None:
    """Cut nodes keep their bounds below what the attack finds; without time nothing is solved."""
    network, query = BY_SPLITS
    (goal,) = query.goals(network)
    region, bounds = root(goal)
    node = Node(region.lower, region.upper, bounds.layers, (0,))
    j = int(np.flatnonzero(bounds.unstable(goal.network)[0])[0])
    points: list[np.ndarray] = []
    gains = []
    for part in (node, *divide(node, NeuronSplit(0, j))):
        found = close_groups(goal, region, Bounds(part.layers), {0: -1.0}, 0.0, math.inf, points.append, proof=True)
        gains.append(math.inf if found.gain is None else found.gain)
        assert found.programs == 1
        assert all(lower > 0 and close.lifted is not None for lower, close in found.groups.values())
    assert gains[0] < min(gains[1:])
    assert len(points) == 3
    assert all(((region.lower <= x) & (x <= region.upper)).all() for x in points)
    late = close_groups(goal, region, bounds, {0: -1.0}, 0.0, -math.inf, points.append, proof=True)
    assert (late.programs, dict(late.groups)) == (0, {})


def test_an_overflow_ends_the_tries_on_its_path() -> None:
    """Numbers that no relaxation can be made of are no error."""
    network = Network.from_arrays([(np.full((2, 1), 1e300), np.zeros(2)), (np.full((1, 2), 1e300), np.zeros(1))])
    (goal,) = Query.never(Box([-1], [1]), outputs(1)[0] <= -1, 1).goals(network)
    region, bounds = root(goal)
    found = close_groups(goal, region, bounds, {0: -1.0}, 0.0, math.inf, lambda _: None, proof=True)
    assert (found.gain, found.programs) == (-math.inf, 0)


def test_an_unknown_relaxation_is_an_error() -> None:
    """It names those that there are."""
    network, query = AT_ROOT
    with pytest.raises(InputError, match="auto, triangle, lifted"):
        verify(network, query, relaxation="sdp")
