"""Certified accuracy: exact on networks whose radii are known, never above the truth where time is short."""

from __future__ import annotations

import csv
import json
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from optverify import Box, Network, Query, Verdict, certify, load_property, verify
from optverify.campaign import Progress, Store
from optverify.certificate import check_file
from optverify.cli import main
from optverify.errors import InputError, ShapeError, require
from optverify.io.data import read_data

LARGER = Network.from_arrays([(np.eye(2), np.zeros(2))])
"""The larger input wins; the radius is half the difference."""

POINTS = [["0.9", "0.1"], ["0.1", "0.7"], ["0.5", "0.5"], ["0.6", "0.5"], ["0.2", "0.8"]]
LABELS = [0, 1, 0, 0, 0]
"""Radii 2/5, 3/10, a tie, 1/20, misclassified."""

EPS = ["0.3", "0.05", "0.04", "0.299", "0.5"]


def test_curves_of_known_radii_are_exact(tmp_path: Path) -> None:
    """At the radius itself there is a tie, which is a mistake: decided exactly, to the last digit."""
    seen: list[Progress] = []
    answer = certify(LARGER, POINTS, LABELS, EPS, store=str(tmp_path / "s"), progress=seen.append)
    assert (answer.inputs, answer.correct, answer.clean_accuracy) == (5, 3, 0.6)
    assert [level.eps for level in answer.levels] == [0.04, 0.05, 0.299, 0.3, 0.5]
    assert [level.certified for level in answer.levels] == [3, 2, 2, 1, 0]
    assert [level.falsified for level in answer.levels] == [2, 3, 3, 4, 5]
    assert not any(level.undecided for level in answer.levels)
    assert answer.certified_up_to == (3, 2, None, 0, None)
    assert answer.falsified_from == (4, 3, 0, 1, 0)
    assert answer.complete
    assert list(answer.to_frame()["certified_accuracy"]) == [0.6, 0.4, 0.4, 0.2, 0.0]
    assert list(answer.to_frame()["empirical_accuracy"]) == [0.6, 0.4, 0.4, 0.2, 0.0]
    assert "certified 3 of 5, empirically robust 3 of 5, undecided 0" in str(answer)
    assert all(p.total == 25 for p in seen)
    with Store(str(tmp_path / "s")) as store:
        rows = store.rows()
    assert len(rows) <= 9  # a bisection: 3 inputs that are right, at most 3 of 5 radii each
    assert certify(LARGER, POINTS, LABELS, EPS, store=str(tmp_path / "s")) == answer
    with Store(str(tmp_path / "s")) as store:
        assert store.rows() == rows


def test_a_radius_is_printed_with_all_its_digits() -> None:
    """Six digits would say something about a larger ball: here that one has a tie."""
    answer = certify(LARGER, [["0.9", "0.10000004"]], [0], ["0.39999997", 0])
    assert [level.certified for level in answer.levels] == [1, 1]
    assert "eps 0.39999997" in str(answer)
    assert "eps 0 " in str(answer)


def test_each_level_is_what_verify_says(tmp_path: Path) -> None:
    """Monotone use changes no answer: a random network, every input, every radius; certificates are accepted."""
    rng = np.random.default_rng(5)
    net = Network.from_arrays([(rng.normal(size=(6, 3)), rng.normal(size=6)), (rng.normal(size=(3, 6)), np.zeros(3))])
    points, radii = rng.uniform(0, 1, (6, 3)).astype(np.float32), ["0.02", "0.1", "0.3"]
    labels = [int(np.argmax(net(x.astype(float)))) for x in points]
    answer = certify(net, points, labels, radii, workers=2, certificates=str(tmp_path / "proofs"))
    assert answer.correct == 6
    for j, eps in enumerate(radii):
        verdicts = [
            verify(net, Query.robust(Box.around(x, eps, (0, 1)), label, 3)).verdict
            for x, label in zip(points, labels, strict=True)
        ]
        assert answer.levels[j].certified == verdicts.count(Verdict.VERIFIED)
        assert answer.levels[j].falsified == verdicts.count(Verdict.FALSIFIED)
    assert 0 < answer.levels[1].certified < 6
    proofs = list((tmp_path / "proofs").glob("*.proof"))
    assert len(proofs) >= 6
    for proof in proofs:
        check_file(str(proof), net, load_property(str(proof.with_suffix(".vnnlib"))))


