"""Radii by the lifted relaxation, and what a mixed-integer solver claims beside a bracket."""

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from math import inf, nan

import numpy as np
import pytest

from optverify import Box, Network, Query, load_property, radius, safe_box, solvers
from optverify.certificate import check_file
from optverify.cli import main
from optverify.errors import InputError
from optverify.measures import cubes
from optverify.measures.lifted import Lifting
from optverify.measures.question import Question
from optverify.query import Goal
from optverify.search.node import Node
from tests.measures.test_radius import GAP, exact, holds, tiny, touching


def wide(seed: int = 0) -> tuple[Network, np.ndarray]:
    """Return a network that linear bounds leave open at small radii, and a point."""
    rng = np.random.default_rng(seed)
    sizes = (16, 24, 24, 3)
    layers = [(rng.normal(size=(m, n)) / np.sqrt(n), 0.1 * rng.normal(size=m)) for n, m in pairwise(sizes)]
    return Network.from_arrays(layers), rng.uniform(0.3, 0.7, 16)


def asked(network: Network, x: np.ndarray) -> Question:
    point = tuple(map(Fraction, x.tolist()))
    label = int(network(x[None])[0].argmax())
    question = Question(network, point, "inf", Query.robust(Box([0] * 16, [1] * 16), label, 3))
    question.attack(np.random.default_rng(0))
    return question


@pytest.mark.parametrize("seed", range(3))
def test_lifted_brackets_hold_the_exact_radius(seed, tmp_path):
    network = tiny(seed)
    x = (np.random.default_rng(seed).integers(-8, 9, 2) / 8).tolist()
    _, value = exact(network, x, "inf")
    path = str(tmp_path / "proof")
    answer = radius(network, x, domain=(-1, 1), relaxation="lifted", certificate=path)
    assert holds(answer, value, "inf")
    assert answer.complete
    if answer.lower > 0:
        assert answer.certified
        assert check_file(path, network, load_property(path + ".vnnlib")).kind == "verified"


def test_the_relaxation_reaches_further_than_backward_bounds_and_no_counterexample():
    network, x = wide()
    question = asked(network, x)
    first = cubes.at_root(question).radius
    lifting = Lifting(question, proof=True)
    radii = [at for at, _ in lifting.reach(first, question.wanted(GAP), inf)]
    assert radii
    assert radii == sorted(radii)
    assert first < radii[0]
    assert radii[-1] < question.upper
    assert lifting.programs
    # What it is said to fail at is a claim, and no radius that was closed.
    assert all(root > 0 for root in lifting.roots.values())


def test_lifted_in_a_format(tmp_path):
    network, x = tiny(0), (np.random.default_rng(0).integers(-8, 9, 2) / 8).tolist()
    path = str(tmp_path / "proof")
    found = [
        radius(network, x, domain=(-1, 1), semantics="float32", relaxation=name, certificate=path, time_limit=1.0)
        for name in ("triangle", "lifted")
    ]
    assert all(0 < answer.lower <= answer.upper and answer.certified for answer in found)
    assert max(answer.lower for answer in found) <= min(answer.upper for answer in found)


def test_no_time_no_relaxation():
    network, x = wide()
    question = asked(network, x)
    assert not list(Lifting(question, proof=False, pace=1.0).reach(0.0, question.wanted(GAP), -inf))


def test_root_of_a_search_has_the_groups_that_are_not_closed():
    network, x = wide()
    question = asked(network, x)
    lifting = Lifting(question, proof=True)
    node, closes = lifting.start(question.wanted(GAP), inf)
    assert isinstance(node, Node)
    assert node.groups  # a counterexample is next to this box
    assert sorted([*node.groups, *(close.group for close in closes)]) == list(range(len(question.goal.groups)))
    goal: Goal = question.within(question.upper)
    node, _ = Lifting(question, proof=True).start(question.upper, -inf)
    assert set(node.groups) <= set(range(len(goal.groups)))


def test_interrupted_after_the_relaxation(tmp_path):
    """The lower end that it gave stays, with a proof that the checker accepts."""

    def stop(line):
        if line.lower > first:
            raise KeyboardInterrupt

    network, x = wide()
    first = cubes.at_root(asked(network, x)).radius
    path = str(tmp_path / "proof")
    answer = radius(network, x, relaxation="lifted", progress=stop, certificate=path)
    assert answer.lower_from == "the lifted relaxation at the root"
    assert first < answer.lower < answer.upper
    assert answer.certified
    assert check_file(path, network, load_property(path + ".vnnlib")).kind == "verified"


