"""The benchmark script against a stand-in for the verifier that answers, crashes, hangs and forks on demand."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.results import UsageError
from benchmarks.vnnlib import FIELDS, Instance, is_right, main, read_instances, totals

STUB = """
import json, os, signal, subprocess, sys, time
network, prop, option, seconds, json_option, dash = sys.argv[1:]
assert (option, json_option, dash) == ("--time-limit", "--json", "-"), sys.argv
folder = os.path.dirname(prop)
with open(os.path.join(folder, "calls"), "a") as stream:
    stream.write(os.path.basename(prop) + " " + seconds + "\\n")
behaviour = open(prop).read()
def answer(verdict, code, reason=""):
    print(json.dumps({"verdict": verdict, "reason": reason, "seconds": 0.1}))
    sys.exit(code)
exec(behaviour)
"""
VERIFIED = 'answer("verified", 0, "all closed")'
FALSIFIED = 'answer("falsified", 1)'
UNKNOWN = 'answer("unknown", 2, "time limit")'

Folder = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Make a benchmark folder: each keyword is a property `name` with (listed verdict, what the stub does)."""

    def make(**instances: tuple[str, str]) -> Path:
        lines = ["onnx,vnnlib,timeout_s,verdict"]
        for name, (listed, behaviour) in instances.items():
            (tmp_path / name).write_text(behaviour)
            lines.append(f"net.onnx,{name},30,{listed}")
        (tmp_path / "instances.csv").write_text("\n".join(lines) + "\n")
        (tmp_path / "stub.py").write_text(STUB)
        return tmp_path

    return make


def run(where: Path, *options: str) -> int:
    """Run the script in this process on the stub."""
    arguments = [str(where), "--csv", str(where / "out.csv"), "--time-limit", "20", *options]
    return main(arguments, command=(sys.executable, "-S", "-E", str(where / "stub.py")))