@pytest.mark.parametrize("radius", [False, True])
def test_in_a_format_all_executions_count(radius: bool, tmp_path: Path) -> None:
    """Beside the label's x + 2048 - 2048, which is 0 or x or what float16 makes of it, stands 1/4."""
    net = Network.from_arrays([([[1.0, 2048.0, -2048.0], [0.0, 0.0, 0.0]], [0.0, 0.25])])
    swallowed, plain = ["1", "1", "1"], ["1", "0", "0"]
    answer = certify(net, [swallowed, plain], [0, 0], ["0.00001"], semantics="float16", radius=radius)
    real = certify(net, [swallowed, plain], [0, 0], ["0.00001"], radius=radius)
    assert (answer.semantics, answer.correct, real.correct) == ("float16", 1, 2)
    assert (answer.levels[0].certified, answer.levels[0].falsified) == (1, 1)
    assert "float16" in str(answer)
    # 0.9 is no number of float16: the program is given the nearest one.
    rounded = certify(LARGER, [["0.9", "0.1"]], [0], ["0.3", "0.45"], semantics="float16", radius=radius)
    assert [level.certified for level in rounded.levels] == [1, 0]
    assert [level.falsified for level in rounded.levels] == [0, 1]
    with pytest.raises(InputError, match="float9"):
        certify(net, [plain], [0], ["0.1"], semantics="float9", store=str(tmp_path / "s"))


def test_what_is_not_decided_in_time_is_not_safe(tmp_path: Path) -> None:
    """With no time to speak of there are no proofs; brackets stay on both sides of the truth."""
    rng = np.random.default_rng(1)
    sizes = (8, 60, 60, 60, 3)
    steps = [(rng.normal(size=(m, n)) / np.sqrt(n), np.zeros(m)) for n, m in pairwise(sizes)]
    net = Network.from_arrays(steps)
    points = rng.uniform(0, 1, (2, 8))
    labels = [int(np.argmax(net(x))) for x in points]
    eps = ["1e-6", "0.05"]
    answer = certify(net, points, labels, eps, time_limit=1e-3, store=str(tmp_path / "s"))
    assert answer.correct == 2
    with Store(str(tmp_path / "s")) as store:
        verdicts = [row.verdict for row in store.rows()]
    assert "unknown" in verdicts
    undecided = [level.undecided for level in answer.levels]
    assert sum(undecided) > 0
    assert all(level.certified + level.falsified + level.undecided == 2 for level in answer.levels)
    assert answer.to_dict()["levels"][1]["certified_accuracy"] < answer.to_dict()["levels"][1]["empirical_accuracy"]


def test_the_curve_of_brackets_is_that_of_the_radii(tmp_path: Path) -> None:
    """Known radii; proofs are accepted for the very balls; the same call asks nothing again."""
    place = {"store": str(tmp_path / "s"), "certificates": str(tmp_path / "proofs")}
    answer = certify(LARGER, POINTS, LABELS, EPS, radius=True, **place)  # type: ignore[arg-type]
    truth = [Fraction(2, 5), Fraction(3, 10), 0, Fraction(1, 20), 0]
    for ends, exact in zip(answer.brackets, truth, strict=True):
        assert ends is not None
        assert ends[0] <= exact <= ends[1] <= float(exact) * (1 + 1e-12)
        assert ends[1] - ends[0] <= 1e-4 * (1 + 1e-9) * ends[1]
    # 0.05 and 0.3 are radii: a tie there, a counterexample at a distance that is rounded up.
    assert [level.certified for level in answer.levels] == [3, 2, 2, 1, 0]
    assert [level.falsified for level in answer.levels][2] == 3
    assert [level.falsified + level.undecided for level in answer.levels] == [2, 3, 3, 4, 5]
    proofs = sorted((tmp_path / "proofs").glob("*.proof"))
    assert len(proofs) == 3
    boxes = set()
    for proof in proofs:
        query = load_property(str(proof.with_suffix(".vnnlib")))
        assert check_file(str(proof), LARGER, query).kind == "verified"
        boxes |= {case.region for case in query.cases}
    assert boxes == {Box.around(POINTS[k], answer.brackets[k][0], (0, 1)) for k in (0, 1, 3)}  # type: ignore[index]
    with Store(str(tmp_path / "s")) as store:
        rows = store.rows()
    assert [row.verdict for row in rows] == ["measured"] * 3
    assert certify(LARGER, POINTS, LABELS, EPS, radius=True, **place) == answer  # type: ignore[arg-type]
    with Store(str(tmp_path / "s")) as store:
        assert store.rows() == rows
    statements = [proof.with_suffix(".vnnlib") for proof in proofs]
    before = [path.read_bytes() for path in (*proofs, *statements)]
    proofs[0].unlink()  # what is lost or changed is made again
    statements[1].unlink()
    statements[2].write_text("(assert false)")
    assert certify(LARGER, POINTS, LABELS, EPS, radius=True, **place) == answer  # type: ignore[arg-type]
    assert [path.read_bytes() for path in (*proofs, *statements)] == before
    steps = certify(LARGER, POINTS, LABELS, radius=True, store=str(tmp_path / "s"), certificates=place["certificates"])
    assert [level.certified for level in steps.levels] == [3, 2, 1]
    assert [level.eps for level in steps.levels] == sorted(steps.brackets[k][0] for k in (0, 1, 3))  # type: ignore[index]


