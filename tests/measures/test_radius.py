"""Radii against exact oracles, and on inputs that are not ordinary."""

import importlib
from fractions import Fraction
from itertools import pairwise
from math import inf

import numpy as np
import pytest

from optverify import Box, Network, load_property, radius
from optverify.certificate import check_file
from optverify.errors import InputError, ShapeError
from optverify.measures import cubes, question
from optverify.measures.polish import polished
from optverify.measures.question import Question
from optverify.norms import NORMS, Cut, length
from optverify.query import Query
from tests.measures.distances import distance

GAP = 1e-4

measured = importlib.import_module("optverify.measures.radius")  # the name in the package is the function


def tiny(seed: int, inputs: int = 2, outputs: int = 3) -> Network:
    rng = np.random.default_rng(seed)
    sizes = (inputs, 4, 3, outputs)
    # dyadic numbers with few digits: quick for the oracle, and ties happen
    return Network.from_arrays(
        [(rng.integers(-8, 9, (m, n)) / 4, rng.integers(-4, 5, m) / 4) for n, m in pairwise(sizes)]
    )


def exact(network, x, norm, low=-1, high=1):
    n = len(x)
    y = network.exact([Fraction(v) for v in x])
    label = y.index(max(y))
    ends = [Fraction(low)] * n, [Fraction(high)] * n
    return label, distance(network, [Fraction(v) for v in x], *ends, label, norm)


def holds(answer, value, norm):
    """Whether the exact radius (its square for "2") lies in the bracket."""
    if value is None:
        return answer.lower == answer.upper == inf
    power = 2 if norm == "2" else 1
    return Fraction(answer.lower) ** power <= value <= Fraction(answer.upper) ** power


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", range(4))
def test_bracket_holds_the_exact_radius_and_closes(norm, seed):
    network = tiny(seed)
    x = (np.random.default_rng(seed).integers(-8, 9, 2) / 8).tolist()
    label, value = exact(network, x, norm)
    answer = radius(network, x, norm=norm, domain=(-1, 1), gap=GAP)
    assert answer.label == label
    assert holds(answer, value, norm)
    assert answer.complete
    assert answer.gap <= GAP * (1 + 1e-12)


@pytest.mark.parametrize("norm", ["inf", "1", "0"])
def test_three_inputs(norm):
    for seed in range(2):
        network, x = tiny(100 + seed, inputs=3, outputs=2), [0.25, -0.5, 0.125]
        _, value = exact(network, x, norm)
        answer = radius(network, x, norm=norm, domain=(-1, 1))
        assert holds(answer, value, norm)
        assert answer.complete


@pytest.mark.parametrize("seed", range(2))
def test_norms_are_ordered(seed):
    network, x = tiny(20 + seed), [0.125, -0.25]
    found = {norm: radius(network, x, norm=norm, domain=(-1, 1)) for norm in NORMS}
    assert found["inf"].lower <= found["2"].upper
    assert found["2"].lower <= found["1"].upper
    if found["inf"].upper < inf:
        assert found["1"].lower <= found["0"].upper * found["inf"].upper * 4
    assert len({answer.upper == inf for answer in found.values()}) == 1


def test_counterexample_is_exact_and_at_that_distance():
    network, x = tiny(3), [0.125, -0.25]
    for norm in NORMS:
        answer = radius(network, x, norm=norm, domain=(-1, 1))
        if answer.witness is None:
            continue
        y = network.exact(answer.witness.x)
        assert max(y[j] for j in range(3) if j != answer.label) >= y[answer.label]
        assert length(norm, [a - Fraction(b) for a, b in zip(answer.witness.x, x, strict=True)]) == answer.upper
        assert all(-1 <= v <= 1 for v in answer.witness.x)


def test_certificate_is_about_the_box_of_the_lower_end(tmp_path):
    network, x = tiny(4), [0.125, -0.25]
    path = str(tmp_path / "radius.cert")
    answer = radius(network, x, domain=(-1, 1), certificate=path)
    assert answer.certified
    assert 0 < answer.lower < answer.upper < inf
    query = load_property(path + ".vnnlib")
    (region,) = {case.region for case in query.cases}
    assert region == Box.around(x, answer.lower, (-1, 1))
    assert check_file(path, network, query).kind == "verified"


