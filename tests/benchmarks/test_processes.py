"""What the benchmark scripts measure of a process."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.processes import Finished
from tests.benchmarks.test_vnnlib_runner import eventually, is_gone

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", ["vnnlib", "optimise", "peers", "certificates"])
def test_the_scripts_stay_small(name: str) -> None:
    """A process inherits its parent's peak memory: what is large is done aside."""
    code = f"import sys, benchmarks.{name}; print(sorted({{'numpy', 'optverify', 'rich', 'onnx'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("megabytes", [0, 60])
def test_memory_and_time_are_those_of_the_process(megabytes: int) -> None:
    """Measured by a script as small as the real ones."""
    code = (
        "import sys; from benchmarks.processes import Processes;"
        f"work = 'x = b\"1\" * ({megabytes} << 20); [None for _ in range(3000000)]';"
        "done = Processes(9).run([sys.executable, '-S', '-c', work], 30); print(done.peak_mib, done.cpu_seconds)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    peak, seconds = map(float, done.stdout.split())
    assert megabytes < peak < megabytes + 60
    assert 0.01 < seconds < 20


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_script_ends_at_once(tmp_path: Path, number: signal.Signals) -> None:
    """It takes the running process along and does not wait for its time limit."""
    stub = tmp_path / "stub.py"
    stub.write_text("import os, sys, time\nopen(sys.argv[2] + '.pid', 'w').write(str(os.getpid()))\ntime.sleep(60)\n")
    (tmp_path / "instances.csv").write_text("a,b,50\n")
    command = (sys.executable, "-S", str(stub))
    arguments = [str(tmp_path), "--csv", str(tmp_path / "out.csv")]
    code = f"import sys; from benchmarks.peers import main; sys.exit(main({arguments!r}, {{'optverify': {command!r}}}))"
    script = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    started = tmp_path / "b.pid"
    assert eventually(lambda: started.exists() and started.read_text().isdigit())
    script.send_signal(number)
    _, errors = script.communicate(timeout=25)
    assert script.returncode == 130
    assert errors == "interrupted: run the same command again to go on\n"
    assert eventually(lambda: is_gone(int(started.read_text())))


@pytest.mark.parametrize(
    ("output", "errors", "words"),
    [
        ("", "", "no output"),
        ("hello\n", "", "hello"),
        ("hello\n", "Traceback\nValueError: x\n", "ValueError: x"),
        ("[1]", "", "1"),
        ("{", "", "{"),
        ("{" * 100_000, "", "{"),
    ],
)
def test_an_answer_is_an_object_or_an_error(output: str, errors: str, words: str) -> None:
    """The last line says what there is instead."""
    assert Finished(0, 0, 0, 0, 'noise {"a": 1}').answer() == {"a": 1}
    with pytest.raises(ValueError, match="no answer") as caught:
        Finished(0, 0, 0, 0, output, errors).answer()
    assert words in str(caught.value)
    with pytest.raises(ValueError, match="killed"):
        Finished(0, 0, 0, 0, '{"a": 1}', failure="killed").answer()