@pytest.mark.parametrize("radius", [False, True])
def test_the_figure_steps_where_the_truth_does(radius: bool) -> None:
    """Proofs count to the left of their radius, counterexamples to the right; known radii lie between the lines."""
    from optverify.plots import plot_accuracy

    answer = certify(LARGER, POINTS, LABELS, ["0.04", "0.2"], radius=radius)
    ax = plot_accuracy(answer)
    certified, robust = ax.lines
    truth = [Fraction(2, 5), Fraction(3, 10), Fraction(1, 20)]
    for x in np.linspace(0.045, 0.195, 16):
        share = sum(x < true for true in truth) / 5
        below = dict(zip(*certified.get_data(), strict=True))
        above = dict(zip(*robust.get_data(), strict=True))
        low = below[min(end for end in below if end >= x)]
        high = above[max(end for end in above if end <= x)]
        assert low <= share <= high
        assert low == high or not radius
    assert (certified.get_drawstyle(), robust.get_drawstyle()) == ("steps-pre", "steps-post")
    require("matplotlib.pyplot", "plots").close(ax.figure)


def test_a_stopped_measurement_goes_on(tmp_path: Path) -> None:
    """Ctrl-C after the first answer leaves the others undecided; the next call asks only about them."""
    seen: list[Progress] = []

    def stop(p: Progress) -> None:
        seen.append(p)
        if len(seen) == 2:
            raise KeyboardInterrupt

    first = certify(LARGER, POINTS, LABELS, "0.1", radius=True, store=str(tmp_path / "s"), progress=stop)
    assert not first.complete
    assert first.levels[0].certified < 2
    with Store(str(tmp_path / "s")) as store:
        kept = store.rows()
    assert len(kept) == 1
    whole = certify(LARGER, POINTS, LABELS, "0.1", radius=True, store=str(tmp_path / "s"))
    assert (whole.complete, whole.levels[0].certified, whole.levels[0].undecided) == (True, 2, 0)
    with Store(str(tmp_path / "s")) as store:
        assert store.rows()[:1] == kept


