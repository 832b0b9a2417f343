"""`optverify radius` and `optverify box`, and the files that inputs come from."""

import json

import numpy as np
import pytest

from optverify import Box, load_property
from optverify.cli import main
from optverify.errors import InputError, ParseError
from optverify.io.points import load_point

NET = "examples/cartpole/controller.onnx"
AREA = ["--domain", "-0.2", "0.2"]


@pytest.fixture
def inputs(tmp_path):
    path = tmp_path / "inputs.csv"
    path.write_text("0.01,0.02,0.03,0.04\n0,0,0.05,0.1\n\n")
    return str(path)


def test_radius(inputs, tmp_path, capsys):
    proof, out = str(tmp_path / "proof"), str(tmp_path / "answer.json")
    assert main(["radius", NET, "--input", inputs, *AREA, "--certificate", proof, "--json", out, "--index", "1"]) == 0
    text = capsys.readouterr().out
    answer = json.loads((tmp_path / "answer.json").read_text())
    assert answer["certified"]
    assert 0 < answer["lower"] <= answer["upper"]
    assert f"{answer['lower']!r} <= radius <= {answer['upper']!r}" in text
    assert main(["check", proof, "--network", NET, "--property", proof + ".vnnlib"]) == 0
    assert "PROVED" in capsys.readouterr().out
    for norm in ("2", "1", "0"):
        given = ["radius", NET, "--input", inputs, *AREA, "--norm", norm, "--json", "-", "--time-limit", "0.3"]
        proof = str(tmp_path / norm)
        assert main([*given, "--certificate", proof]) in (0, 2)
        answer = json.loads(capsys.readouterr().out)
        assert answer["norm"] == norm
        assert answer["certified"]
        for exact in ([], ["--exact"]):
            assert main(["check", proof, "--network", NET, "--property", proof + ".json", *exact]) == 0
            capsys.readouterr()
        assert main(["show", proof + ".json"]) == 0
        assert f"in the norm {norm}" in capsys.readouterr().out


def test_box(inputs, tmp_path, capsys):
    given = ["box", NET, "--input", inputs, *AREA, "--fixed", "0,1", "--step", "0.01"]
    proof = str(tmp_path / "box")
    assert main([*given, "--json", "-", "--certificate", proof]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert main(["check", proof, "--network", NET, "--property", proof + ".vnnlib"]) == 0
    (region,) = {case.region for case in load_property(proof + ".vnnlib").cases}
    assert region == Box(answer["lower"], answer["upper"])
    capsys.readouterr()
    assert [face["stop"] for face in answer["faces"]][:4] == ["fixed"] * 4
    assert answer["complete"]
    assert main(given) == 0
    assert "no point of the box is unsafe" in capsys.readouterr().out
    assert (
        main(["box", NET, "--dual", "--label", "0", "--domain", "-0.2", "0.2", "--step", "0.05", "--time-limit", "60"])
        == 0
    )
    assert "every point of the class" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["radius", NET], "--input"),
        (["radius", NET, "--input", "{inputs}", "--label", "7"], "label 7"),
        (["radius", NET, "--input", "{inputs}", "--index", "2"], "number 2"),
        (["radius", NET, "--input", "{inputs}", "--domain", "0", "0.001"], "outside the domain"),
        (["radius", NET, "--input", "{inputs}", "--certificate", "{inputs}"], "twice"),
        (["radius", NET, "--input", "nothing.csv"], "nothing.csv"),
        (["box", NET], "--input"),
        (["box", NET, "--dual"], "label"),
        (["box", NET, "--dual", "--label", "0", "--property", "c"], "--dual"),
        (["box", NET, "--dual", "--label", "0", "--certificate", "{inputs}/c"], "folder"),
        (["box", NET, "--input", "{inputs}", "--weights", "1,2"], "weights"),
        (["box", NET, "--input", "{inputs}", "--step", "0"], "step"),
    ],
)
def test_bad_commands(arguments, words, inputs, capsys):
    assert main([part.replace("{inputs}", inputs) for part in arguments]) == 3
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_points(tmp_path):
    table = np.array([[0.5, 0.25], [1, 2]])
    np.save(tmp_path / "a.npy", table)
    np.savez(tmp_path / "b.npz", images=table.reshape(2, 1, 2), labels=[1, 2])
    np.savez(tmp_path / "c.npz", first=table, second=table)
    np.save(tmp_path / "d.npy", np.array(["a"]))
    (tmp_path / "e.csv").write_text("0.1,x\n")
    (tmp_path / "f.npy").write_bytes(b"not numpy")
    assert load_point(str(tmp_path / "a.npy"), 1) == [1, 2]
    assert load_point(str(tmp_path / "b.npz")) == [0.5, 0.25]
    for name in ("c.npz", "d.npy", "e.csv", "f.npy", "g.npy"):
        with pytest.raises(ParseError, match=name):
            load_point(str(tmp_path / name))
    with pytest.raises(InputError, match="number 2"):
        load_point(str(tmp_path / "a.npy"), 2)