def test_limit_gives_the_bracket_so_far_and_its_certificate(tmp_path):
    rng = np.random.default_rng(0)
    network = Network.from_arrays(
        [
            (rng.normal(size=(80, 20)), rng.normal(size=80)),
            (rng.normal(size=(80, 80)), rng.normal(size=80)),
            (rng.normal(size=(3, 80)), np.zeros(3)),
        ]
    )
    x = rng.uniform(0, 1, 20)
    path = str(tmp_path / "radius.cert")
    answer = radius(network, x, time_limit=0.2, certificate=path)
    assert 0 < answer.lower < answer.upper
    assert not answer.complete
    assert answer.certified
    assert check_file(path, network, load_property(path + ".vnnlib")).kind == "verified"
    for norm in ("2", "1"):
        answer = radius(network, x, norm=norm, time_limit=0.2)
        assert 0 <= answer.lower < answer.upper


def test_interrupt_gives_the_bracket_so_far():
    def stop(_):
        raise KeyboardInterrupt

    network, x = tiny(4), [0.125, -0.25]
    for norm in ("inf", "2"):
        answer = radius(network, x, norm=norm, domain=(-1, 1), progress=stop)
        _, value = exact(network, x, norm)
        assert holds(answer, value, norm)


@pytest.mark.parametrize("phase", ["attack", "search", "certificate"])
def test_interrupts_between_searches_lose_nothing(phase, monkeypatch, tmp_path):
    """Ctrl-C comes while points are polished, beside a search, while the proof is written: the bracket holds."""

    def stop(*given, **__):
        if phase == "certificate":
            given[0][0].write(b"half a proof")
        raise KeyboardInterrupt

    place = {"attack": (question, "polished"), "search": (cubes, "Crew"), "certificate": (measured, "write_proof")}
    monkeypatch.setattr(*place[phase], stop)
    network, x, path = tiny(4), [0.125, -0.25], tmp_path / "proof"
    answer = radius(network, x, domain=(-1, 1), certificate=str(path))
    _, value = exact(network, x, "inf")
    assert holds(answer, value, "inf")
    assert answer.upper < inf
    assert (answer.lower > 0) == (phase != "attack")
    assert answer.certified == (phase == "search")
    assert path.exists() == (phase == "search")
    assert answer.complete or answer.reason == "interrupted"


def test_nothing_is_polished_after_the_limit():
    network, x = tiny(4), np.array([0.125, -0.25])
    label, _ = exact(network, x.tolist(), "inf")
    asked = Question(network, tuple(map(Fraction, x.tolist())), "inf", Query.robust(Box([-1, -1], [1, 1]), label, 3))
    asked.attack(np.random.default_rng(0))
    far = np.array([float(v) for v in asked.witness.x]) * 1.5
    far = np.clip(far, -1, 1)
    late = polished(asked.goal, asked.ball, far, deadline=0.0)
    early = polished(asked.goal, asked.ball, far)
    assert asked.ball.lengths(early) <= asked.ball.lengths(late) <= asked.ball.lengths(far)


PLANE = Network.from_arrays([([[1.0, 2.0], [0.0, 0.0]], [0.0, 1.0])])


@pytest.mark.parametrize(("norm", "value"), [("inf", 0.25), ("1", 0.375), ("2", 0.75 / 5**0.5), ("0", 1.0)])
def test_plane(norm, value):
    answer = radius(PLANE, [0.75, 0.5], norm=norm, gap=1e-6)
    assert answer.lower <= value <= answer.upper
    assert answer.gap <= 1e-6 * (1 + 1e-9)


def test_tie_and_misclassified():
    tied = radius(PLANE, [1, 0])
    assert (tied.lower, tied.upper, tied.complete) == (0, 0, True)
    assert "tied" in tied.reason
    wrong = radius(PLANE, [1, 1], label=1)
    assert (wrong.lower, wrong.upper) == (0, 0)
    assert "misclassified" in wrong.reason
    assert "misclassified" in str(wrong)


def test_targets_that_cannot_win():
    network = Network.from_arrays([([[1.0, 2.0], [0.0, 0.0], [0.0, 0.0]], [0.0, 1.0, -9.0])])
    for norm in NORMS:
        answer = radius(network, [0.75, 0.5], norm=norm, targets=[2])
        assert (answer.lower, answer.upper, answer.complete) == (inf, inf, True)
        assert answer.gap == 0
        assert "no input of the domain" in str(answer)
        assert answer.to_dict()["lower"] is None


def test_domains():
    assert radius(PLANE, [0.75, 0.5], domain=None).upper == pytest.approx(0.25)
    point = radius(PLANE, [0.75, 0.5], domain=Box([0.75, 0.5], [0.75, 0.5]))
    assert point.lower == point.upper == inf
    line = radius(PLANE, [0.75, 0.5], domain=Box([0.75, -10], [0.75, 10]))
    assert line.lower <= 0.375 <= line.upper
    assert line.complete