def results(where: Path) -> dict[str, dict[str, str]]:
    """Read the result file by property."""
    with (where / "out.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert all(tuple(row) == FIELDS for row in rows)
    assert len({row["vnnlib"] for row in rows}) == len(rows)
    return {row["vnnlib"]: row for row in rows}


def calls(where: Path) -> list[str]:
    """Return which properties the stub was started on."""
    path = where / "calls"
    return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []


def is_gone(pid: int) -> bool:
    """Tell whether a process has ended (a zombie that nobody reaps has)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def eventually(condition: Callable[[], bool]) -> bool:
    """Wait up to ten seconds."""
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def test_verdicts_are_compared(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    """Right, undecided and not comparable answers; nothing wrong, so exit code 0."""
    where = folder(
        a=("unsat", VERIFIED), b=("sat", FALSIFIED), c=("verified", UNKNOWN), d=("unknown", VERIFIED), e=("", FALSIFIED)
    )
    assert run(where) == 0
    rows = results(where)
    assert [(rows[k]["listed"], rows[k]["verdict"], rows[k]["right"], rows[k]["exit"]) for k in "abcde"] == [
        ("verified", "verified", "yes", "0"),
        ("falsified", "falsified", "yes", "1"),
        ("verified", "unknown", "", "2"),
        ("unknown", "verified", "", "0"),
        ("unknown", "falsified", "", "1"),
    ]
    assert (rows["a"]["reason"], rows["c"]["reason"]) == ("all closed", "time limit")
    assert all(0 < float(row["cpu_seconds"]) < 20 and float(row["wall_seconds"]) > 0 for row in rows.values())
    assert all(float(row["peak_mib"]) > 1 for row in rows.values())
    shown = capsys.readouterr().out
    assert "[5/5]" in shown
    for line in ("instances    5", "solved       4", "wrong        0", "unknown      1", "errors       0"):
        assert line in shown


@pytest.mark.parametrize(("listed", "behaviour"), [("sat", VERIFIED), ("unsat", FALSIFIED)])
def test_a_wrong_verdict_is_loud(
    folder: Folder, capsys: pytest.CaptureFixture[str], listed: str, behaviour: str
) -> None:
    """A contradiction is exit code 1, now and on every later look at the same results."""
    where = folder(a=("unsat", VERIFIED), b=(listed, behaviour))
    assert run(where) == 1
    assert results(where)["b"]["right"] == "NO"
    assert run(where) == 1
    assert "WRONG" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("behaviour", "exit_code", "reason"),
    [
        ("sys.exit(3)", "3", "no answer: no output"),
        ("print('optverify: error: no such file', file=sys.stderr); sys.exit(3)", "3", "error: no such file"),
        ("raise RuntimeError('boom')", "1", "no answer: RuntimeError: boom"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "-11", "ended by signal 11"),
        ('print(\'{"verdict": "verified"\'); sys.exit(0)', "0", "no answer"),
        ("print('[1]'); sys.exit(0)", "0", "no answer"),
        ("print('{\"reason\": 1}'); sys.exit(0)", "0", "no answer"),
        ("print('{' * 100000)", "0", "no answer"),
        ("answer('verified', 2)", "2", "exit code 2 with verdict 'verified'"),
        ("answer('verified', 1)", "1", "exit code 1 with verdict 'verified'"),
        ("answer('falsified', 0)", "0", "exit code 0 with verdict 'falsified'"),
        ("answer('perhaps', 0)", "0", "exit code 0 with verdict 'perhaps'"),
        ("answer(['verified'], 0)", "0", "verdict"),
        ("answer('verified', 0); ", "0", ""),
        ("print(json.dumps({'verdict': 'verified'})); sys.stdout.flush(); os.abort()", "-6", "ended by signal 6"),
        ("sys.stdout.buffer.write(bytes(range(256)) * 20000)", "0", "no answer"),
    ],
)
def test_only_a_proper_answer_counts(folder: Folder, behaviour: str, exit_code: str, reason: str) -> None:
    """Crashes, garbage, and answers that the exit code does not confirm are errors; the next instance still runs."""
    where = folder(a=("unsat", behaviour), b=("unsat", VERIFIED))
    assert run(where) == 0
    rows = results(where)
    assert rows["a"]["verdict"] == ("error" if reason else "verified")
    assert rows["a"]["exit"] == exit_code
    assert reason in rows["a"]["reason"]
    assert rows["b"]["right"] == "yes"


def test_a_hanging_instance_is_killed_with_its_children(folder: Folder) -> None:
    """After the time limit and the grace the whole process group goes."""
    hang = """
child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
open(prop + ".pids", "w").write(f"{os.getpid()} {child.pid}")
signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(60)
"""
    where = folder(a=("unsat", hang), b=("unsat", VERIFIED))
    started = time.monotonic()
    assert run(where, "--time-limit", "1", "--grace", "0.5") == 0
    assert 1.5 <= time.monotonic() - started < 30
    rows = results(where)
    assert (rows["a"]["verdict"], rows["a"]["exit"], rows["b"]["verdict"]) == ("error", "-9", "verified")
    assert "still running 0.5 s after the time limit" in rows["a"]["reason"]
    pids = (where / "a.pids").read_text().split()
    assert len(pids) == 2
    assert all(eventually(lambda pid=pid: is_gone(int(pid))) for pid in pids)  # type: ignore[misc]


def test_processes_left_behind_are_killed(folder: Folder) -> None:
    """An instance that answers but leaves a child running, with our output open, delays nothing."""
    leave = f"""
child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
open(prop + ".pid", "w").write(str(child.pid))
{VERIFIED}
"""
    where = folder(a=("unsat", leave))
    started = time.monotonic()
    assert run(where) == 0
    assert time.monotonic() - started < 30
    assert results(where)["a"]["right"] == "yes"
    assert eventually(lambda: is_gone(int((where / "a.pid").read_text())))


def test_processor_time_and_memory_are_measured(folder: Folder) -> None:
    """Processor time includes children; waiting costs none; the peak covers what was allocated."""
    burn = "end = time.process_time() + 0.4\nwhile time.process_time() < end: pass\n"
    child = f"subprocess.run([sys.executable, '-S', '-c', {'import time' + chr(10) + burn!r}])\n"
    where = folder(
        burns=("unsat", burn + VERIFIED),
        child=("unsat", child + VERIFIED),
        sleeps=("unsat", "time.sleep(0.5)\n" + VERIFIED),
        eats=("unsat", "block = b'x' * (200 << 20)\n" + VERIFIED),
    )
    assert run(where) == 0
    rows = results(where)
    for name in ("burns", "child"):
        assert 0.39 < float(rows[name]["cpu_seconds"]) < 10
    assert float(rows["sleeps"]["cpu_seconds"]) < 0.4 < 0.5 <= float(rows["sleeps"]["wall_seconds"])
    # No upper end: Linux counts what this process holds while it starts the child.
    assert float(rows["eats"]["peak_mib"]) >= 200


def test_the_command_line_of_an_instance(folder: Folder) -> None:
    """The limit is handed on; without one each instance has its own."""
    where = folder(a=("unsat", VERIFIED))
    assert run(where, "--time-limit", "7.5") == 0
    arguments = [str(where), "--csv", str(where / "other.csv")]
    assert main(arguments, command=(sys.executable, "-S", str(where / "stub.py"))) == 0
    assert (where / "calls").read_text().splitlines() == ["a 7.5", "a 30"]


def test_a_command_that_does_not_exist(folder: Folder) -> None:
    """A row says so; nothing raises."""
    where = folder(a=("unsat", VERIFIED))
    arguments = [str(where), "--csv", str(where / "out.csv")]
    assert main(arguments, command=(str(where / "nothing-here"),)) == 0
    assert "cannot be started" in results(where)["a"]["reason"]


def test_two_jobs_run_at_once(folder: Folder) -> None:
    """Each of two instances waits for the other to appear."""
    meet = """
open(prop + ".here", "w").close()
other = os.path.join(folder, {other!r} + ".here")
while not os.path.exists(other): time.sleep(0.01)
"""
    where = folder(a=("unsat", meet.format(other="b") + VERIFIED), b=("unsat", meet.format(other="a") + VERIFIED))
    assert run(where, "--jobs", "2") == 0
    assert {row["right"] for row in results(where).values()} == {"yes"}


# --- resuming


def test_resuming_skips_what_has_a_row(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows of earlier runs count in the totals and are not run again, errors included."""
    where = folder(a=("unsat", VERIFIED), b=("unsat", "sys.exit(3)"), c=("sat", FALSIFIED))
    assert run(where, "--match", "a") == 0
    assert calls(where) == ["a"]
    assert run(where) == 0
    assert run(where) == 0
    assert calls(where) == ["a", "b", "c"]
    shown = capsys.readouterr().out
    assert "3 instances, 3 done already" in shown
    assert "[2/3] error" in shown


def test_a_fresh_start_on_request(folder: Folder) -> None:
    """--no-resume forgets earlier results."""
    where = folder(a=("unsat", VERIFIED), b=("unsat", VERIFIED))
    assert run(where) == 0
    assert run(where, "--no-resume", "--match", "b") == 0
    assert calls(where) == ["a", "b", "b"]
    assert list(results(where)) == ["b"]


@pytest.mark.parametrize("torn", [b"n", b'net.onnx,b,verified,verified,yes,0,0.1,0.1,9.0,"all, clo', b"\xff"])
def test_a_torn_last_line_is_dropped(folder: Folder, torn: bytes) -> None:
    """What a kill left of a row is cut off and that instance runs again."""
    where = folder(a=("unsat", VERIFIED), b=("unsat", VERIFIED))
    assert run(where, "--match", "a") == 0
    with (where / "out.csv").open("ab") as stream:
        stream.write(torn)
    assert run(where) == 0
    assert calls(where) == ["a", "b"]
    assert list(results(where)) == ["a", "b"]


def test_a_torn_header_is_written_anew(folder: Folder) -> None:
    """Killed in its very first write, the script starts afresh."""
    where = folder(a=("unsat", VERIFIED))
    (where / "out.csv").write_text("onnx,vnn")
    assert run(where) == 0
    assert list(results(where)) == ["a"]


@pytest.mark.parametrize("text", ["some,other,table\n1,2,3\n", ",".join(FIELDS) + "\n1,2,3\n", "\xff\n"])
def test_other_files_are_not_touched(folder: Folder, capsys: pytest.CaptureFixture[str], text: str) -> None:
    """A file that is not ours is refused and stays as it is."""
    where = folder(a=("unsat", VERIFIED))
    (where / "out.csv").write_text(text, encoding="latin-1")
    with pytest.raises(SystemExit) as caught:
        run(where)
    assert caught.value.code == 2
    assert "out.csv" in capsys.readouterr().err
    assert (where / "out.csv").read_text(encoding="latin-1") == text


def test_reasons_of_any_form_stay_on_one_line(folder: Folder) -> None:
    """Commas, quotes, line breaks of every kind and length cannot break the file."""
    reason = 'one, "two"\nthree\r\n\u2028four\x0b\x1c' + "long " * 500
    where = folder(a=("unsat", f"answer('verified', 0, {reason!r})"), b=("unsat", VERIFIED))
    assert run(where, "--match", "a") == 0
    assert run(where) == 0
    assert calls(where) == ["a", "b"]
    assert results(where)["a"]["reason"].startswith('one, "two" three four long long')
    assert len((where / "out.csv").read_bytes().splitlines()) == 3


def start(where: Path, *options: str) -> subprocess.Popen[str]:
    """Start the script in a process of its own."""
    command = [sys.executable, "-S", str(where / "stub.py")]
    code = f"import sys; from benchmarks.vnnlib import main; sys.exit(main(sys.argv[1:], command={command!r}))"
    arguments = [sys.executable, "-c", code, str(where), "--csv", str(where / "out.csv"), *options]
    root = Path(__file__).resolve().parents[2]
    return subprocess.Popen(arguments, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


SLOW_ONCE = """
first = not os.path.exists(prop + ".pid")
if first:
    with open(prop + ".new", "w") as stream: stream.write(str(os.getpid()))
    os.rename(prop + ".new", prop + ".pid")
    time.sleep(60)
"""


def test_a_killed_run_goes_on_where_it_stopped(folder: Folder) -> None:
    """SIGKILL in the middle of an instance loses that instance only."""
    where = folder(a=("unsat", VERIFIED), b=("unsat", SLOW_ONCE + VERIFIED), c=("sat", FALSIFIED))
    process = start(where)
    assert eventually((where / "b.pid").exists)
    process.kill()
    process.communicate()
    os.killpg(int((where / "b.pid").read_text()), signal.SIGKILL)  # nobody else can, after a SIGKILL
    assert list(results(where)) == ["a"]
    assert run(where) == 0
    assert calls(where) == ["a", "b", "b", "c"]
    assert {row["right"] for row in results(where).values()} == {"yes"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_run_takes_its_instances_along(folder: Folder, number: signal.Signals) -> None:
    """Interrupting ends the running instances too, records nothing about them and starts no more."""
    slow = dict.fromkeys(("b", "c", "d"), ("unsat", SLOW_ONCE + VERIFIED))
    where = folder(a=("unsat", VERIFIED), **slow)
    process = start(where, "--jobs", "2")
    assert eventually(lambda: (where / "b.pid").exists() and (where / "c.pid").exists())
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "run the same command again" in errors
    assert "Traceback" not in errors
    for name in ("b", "c"):
        assert eventually(lambda name=name: is_gone(int((where / f"{name}.pid").read_text())))  # type: ignore[misc]
    assert list(results(where)) == ["a"]
    assert not (where / "d.pid").exists()


# --- the list of instances


def test_instances_of_every_form(tmp_path: Path) -> None:
    """A header in any order, competition files without one, blank lines, repeated lines, a byte order mark."""
    path = tmp_path / "instances.csv"
    path.write_text("\ufeffverdict,vnnlib,onnx,notes\nunsat,p.vnnlib,n.onnx,x\n\nSAT, q.vnnlib ,n.onnx\n,r,n\n")
    assert read_instances(tmp_path) == [
        Instance("n.onnx", "p.vnnlib", None, "verified"),
        Instance("n.onnx", "q.vnnlib", None, "falsified"),
        Instance("n", "r", None, "unknown"),
    ]
    path.write_text("./onnx/a.onnx,./vnnlib/p.vnnlib.gz,116\nb,q,30.5\nb,q,30.5\n")
    assert read_instances(tmp_path) == [
        Instance("./onnx/a.onnx", "./vnnlib/p.vnnlib.gz", 116.0, "unknown"),
        Instance("b", "q", 30.5, "unknown"),
    ]
    assert [instance.vnnlib for instance in read_instances(tmp_path, "p.vnn")] == ["./vnnlib/p.vnnlib.gz"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "instances.csv"),
        ("onnx,property\na,b\n", "header needs the columns"),
        ("onnx,vnnlib,timeout_s,verdict\na,b,1,unsat\na,,1,unsat\n", "line 3: expected"),
        ("a\n", "line 1: expected"),
        ("onnx,vnnlib,timeout_s,verdict\na,b,1,safe\n", "line 2: unknown verdict 'safe'"),
        ("a,b,soon\n", "line 1: timeout_s 'soon' is not a time"),
        ("a,b,nan\n", "line 1: timeout_s 'nan' is not a time"),
        ("a,b,-1\n", "line 1: timeout_s '-1' is not a time"),
    ],
)
def test_bad_lists_of_instances(tmp_path: Path, text: str | None, message: str) -> None:
    """The line is named, and the script ends with exit code 2 before it writes anything."""
    if text is not None:
        (tmp_path / "instances.csv").write_text(text)
    with pytest.raises(UsageError, match=message):
        read_instances(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main([str(tmp_path), "--csv", str(tmp_path / "out.csv")])
    assert caught.value.code == 2
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(
    "options",
    [["--match", "nowhere"], ["--jobs", "0"], ["--time-limit", "0"], ["--time-limit", "nan"], ["--csv", "no/x"]],
)
def test_wrong_options(folder: Folder, options: list[str]) -> None:
    """Options that make no sense end with exit code 2."""
    where = folder(a=("unsat", VERIFIED))
    with pytest.raises(SystemExit) as caught:
        run(where, *options)
    assert caught.value.code == 2
    assert calls(where) == []


def test_a_limit_is_needed_somewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither in the list nor on the command line: an error instead of running for ever."""
    (tmp_path / "instances.csv").write_text("onnx,vnnlib\na,b\n")
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--csv", str(tmp_path / "out.csv")])
    assert "pass --time-limit" in capsys.readouterr().err


def test_what_can_be_compared() -> None:
    """Only two decided verdicts can agree or contradict."""
    verdicts = ("verified", "falsified", "unknown", "error")
    table = {(v, listed): is_right(v, listed) for v in verdicts for listed in verdicts[:3]}
    assert {key for key, value in table.items() if value == "NO"} == {
        ("verified", "falsified"),
        ("falsified", "verified"),
    }
    assert {key for key, value in table.items() if value == "yes"} == {
        ("verified", "verified"),
        ("falsified", "falsified"),
    }


def test_totals_of_known_rows() -> None:
    """Sums, medians and maxima over all rows; wrong answers are listed and not counted as solved."""

    def row(verdict: str, right: str, cpu: float, wall: float, peak: float) -> dict[str, str]:
        cells = ["n.onnx", f"p{cpu}", "falsified", verdict, right, "0", str(cpu), str(wall), str(peak), ""]
        return dict(zip(FIELDS, cells, strict=True))

    text = totals(
        [
            row("falsified", "yes", 1, 2, 10),
            row("verified", "NO", 2, 4, 30),
            row("unknown", "", 6, 9, 20),
            row("error", "", 3, 3, 5),
        ]
    )
    assert text.splitlines() == [
        "instances    4",
        "solved       1",
        "wrong        1",
        "unknown      1",
        "errors       1",
        "cpu s        total 12.0   median 2.50   max 6.00",
        "wall s       total 18.0   median 3.50   max 9.00",
        "peak memory  30 MiB",
        "WRONG: verified, listed falsified: n.onnx p2",
    ]
    assert "instances    0" in totals([])
