"""`verify`, `bound` and the command line in floating point."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from optverify.bound import bound
from optverify.bounds.overflow import possible_overflow
from optverify.cli import main
from optverify.deployment import deployed, overflow
from optverify.errors import InputError, RejectedCertificate
from optverify.executions import Executor
from optverify.expressions import inputs, outputs
from optverify.interval import Interval
from optverify.io import load
from optverify.io.vnnlib import write_vnnlib
from optverify.network import Network
from optverify.query import Query
from optverify.region import Box
from optverify.results import Verdict
from optverify.search.methods import METHODS
from optverify.semantics import FLOAT16, FLOAT32, SEMANTICS, named
from optverify.verify import verify

FLOATS = [name for name in SEMANTICS if name != "real"]
UNIT = Box([0] * 3, [1] * 3)


def network(seed: int, name: str, inputs: int = 3) -> Network:
    """Return a small network of numbers of the format."""
    rng, semantics = np.random.default_rng(seed), named(name)
    sizes = [inputs, 6, 5, 1]
    steps = [
        (semantics.round(rng.normal(size=(m, n))), semantics.round(rng.normal(size=m))) for n, m in pairwise(sizes)
    ]
    return Network.from_arrays(steps)


@pytest.mark.parametrize(("name", "method"), [("float32", m) for m in METHODS] + [("float16", m) for m in METHODS])
def test_bounds_hold_for_every_order(name: str, method: str) -> None:
    """The bound of each method is below what any order computes, and below that over the reals."""
    net = network(4, name)
    answer = bound(net, UNIT, "Y_0", semantics=name, method=method, time_limit=20)
    real = bound(net, UNIT, "Y_0", method=method)
    assert answer.semantics == name
    assert answer.lower <= real.lower + 1e-9
    executor = Executor(deployed(net, named(name)))
    points = named(name).round(np.random.default_rng(0).uniform(size=(200, 3)))
    least = min(float(executor(points, order).min()) for order in executor.orders())
    best = min(float(executor(np.array(answer.point), order).min()) for order in executor.orders())
    assert answer.lower <= min(least, best)
    assert best <= answer.upper
    if method == "exact":
        assert answer.complete
    assert "every execution" in str(answer)


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("seed", range(3))
def test_verdicts_agree_with_executions(name: str, seed: int) -> None:
    """Thresholds on both sides of the least value: proved, refuted by an execution, or within the band, never wrong."""
    net = network(seed, name)
    low = bound(net, UNIT, "Y_0").lower
    band = 0.0
    for low_end, high_end in deployed(net, named(name)).enclose([Fraction(1)] * 3):
        band = float(high_end - low_end)
    y = outputs(1)[0]
    below = verify(net, Query.always(UNIT, y >= Fraction(low - 8 * band - 1e-6), 1), semantics=name, time_limit=30)
    assert below.verdict is Verdict.VERIFIED
    above = verify(net, Query.always(UNIT, y >= Fraction(low + 8 * band + 1e-3), 1), semantics=name, time_limit=30)
    assert above.verdict is Verdict.FALSIFIED
    assert above.witness is not None
    assert above.witness.execution.startswith(name)
    at = verify(net, Query.always(UNIT, y >= Fraction(low), 1), semantics=name, time_limit=30)
    assert at.verdict is not Verdict.VERIFIED
    if at.verdict is Verdict.UNKNOWN:
        assert "within rounding" in at.reason
        assert at.near_miss is not None


def test_the_statement_is_in_every_form_of_the_answer() -> None:
    """Text, JSON and HTML say which arithmetic, and what is not covered."""
    query = Query.always(UNIT, outputs(1)[0] >= -100, 1)
    for name in SEMANTICS:
        answer = verify(network(0, name), query, semantics=name)
        words = "real arithmetic" if name == "real" else f"{name}: every execution"
        assert words in str(answer)
        assert words in answer._repr_html_()
        assert answer.to_dict()["semantics"] == name
        assert answer.to_dict()["statement"].startswith(words)
        assert ("Winograd" in str(answer)) == (name != "real")


def test_conditions_on_inputs_are_evaluated_exactly() -> None:
    """Y_0 - X_0 with both large: the difference is taken over the reals, of outputs that were rounded."""
    net = Network.from_arrays([([[1.0]], [0.0]), ([[1.0]], [0.0])])
    x, y = inputs(1), outputs(1)
    region = Box([2**24], [2**25])
    assert verify(net, Query.always(region, y[0] - x[0] >= -100, 1), semantics="float32").verdict is Verdict.VERIFIED
    assert verify(net, Query.always(region, y[0] - x[0] > 0, 1), semantics="float32").verdict is Verdict.FALSIFIED


def test_a_region_without_a_number_of_the_format_is_never_falsified() -> None:
    """At 0.1 there is no float32: what holds over the reals nearby is proved, the rest stays unknown."""
    net = Network.from_arrays([([[1.0]], [0.0]), ([[1.0]], [0.0])])
    point, y = Box(["0.1"], ["0.1"]), outputs(1)[0]
    assert verify(net, Query.always(point, y <= "0.11", 1), semantics="float32").verdict is Verdict.VERIFIED
    answer = verify(net, Query.always(point, y <= "0.05", 1), semantics="float32")
    assert answer.verdict is Verdict.UNKNOWN
    with pytest.raises(InputError, match="no float32 number"):
        bound(net, point, "Y_0", semantics="float32")


def test_nothing_is_bounded_where_overflow_is_possible() -> None:
    """-inf and a reason; verify says the same."""
    net = Network.from_arrays([([[2.0**100]], [0.0]), ([[2.0**100]], [0.0]), ([[2.0**-100]], [0.0])])
    for method in METHODS:
        answer = bound(net, Box([0], [1]), "Y_0", semantics="float32", method=method)
        assert (answer.lower, answer.upper) == (-np.inf, np.inf)
        assert not answer.complete
        assert "overflow" in answer.reason
        answer = bound(net, Box([0], [1]), "Y_0", semantics="float32", method=method, sense="max")
        assert (answer.lower, answer.upper) == (-np.inf, np.inf)


def test_backward_bounds_exclude_an_overflow_that_interval_arithmetic_sees() -> None:
    """Two values that cancel, made larger than float16 by one weight if they did not; where they do not, it is said."""
    steps = [([[1.0], [1.0]], [1.0, 1.5]), ([[100.0, -100.0]], [100.0]), ([[1024.0]], [0.0]), ([[0.5]], [0.0])]
    net, y = Network.from_arrays(steps), outputs(1)[0]
    region = Interval(np.array([0.0]), np.array([1.0]))
    assert "overflow is possible" in overflow(deployed(net, FLOAT16), region)
    assert possible_overflow(deployed(net, FLOAT16), region) == ""
    query = Query.always(Box([0], [1]), y <= 30000, 1)
    assert verify(net, query, semantics="float16").verdict is Verdict.VERIFIED
    assert bound(net, Box([0], [1]), y, semantics="float16", method="crown", sense="max").upper <= 30000
    wide = Network.from_arrays([*steps[:1], ([[100.0, 100.0]], [0.0]), *steps[2:]])
    assert "layer 4" in possible_overflow(deployed(wide, FLOAT16), region)
    assert verify(wide, query, semantics="float16").verdict is Verdict.UNKNOWN


def test_bad_questions_are_one_error(tmp_path: Path) -> None:
    """Names and formats must fit; nothing is written."""
    net, query = network(0, "float32"), Query.always(UNIT, outputs(1)[0] >= -100, 1)
    with pytest.raises(InputError, match="unknown semantics 'float8'"):
        verify(net, query, semantics="float8", certificate=str(tmp_path / "proof"))
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="computes in float64"):
        verify(replace(net, format="float64"), query, semantics="float32")


def test_a_stopped_search_is_saved_and_resumed_under_its_semantics(tmp_path: Path) -> None:
    """The saved tree is proved again for the deployed network; for another semantics it is about another network."""
    net = network(8, "float32")
    low = bound(net, UNIT, "Y_0").lower
    query, path = Query.always(UNIT, outputs(1)[0] >= Fraction(low - 1e-4), 1), str(tmp_path / "tree")
    first = verify(net, query, semantics="float32", time_limit=1e-9, save=path)
    assert first.verdict is Verdict.UNKNOWN
    assert Path(path).exists()
    assert verify(net, query, semantics="float32", resume=path).verdict is Verdict.VERIFIED
    with pytest.raises(RejectedCertificate, match="another network"):
        verify(net, query, resume=path)


@pytest.mark.parametrize("folder", ["pendulum", "double_integrator"])
def test_the_command_line_takes_a_semantics(folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both commands, on ONNX files of float32; another format is refused with exit code 3."""
    path = Path(__file__).parent.parent / "examples" / folder / "controller.onnx"
    net = load(path)
    assert net.format == "float32"
    box = Box([-1] * net.n_inputs, [1] * net.n_inputs)
    file = tmp_path / "property.vnnlib"
    file.write_text(write_vnnlib(Query.always(box, outputs(net.n_outputs)[0] >= -1000, net.n_outputs)))
    json_file = tmp_path / "answer.json"
    assert (
        main(["verify", str(path), str(file), "--semantics", "float32", "--json", str(json_file), "--workers", "1"])
        == 0
    )
    assert json.loads(json_file.read_text())["semantics"] == "float32"
    arguments = ["bound", str(path), str(file), "--objective", "Y_0", "--method", "crown", "--semantics", "float32"]
    assert main([*arguments, "--workers", "1"]) == 0
    assert "every execution" in capsys.readouterr().out
    assert main(["verify", str(path), str(file), "--semantics", "float16", "--workers", "1"]) == 3
    assert "computes in float32" in capsys.readouterr().err