def test_huge_values():
    big = Network.from_arrays([(np.array([[1e300, 2e300], [0.0, 0.0]]), [0.0, 1e300])])
    for norm in NORMS:
        answer = radius(big, [0.75, 0.5], norm=norm, time_limit=0.2)
        assert answer.lower <= {"inf": 0.25, "1": 0.375, "2": 0.75 / 5**0.5, "0": 1.0}[norm] <= answer.upper
    over = Network.from_arrays(
        [(np.array([[1e300, 0.0], [0.0, 1.0]]), [0.0, 0.0]), (np.array([[1e300, 0], [0, 1.0]]), [0.0, 0.0])]
    )
    for norm in NORMS:
        answer = radius(over, [0.5, 0.5], norm=norm, time_limit=0.2)
        assert answer.lower <= 0.5 + (norm == "0")
        assert answer.upper >= 0.4


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"x": [0.5, 1.5]}, InputError, "input 1 of x"),
        ({"x": [0.5, float("nan")]}, InputError, "finite"),
        ({"x": [0.5]}, ShapeError, "1 values"),
        ({"label": 2}, InputError, "label 2"),
        ({"label": -1}, InputError, "label -1"),
        ({"label": 0, "targets": [0]}, InputError, "targets"),
        ({"label": 0, "targets": []}, InputError, "targets"),
        ({"norm": "3"}, InputError, "norm"),
        ({"gap": 0.0}, InputError, "gap"),
        ({"gap": float("nan")}, InputError, "gap"),
        ({"domain": Box([0], [1])}, ShapeError, "domain"),
    ],
)
def test_bad_input(arguments, error, words):
    given = {"x": [0.75, 0.5]} | arguments
    with pytest.raises(error, match=words):
        radius(PLANE, **given)


def test_one_output():
    with pytest.raises(InputError, match="two outputs"):
        radius(Network.from_arrays([([[1.0]], [0.0])]), [0.5])


@pytest.mark.parametrize("norm", NORMS)
def test_least_values_and_distances_are_bounds(norm):
    rng = np.random.default_rng(1)
    for _ in range(8):
        n = 5
        x, c = rng.uniform(0, 1, n), rng.normal(size=n) * 10.0 ** rng.integers(-3, 4, n)
        size = float(rng.integers(0, 5)) if norm == "0" else float(rng.uniform(0, 1.5))
        ball = Cut(np.zeros(n), np.ones(n), norm, x, size)
        points = np.clip(x + rng.uniform(-1, 1, (100, n)), 0, 1)
        if norm == "0":
            points = np.where(np.argsort(rng.random(points.shape), axis=1) < size, points, x)
        else:
            points = x + (points - x) * np.minimum(1, size / np.maximum(ball.lengths(points), 1e-300))[:, None] * (
                1 - 1e-12
            )
        low = Fraction(float(ball.least(c)))
        for p in [*points[:40], ball.lowest(c[None])[0] * (1 - 1e-12) + x * 1e-12]:
            d = [Fraction(a) - Fraction(b) for a, b in zip(p.tolist(), x.tolist(), strict=True)]
            if length(norm, d) <= size:
                assert low <= sum(Fraction(a) * Fraction(b) for a, b in zip(c.tolist(), p.tolist(), strict=True))
        k = -float(c @ x) + float(np.abs(c).sum() * 0.1)
        found = float(ball.distance(c[None], np.array([k]))[0])
        for p in [*points, ball.nearest(c[None], np.array([k]))[0]]:
            exactly = sum(Fraction(a) * Fraction(b) for a, b in zip(c.tolist(), p.tolist(), strict=True)) + Fraction(k)
            d = [Fraction(a) - Fraction(b) for a, b in zip(p.tolist(), x.tolist(), strict=True)]
            if exactly <= 0 and length(norm, d) < size:
                assert length(norm, d) >= found


def test_lengths_are_rounded_up():
    d = [Fraction(1, 3), Fraction(-2, 7), Fraction(0)]
    assert Fraction(length("inf", d)) >= Fraction(1, 3)
    assert Fraction(length("1", d)) >= Fraction(13, 21)
    assert Fraction(length("2", d)) ** 2 >= Fraction(1, 9) + Fraction(4, 49)
    assert length("0", d) == 2
    assert length("2", [Fraction(3), Fraction(4)]) <= 5 * (1 + 1e-15)
    assert length("2", [Fraction(10) ** 400]) == inf


def test_root_radius_is_sound():
    network, x = tiny(4), [Fraction(1, 8), Fraction(-1, 4)]
    label, value = exact(network, x, "inf")
    asked = Question(network, tuple(x), "inf", Query.robust(Box([-1, -1], [1, 1]), label, 3))
    assert Fraction(cubes.at_root(asked).radius) <= (value if value is not None else 10)