def test_wrong_data_are_one_error_before_the_work(tmp_path: Path) -> None:
    """Sizes, labels, domains, values that are not numbers, radii."""
    good = [[0.1, 0.2]]
    for inputs, labels, eps, domain, piece in (
        ([[0.1, 0.2, 0.3]], [0], 0.1, (0, 1), "3 values"),
        (good, [0, 1], 0.1, (0, 1), "expected"),
        ([0.1, 0.2], [0, 1], 0.1, (0, 1), "expected"),
        ([[]], [0], 0.1, (0, 1), "0 values"),
        (good, [2], 0.1, (0, 1), "from 0 to 1"),
        (good, [-1], 0.1, (0, 1), "from 0 to 1"),
        (good, [0.0], 0.1, (0, 1), "whole numbers"),
        ([[0.1, np.nan]], [0], 0.1, (0, 1), r"inputs\[0\]"),
        ([[0.1, np.inf]], [0], 0.1, None, r"inputs\[0\]"),
        ([[0.1, 0.2], [0.1, 7]], [0, 0], 0.1, (0, 1), r"inputs\[1\].*domain|inputs\[1\].*outside"),
        (good, [0], -0.1, (0, 1), "negative"),
        (good, [0], [], (0, 1), "at least one"),
        (good, [0], np.nan, (0, 1), "nan"),
    ):
        with pytest.raises((InputError, ShapeError), match=piece):
            certify(LARGER, inputs, labels, eps, domain=domain, store=str(tmp_path / "s"))  # type: ignore[arg-type]
    assert not (tmp_path / "s").exists()
    one = Network.from_arrays([([[1.0, 1.0]], [0.0])])
    with pytest.raises(InputError, match="at least 2 classes"):
        certify(one, good, [0], 0.1)
    with pytest.raises(InputError, match="at least one worker"):
        certify(LARGER, good, [0], 0.1, workers=0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write a network of two 8-input classes as .nnet, and data in bytes."""
    rng = np.random.default_rng(3)
    sizes = (4, 24, 24, 2)
    lines = [
        "// random",
        "3,4,2,24,",
        ",".join(map(str, sizes)) + ",",
        "0",
        "0,0,0,0,",
        "1,1,1,1,",
        "0,0,0,0,0,",
        "1,1,1,1,1,",
    ]
    for n, m in pairwise(sizes):
        lines += [",".join(map(repr, row.tolist())) + "," for row in rng.normal(size=(m, n)) / np.sqrt(n)]
        lines += [f"{value!r}," for value in (0.1 * rng.normal(size=m)).tolist()]
    (tmp_path / "net.nnet").write_text("\n".join(lines) + "\n")
    np.savez(tmp_path / "data.npz", images=rng.integers(0, 256, (6, 2, 2)).astype(np.uint8), y=rng.integers(0, 2, 6))
    return tmp_path


def test_the_command_certifies_a_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bytes are divided exactly; the answer comes as text and as JSON; a second run only reads."""
    data, out = str(folder / "data.npz"), folder / "answer.json"
    inputs, labels = read_data(data, 255)
    assert {v.denominator for v in inputs.ravel()} <= {1, 3, 5, 15, 17, 51, 85, 255}
    arguments = ["certify", str(folder / "net.nnet"), data, "--eps", "0.01,0.2", "--store", str(folder / "s")]
    assert main(arguments) == 3
    assert "outside" in capsys.readouterr().err
    code = main([*arguments, "--divide-by", "255", "--json", str(out), "--workers", "2", "--timeout", "20"])
    answer = json.loads(out.read_text())
    assert code == 0
    assert "Certified accuracy, l-inf" in capsys.readouterr().out
    mine = certify(
        str(folder / "net.nnet"), inputs, labels, [Fraction("0.2"), "0.01"], time_limit=20.0, store=str(folder / "s")
    )
    assert json.loads(json.dumps(mine.to_dict())) == answer
    assert all(level["undecided"] == 0 for level in answer["levels"])
    assert main([*arguments, "--divide-by", "255", "--json", str(out), "--radius"]) == 0
    measured = json.loads(out.read_text())
    assert [level["certified"] for level in measured["levels"]] == [level["certified"] for level in answer["levels"]]
    assert len(measured["brackets"]) == 6
    plotted = [*arguments, "--divide-by", "255", "--radius", "--plot"]
    assert main([*plotted, str(folder / "curve.svg")]) == 0
    assert "<svg" in (folder / "curve.svg").read_text()
    assert main([*arguments, "--divide-by", "255", "--radius", "--export", str(folder / "curve.csv")]) == 0
    with (folder / "curve.csv").open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert [int(line["certified"]) for line in lines] == [level["certified"] for level in measured["levels"]]
    assert main([*plotted, str(folder / "curve.gif")]) == 3
    assert "expected one of .svg, .pdf, .png" in capsys.readouterr().err


def test_every_command_reads_a_file_without_a_format_in_the_one_that_is_asked_for(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A range of 0.01 is no number of float32: a program in float32 has the nearest one, whichever command asks."""
    lines = (folder / "net.nnet").read_text().splitlines()
    lines[4] = "0.01,0.01,0.01,0.01,"
    (folder / "net.nnet").write_text("\n".join(lines) + "\n")
    net, proof, about = str(folder / "net.nnet"), str(folder / "proof"), ["--semantics", "float32"]
    box = "".join(f"(declare-const X_{i} Real)(assert (<= 0.02 X_{i} 0.1))" for i in range(4))
    (folder / "p.vnnlib").write_text(f"{box}(declare-const Y_0 Real)(declare-const Y_1 Real)(assert (<= Y_0 -100))")
    (folder / "instances.csv").write_text("net.nnet,p.vnnlib,20\n")
    np.save(folder / "x.npy", np.full((1, 4), 0.5, np.float32))
    assert main(["verify", net, str(folder / "p.vnnlib"), *about, "--certificate", proof]) == 0
    assert main(["check", proof, "--network", net, "--property", str(folder / "p.vnnlib")]) == 0
    place = ["--store", str(folder / "s"), "--certificates", str(folder / "proofs"), *about]
    assert main(["campaign", str(folder / "instances.csv"), *place]) == 0
    assert [path.read_bytes() for path in (folder / "proofs").iterdir()] == [Path(proof).read_bytes()]
    assert main(["certify", net, str(folder / "data.npz"), "--divide-by", "255", "--eps", "1e-4", *place]) == 0
    with Store(str(folder / "s")) as store:
        assert len({row.network_sha256 for row in store.rows()}) == 1
    measured = ["--input", str(folder / "x.npy"), *about, "--time-limit", "20"]
    assert main(["radius", net, *measured, "--certificate", proof]) in (0, 2)
    assert main(["check", proof, "--network", net, "--property", proof + ".vnnlib", "--exact"]) == 0
    assert main(["box", net, *measured]) in (0, 2)
    capsys.readouterr()


@pytest.mark.parametrize(
    ("options", "piece"),
    [
        (["--eps", "much"], "much"),
        (["--eps", "0.1", "--domain", "0", "x"], "'x'"),
        (["--eps", "0.1", "--domain", "0", "0.001"], "lies outside the domain [0, 0.001"),
        (["--eps", "0.1", "--divide-by", "0"], "positive"),
        (["--eps", "0.1", "--solver", "none such"], "none such"),
    ],
)
def test_wrong_options_are_one_line(
    folder: Path, options: list[str], piece: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 3 and no store."""
    arguments = ["certify", str(folder / "net.nnet"), str(folder / "data.npz"), "--store", str(folder / "s")]
    assert main([*arguments, "--divide-by", "255", *options]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert piece in err
    assert not (folder / "s").exists()


def test_data_may_lie_anywhere_in_their_domain(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bytes as they are, in their domain or in none; the commands around one input take the same options."""
    network, points = LARGER, [[200, 100], [-50, 20]]
    for domain, certified in (((-100, 255), [2, 0]), (None, [2, 0]), ((-50, 200), [2, 0])):
        answer = certify(network, points, [0, 1], [30, 60], domain=domain)
        assert [level.certified for level in answer.levels] == certified
    arguments = ["certify", str(folder / "net.nnet"), str(folder / "data.npz"), "--eps", "0.001"]
    np.save(folder / "x.npy", np.full((1, 4), 7.0))
    around = ["radius", str(folder / "net.nnet"), "--input", str(folder / "x.npy"), "--time-limit", "20"]
    for options in (["--domain", "0", "255"], ["--no-domain"]):
        assert main([*arguments, *options]) == 0
        assert main([*around, *options]) == 0
    capsys.readouterr()
    assert main(["box", str(folder / "net.nnet"), "--dual", "--label", "0", "--no-domain"]) == 3
    assert "needs --domain LO HI" in capsys.readouterr().err


def test_files_that_hold_no_data_are_refused(tmp_path: Path) -> None:
    """Missing, torn, pickled, without the arrays."""
    path = tmp_path / "data.npz"
    with pytest.raises(InputError, match="cannot be read"):
        read_data(str(path))
    path.write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(InputError, match=r"not an \.npz"):
        read_data(str(path))
    np.savez(path, inputs=np.array([[object()]], dtype=object), labels=np.zeros(1, int))
    with pytest.raises(InputError, match=r"not an \.npz"):
        read_data(str(path))
    np.savez(path, points=np.zeros((1, 2)))
    with pytest.raises(InputError, match="expected inputs and labels"):
        read_data(str(path))
    path.write_bytes(b"")
    with pytest.raises(InputError, match=r"not an \.npz"):
        read_data(str(path))
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(InputError, match=r"not an \.npz"):
        read_data(str(tmp_path / "one.npy"))