def test_half_precision_means_and_slopes_of_files_are_covered() -> None:
    """A reader's network knows its format; the layers of one that does not may hold any numbers."""
    net = network(1, "float64")
    assert not FLOAT16.holds(net.layers[0].weight).all()  # type: ignore[union-attr]
    answer = verify(net, Query.always(UNIT, outputs(1)[0] >= -100, 1), semantics="float16")
    assert answer.verdict is Verdict.VERIFIED
    plain = deployed(network(1, "float32"), FLOAT32).layers[0]
    foreign = deployed(net, FLOAT32).layers[0]
    assert (foreign.slack > plain.slack).all()  # type: ignore[union-attr]


def test_a_witness_is_replayed_in_every_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line for exact arithmetic, each order and onnxruntime; what is no witness is one error with exit code 3."""
    path = Path(__file__).parent.parent / "examples" / "pendulum" / "controller.onnx"
    net = load(path)
    box = Box([-1] * net.n_inputs, [1] * net.n_inputs)
    file, answer = tmp_path / "property.vnnlib", tmp_path / "answer.json"
    file.write_text(write_vnnlib(Query.always(box, outputs(net.n_outputs)[0] >= 1000, net.n_outputs)))
    arguments = ["verify", str(path), str(file), "--semantics", "float32", "--json", str(answer), "--workers", "1"]
    assert main(arguments) == 1
    capsys.readouterr()
    assert main(["replay", str(path), str(answer)]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line.rsplit(maxsplit=net.n_outputs)[0].strip() for line in lines[1:]]
    executor = Executor(deployed(net, FLOAT32))
    assert names[: 1 + len(executor.orders())] == ["exact arithmetic", *(f"float32, {o}" for o in executor.orders())]
    assert names[-1].startswith("onnxruntime")
    values = [float(line.split()[-1]) for line in lines[1:]]
    assert max(values) - min(values) < 1e-3
    answer.write_text('{"witness": null, "near_miss": null}')
    assert main(["replay", str(path), str(answer)]) == 3
    answer.write_text('{"witness": {"x": ["1/0"]}}')
    assert main(["replay", str(path), str(answer)]) == 3
    answer.write_text('{"witness": {"x": ["1/2"]}}')
    assert main(["replay", str(path), str(answer)]) == 3
    assert main(["replay", str(path), str(tmp_path / "nowhere")]) == 3
    assert len(capsys.readouterr().err.splitlines()) == 4