def touching() -> Network:
    """Class 1 ties with class 0 at x = 1/3 alone, which is no float; class 2 comes near, and never wins."""
    kinks = np.linspace(0.05, 1, 6)
    weight, bias = np.array([[3.0], [-3.0], *[[64.0]] * 6]), np.array([-1.0, 1.0, *(-64 * kinks)])
    outputs = np.zeros((3, 8))
    outputs[0, :2], outputs[2, 2:] = 1.0, np.array([1, -2, 2, -2, 2, -2]) / 64
    y = np.maximum(np.linspace(0, 1, 2001)[:, None] @ weight.T + bias, 0) @ outputs.T
    return Network.from_arrays([(weight, bias), (outputs, [0.0, 0.0, (y[:, 0] - y[:, 2]).min() - 1e-3])])


def test_what_is_stuck_counts_where_a_search_is_stopped():
    """A node that cannot be decided may hold a counterexample, whatever the nodes that wait say."""
    network = touching()
    for last in range(1, 20):
        calls = 0

        def stop(_, last=last):
            nonlocal calls
            calls += 1
            if calls == last:
                raise KeyboardInterrupt

        answer = radius(network, [0], 0, progress=stop)
        assert Fraction(answer.lower) <= Fraction(1, 3)
        if calls < last:  # it ended by itself
            break


def test_a_count_of_changes_holds_for_points_that_are_no_floats():
    """That at (2e-324, 0) is misclassified, the vector of floats next to it, 0, is not."""
    network = Network.from_arrays([([[-(2.0**1023), 0.0], [0.0, 0.0]], [1e-17, 0.0])])
    assert radius(network, [Fraction(2, 10**324), 0], 0, norm="0").lower == 0


@pytest.mark.parametrize("norm", ["2", "1"])
def test_a_lower_end_of_zero_is_certified_at_points_that_are_no_floats(norm, tmp_path):
    """The proof is about x alone, which is not the centre of the ball in floating point."""
    path = str(tmp_path / "radius.cert")
    answer = radius(
        tiny(4), [Fraction(1, 2), Fraction(1, 3)], norm=norm, domain=(-1, 1), time_limit=0, certificate=path
    )
    assert answer.lower == 0 < answer.upper
    assert answer.certified
    (ball,) = {case.region for case in load_property(path + ".json").cases}
    assert (ball.centre, ball.radius) == ((Fraction(1, 2), Fraction(1, 3)), 0)


@pytest.mark.parametrize("norm", ["2", "1", "0"])
@pytest.mark.parametrize("reach", [1e160, 1.7e308])
def test_domains_whose_square_overflows(norm, reach):
    """An answer, no traceback; that of a tree over the whole domain, too, where there is no counterexample."""
    far = Network.from_arrays([(np.eye(2), np.zeros(2)), ([[1.0, 1.0], [-1.0, -1.0]], [1.0, 0.0])])
    answer = radius(far, [0.75, 0.5], norm=norm, domain=(-reach, reach), time_limit=0.2)
    assert answer.upper == inf
    answer = radius(PLANE, [0.75, 0.5], norm=norm, domain=(-reach, reach), time_limit=0.2)
    assert answer.lower <= {"1": 0.375, "2": 0.75 / 5**0.5, "0": 1.0}[norm] <= answer.upper


@pytest.mark.parametrize(("norm", "size"), [("2", 1e155), ("2", inf), ("1", inf), ("0", inf)])
def test_balls_too_large_for_floats_are_boxes(norm, size):
    """Of such a radius the least value over the ball is no more than that over the box, and nothing is outside."""
    ball = Cut(np.zeros(2), np.ones(2), norm, np.zeros(2), size)
    assert -1 - 1e-9 <= ball.least(np.array([-1.0, 1.0])) <= -1 or ball.least(np.array([-1.0, 1.0])) == -inf
    assert not ball.outside
    assert np.isfinite(ball.lowest(np.array([[-1.0, 1.0]]))).all()


@pytest.mark.parametrize("scale", [1e-150, 1e-12, 1.0, 1e12, 1e150])
@pytest.mark.parametrize("norm", ["2", "1"])
def test_the_scale_of_the_outputs_does_not_matter(norm, scale):
    weight, bias = np.array([[1.0, 2.0], [0.5, -1.0]]) * scale, np.array([0.0, 1.0]) * scale
    answer = radius(Network.from_arrays([(weight, bias)]), [0.75, 0.5], norm=norm, gap=1e-6)
    assert answer.complete
    assert answer.lower == pytest.approx({"2": 0.875 / np.hypot(0.5, 3), "1": 0.875 / 3}[norm], rel=1e-5)