def test_every_relaxation_closes_the_same_bracket():
    network, x = wide()
    found = {name: radius(network, x, relaxation=name, gap=0.05) for name in ("auto", "triangle", "lifted")}
    assert all(answer.complete for answer in found.values())
    assert max(a.lower for a in found.values()) <= min(a.upper for a in found.values())


def test_long_searches_turn_to_the_relaxation(monkeypatch):
    monkeypatch.setattr(cubes, "SOONEST", 1)
    monkeypatch.setattr(cubes, "nodes_before", lambda _: 1.0)
    network, x = wide()
    answer = radius(network, x, gap=0.05)
    assert answer.complete
    assert answer.programs


@pytest.mark.parametrize("norm", ["inf", "1", "0"])
@pytest.mark.parametrize("seed", range(3))
def test_claims(norm, seed):
    network = tiny(seed)
    x = (np.random.default_rng(seed).integers(-8, 9, 2) / 8).tolist()
    _, value = exact(network, x, norm)
    answer = radius(network, x, norm=norm, domain=(-1, 1), gap=GAP, claim=True)
    assert holds(answer, value, norm)
    if answer.upper == 0:
        assert answer.claim is None  # nothing was asked
    elif value is None:
        assert answer.claim == inf
    elif norm == "0":
        assert round(answer.claim) == value
    else:
        assert answer.lower * (1 - 1e-6) <= answer.claim <= answer.upper


class Liar:
    """HiGHS, but for what it says of integer programs."""

    name = "liar"

    def __init__(self, factor, point):
        self.factor, self.point, self.asked = factor, point, 0

    def solve(self, program, **options):
        found = solvers.get("highs").solve(program, **options)
        if not program.is_mixed_integer or found.primal is None:
            return found
        self.asked += 1
        primal = np.full_like(found.primal, self.point) if self.point is not None else found.primal
        return replace(found, objective=found.objective * self.factor, primal=primal)


@pytest.mark.parametrize(("factor", "point"), [(0.0, None), (100.0, 0.0), (nan, nan), (-1.0, inf), (inf, 1e300)])
@pytest.mark.parametrize("norm", ["inf", "0"])
def test_lies_change_no_end(norm, factor, point):
    network = tiny(0)
    x = (np.random.default_rng(0).integers(-8, 9, 2) / 8).tolist()
    _, value = exact(network, x, norm)
    honest = radius(network, x, norm=norm, domain=(-1, 1), gap=GAP)
    liar = Liar(factor, point)
    answer = radius(network, x, norm=norm, domain=(-1, 1), gap=GAP, solver=liar, claim=True)
    assert liar.asked
    assert holds(answer, value, norm)
    assert (answer.lower, answer.upper) == (honest.lower, honest.upper)


def test_open_brackets_get_a_claim():
    """A bracket that cannot be closed, for class 1 ties at 1/3 alone."""
    answer = radius(touching(), [0], 0, targets=[1], gap=2.0**-40, time_limit=1.0)
    assert not answer.complete
    assert answer.claim is not None
    assert abs(answer.claim - 1 / 3) < 1e-6
    assert "claim (solver)" in str(answer)
    assert answer.to_dict()["claim"] == answer.claim


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"relaxation": "best"}, "relaxation"),
        ({"claim": True, "norm": "2"}, "claim"),
        ({"claim": True, "solver": None}, "claim"),
        ({"claim": True, "semantics": "float32"}, "claim"),
    ],
)
def test_bad_input(arguments, words):
    with pytest.raises(InputError, match=words):
        radius(tiny(0), [0.0, 0.0], domain=(-1, 1), **arguments)


def test_command_line(tmp_path, capsys):
    (tmp_path / "inputs.csv").write_text("0.01,0.02,0.03,0.04\n")
    given = ["radius", "examples/cartpole/controller.onnx", "--input", str(tmp_path / "inputs.csv")]
    given += ["--domain", "-0.2", "0.2", "--relaxation", "triangle", "--claim"]
    assert main(given) == 0
    assert "claim (solver)" in capsys.readouterr().out


@pytest.mark.parametrize("value", [5e-324, 1e-310, Fraction(1, 2**1080)])
def test_least_distances(value):
    network = Network.from_arrays([([[1.0, 0.0], [-1.0, 0.0]], [0.0, 0.0])])
    answer = radius(network, [value, 0.0], norm="2", domain=(-1, 1), time_limit=0.2)
    assert Fraction(answer.lower) <= Fraction(value) <= Fraction(answer.upper)


def test_no_unsafe_case():
    with pytest.raises(InputError, match="no unsafe case"):
        safe_box(tiny(0), [0.0, 0.0], property=Query((), 2, 3, "nothing"), domain=(-1, 1))
