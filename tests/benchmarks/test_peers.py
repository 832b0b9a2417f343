"""The side-by-side benchmark against stand-ins with the same command line."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.peers import FIELDS, MARABOU, OURS, PEER, main, sample
from benchmarks.vnnlib import Instance

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

STUB = """
import json, sys
verdict, code, witness = json.loads(sys.argv[1])
print(json.dumps({"verdict": verdict, "reason": "stub", "witness": witness}))
sys.exit(code)
"""


def stub(where: Path, text: str) -> tuple[str, ...]:
    """Return the command of a program that always gives the same answer."""
    (where / "stub.py").write_text(STUB)
    return (sys.executable, "-S", str(where / "stub.py"), text)


def rows(path: Path) -> list[dict[str, str]]:
    """Read the result file."""
    with path.open(newline="") as stream:
        found = list(csv.DictReader(stream))
    assert all(tuple(row) == FIELDS for row in found)
    return found


def test_samples_take_from_every_property() -> None:
    """Small groups whole, large ones spread; the same each time; no more than there are."""
    names = ["a"] * 10 + ["b"] * 2 + ["c"]
    instances = [Instance(str(i), name, 1.0, "unknown") for i, name in enumerate(names)]
    assert [i.onnx for i in sample(instances, 6)] == ["0", "3", "6", "10", "11", "12"]
    assert [i.onnx for i in sample(instances, 2)] == ["0", "10"]
    assert sample(instances, 99) == instances


@pytest.mark.parametrize(
    ("witness", "word"), [("[0, 0]", "not true"), ("[1e9, 0]", "not true"), ("null", ""), ("[5, 2]", "true")]
)
def test_two_verifiers_side_by_side(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], witness: str, word: str
) -> None:
    """A row each, the peer's point looked at exactly, a ratio; and nothing is run twice."""
    out = tmp_path / "out.csv"
    commands = {
        OURS: stub(tmp_path, '["falsified", 1, null]'),
        PEER: stub(tmp_path, f'["falsified", 1, {witness}]'),
    }
    options = [str(EXAMPLES), "--csv", str(out), "--match", "box_saturation", "--json", str(tmp_path / "j")]
    assert main(options, commands) == 0
    found = rows(out)
    assert [(row["verifier"], row["verdict"], row["right"]) for row in found] == [
        (OURS, "falsified", "yes"),
        (PEER, "falsified", "yes"),
    ]
    assert [row["witness"] for row in found] == ["", word]
    assert "solved by both: 1" in capsys.readouterr().out
    assert main(options, commands) == 0
    assert len(rows(out)) == 2


def test_only_our_own_mistakes_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A peer that is wrong is shown; one of ours is exit code 1."""
    wrong, right = stub(tmp_path, '["verified", 0, null]'), stub(tmp_path, '["falsified", 1, null]')
    options = [str(EXAMPLES), "--match", "box_saturation", "--csv"]
    assert main([*options, str(tmp_path / "a")], {OURS: right, PEER: wrong}) == 0
    assert "wrong 1" in capsys.readouterr().out
    assert main([*options, str(tmp_path / "b")], {OURS: wrong, PEER: right}) == 1


def test_marabou_missing_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is run or written."""
    for python in ("false", str(tmp_path / "nowhere")):
        with pytest.raises(SystemExit) as caught:
            main([str(EXAMPLES), "--csv", str(tmp_path / "out.csv"), "--python", python])
        assert caught.value.code == 2
        error = capsys.readouterr().err
        assert "Marabou is not there" in error
        assert error.count("\n") == 1
    assert not (tmp_path / "out.csv").exists()


def test_the_worker_says_that_marabou_is_missing() -> None:
    """Without site-packages it is missing on every machine."""
    command = [sys.executable, "-S", "-E", "-I", str(MARABOU), "net.onnx", "prop.vnnlib", "--time-limit", "5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("Marabou is not installed here")
    assert done.stderr.count("\n") == 1
