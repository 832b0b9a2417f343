"""Campaigns: nothing is lost and nothing is done twice, whatever is killed, full or wrong."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas
import pytest
from distributed import LocalCluster
from onnx import TensorProto, helper, numpy_helper

from optverify import load, load_property, verify
from optverify.campaign import Instance, Progress, Ran, Store, read_instances, run
from optverify.campaign.instances import Identifier, Settings
from optverify.certificate import check_file
from optverify.cli import main
from optverify.errors import ExecutorError, InputError, OutputError, ParseError

N_INPUTS = 8
LIMIT = 0.4
"""Seconds of the instances that nothing decides."""

COMMAND = (sys.executable, "-m", "optverify.cli", "campaign")


def write_network(path: Path, seed: int = 0) -> None:
    """Write a network of random weights that needs a long search."""
    rng = np.random.default_rng(seed)
    tensors, nodes, value = [], [], "x"
    for k, (n, m) in enumerate(pairwise((N_INPUTS, 60, 60, 60, 1))):
        tensors.append(numpy_helper.from_array((rng.normal(size=(n, m)) / np.sqrt(n)).astype(np.float32), f"w{k}"))
        nodes.append(helper.make_node("MatMul", [value, f"w{k}"], [f"z{k}"]))
        value = f"z{k}"
        if k < 3:
            nodes.append(helper.make_node("Relu", [value], [f"a{k}"]))
            value = f"a{k}"
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, n]) for name, n in (("x", N_INPUTS), (value, 1))]
    graph = helper.make_graph(nodes, "random", ends[:1], ends[1:], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def write_property(path: Path, unsafe: str, radius: float = 1) -> None:
    """Write a property over a box about 0."""
    box = "".join(
        f"(declare-const X_{i} Real)(assert (<= X_{i} {radius}))(assert (>= X_{i} -{radius}))" for i in range(N_INPUTS)
    )
    path.write_text(f"{box}(declare-const Y_0 Real)(assert ({unsafe}))")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a folder with a network and properties of every verdict; hard is decided by nobody soon."""
    write_network(tmp_path / "net.onnx")
    write_property(tmp_path / "holds.vnnlib", "<= Y_0 -100")
    write_property(tmp_path / "fails.vnnlib", "<= Y_0 100")
    write_property(tmp_path / "hard.vnnlib", "<= Y_0 -1.5")
    for k in range(4):
        write_property(tmp_path / f"hard{k}.vnnlib", f"<= Y_0 -{1.625 + k / 8}")
        write_property(tmp_path / f"fails{k}.vnnlib", f"<= Y_0 11{k}")
    return tmp_path


def instances(folder: Path, *names: str) -> str:
    """Write the list of the given properties."""
    lines = [f"net.onnx,{name}.vnnlib,{LIMIT}" for name in names]
    (folder / "instances.csv").write_text("\n".join(lines) + "\n")
    return str(folder / "instances.csv")


ALL = ("hard0", "holds", "hard1", "fails", "hard2", "hard3", "fails0", "hard")
VERDICTS = {"holds": "verified", "fails": "falsified", "hard": "unknown"}


def stored(store: Path) -> dict[str, tuple[Any, ...]]:
    """Read a store as any program can, by the name of the property."""
    with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as connection:
        rows = connection.execute("SELECT property, * FROM results").fetchall()
    connection.close()
    return {Path(row[0]).stem: row for row in rows}


def writes(store: Path) -> list[int]:
    """Return how often each row was written: a repetition is 2."""
    with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as connection:
        found = [count for (count,) in connection.execute("SELECT writes FROM results")]
    connection.close()
    return found


def check_verdicts(store: Path, names: Sequence[str]) -> None:
    """Each instance has one row, written once, with the right verdict."""
    verdict = {name: row[[*columns(store)].index("verdict") + 1] for name, row in stored(store).items()}
    assert verdict == {name: VERDICTS[name.rstrip("0123456789")] for name in names}
    assert writes(store) == [1] * len(names)


def columns(store: Path) -> list[str]:
    """Return the names of the columns."""
    with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as connection:
        names = [row[1] for row in connection.execute("PRAGMA table_info(results)")]
    connection.close()
    return names


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for something that will come."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    return [int(child) for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split()]


def is_gone(pid: int) -> bool:
    """Tell whether a process has ended (a zombie that nobody reaps has)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "Ctrl-C"])
def test_a_stopped_campaign_goes_on(folder: Path, blow: signal.Signals, capsys: pytest.CaptureFixture[str]) -> None:
    """What was done is kept, what runs dies with the campaign, and the same command does the rest and no more."""
    store = folder / "results.sqlite"
    arguments = [instances(folder, *ALL), "--store", str(store), "--workers", "2"]
    with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: len(rows_or_none(store)) >= 2)
        workers = children(process.pid)
        process.send_signal(blow)
        _, err = process.communicate(timeout=60)
    until(lambda: all(map(is_gone, workers)))
    before = stored(store)
    assert 2 <= len(before) < len(ALL)
    if blow is signal.SIGINT:
        found = {row[[*columns(store)].index("verdict") + 1] for row in before.values()}
        assert process.returncode == (1 if "falsified" in found else 2)
        assert err == "optverify: stopped early: the same command goes on where this one stopped\n"
    assert main(["campaign", *arguments]) == 1  # some are falsified
    after = stored(store)
    assert {name: after[name] for name in before} == before
    check_verdicts(store, ALL)
    assert "1 verified, 2 falsified, 5 unknown of 8 instances" in capsys.readouterr().out
    assert main(["campaign", *arguments]) == 1
    assert stored(store) == after


def rows_or_none(store: Path) -> dict[str, tuple[Any, ...]]:
    """Read a store that may not have its table yet."""
    try:
        return stored(store)
    except sqlite3.OperationalError:
        return {}


class Killer:
    """Kills the worker that is busy with the second instance, some times."""

    def __init__(self, times: int) -> None:
        self.times, self.done = times, -1
        self.killed: set[int | None] = set()
        self.thread = threading.Thread(target=self._kill)

    def __call__(self, progress: Progress) -> None:
        if self.done < 0:
            self.thread.start()
        self.done = progress.done

    def _kill(self) -> None:
        while self.done < 2 and len(self.killed) < self.times:
            for process in multiprocessing.active_children() if self.done == 1 else ():
                if process.pid not in self.killed:
                    time.sleep(0.1)
                    self.killed.add(process.pid)
                    process.kill()
            time.sleep(0.01)


@pytest.mark.parametrize(("times", "seconds", "verdict"), [(1, 1.5, "unknown"), (3, 60.0, "error")])
def test_a_worker_that_dies_costs_one_attempt_of_its_instance(
    folder: Path, times: int, seconds: float, verdict: str
) -> None:
    """The instance is run again; a third death is its result; its neighbours are not concerned."""
    given = read_instances(instances(folder, "holds", "hard", "fails"), seconds)
    killer = Killer(times)
    ran = run(given, str(folder / "store"), progress=killer)
    killer.thread.join()
    rows = [row for row in ran.rows if row is not None]
    assert [row.verdict for row in rows] == ["verified", verdict, "falsified"]
    assert [row.attempts for row in rows] == [1, min(times + 1, 3), 1]
    assert ("signal 9" in rows[1].reason) == (verdict == "error")
    assert not multiprocessing.active_children()


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    """Start a Dask cluster of two processes."""
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as found:
        yield found


@pytest.mark.filterwarnings("ignore")
def test_a_dask_worker_that_is_killed_costs_nothing(folder: Path, cluster: LocalCluster) -> None:
    """The same command on a cluster, a worker of which is lost in the middle, has the same results."""
    store = folder / "results.sqlite"
    arguments = [instances(folder, *ALL), "--store", str(store), "--executor", "dask"]
    victim = next(iter(cluster.workers.values())).pid

    def kill() -> None:
        until(lambda: len(rows_or_none(store)) >= 2)
        os.kill(victim, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    proofs = folder / "proofs"
    code = main(["campaign", *arguments, "--scheduler", cluster.scheduler_address, "--certificates", str(proofs)])
    killer.join()
    assert code == 1
    until(lambda: is_gone(victim))
    check_verdicts(store, ALL)
    assert len(list(proofs.iterdir())) == 3


@contextmanager
def dask_scheduler(folder: Path, name: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Start a Dask scheduler and a worker as processes; give the scheduler's address and its process."""
    where = folder / name
    dask = (sys.executable, "-m", "distributed.cli.dask_")
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
    with ExitStack() as stack:

        def start(program: str, *options: str) -> subprocess.Popen[bytes]:
            command = [*dask[:2], dask[2] + program, *options, "--scheduler-file", str(where), "--no-dashboard"]
            process = stack.enter_context(subprocess.Popen(command, **quiet))
            stack.callback(process.kill)
            return process

        first = start("scheduler", "--host", "127.0.0.1", "--port", "0")
        start("worker", "--nthreads", "1", "--no-nanny", "--death-timeout", "1")
        until(where.exists)
        yield json.loads(where.read_text())["address"], first


def test_a_dask_scheduler_that_is_killed_ends_the_run_with_one_line(folder: Path) -> None:
    """It names the address and what to do; what has arrived is kept, and another scheduler does the rest."""
    store = folder / "results.sqlite"
    names = ("holds", "fails", "hard0", "hard1", "hard2")
    arguments = [instances(folder, *names), "--store", str(store), "--executor", "dask", "--scheduler"]
    with (
        dask_scheduler(folder, "first") as (address, process),
        subprocess.Popen(
            [*COMMAND, *arguments, address], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as campaign,
    ):
        until(lambda: len(rows_or_none(store)) >= 2)
        process.kill()
        out, err = campaign.communicate(timeout=60)
    assert campaign.returncode == 3
    assert out == ""
    assert err.count("\n") == 1
    assert address in err
    assert "the same command" in err
    before = stored(store)
    assert 2 <= len(before) < len(names)
    with dask_scheduler(folder, "second") as (address, _):
        assert main(["campaign", *arguments, address]) == 1
    after = stored(store)
    assert {name: after[name] for name in before} == before
    check_verdicts(store, names)


def test_a_scheduler_that_does_not_answer_is_an_error(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So are half of the options."""
    monkeypatch.setattr("optverify.campaign.cluster.CONNECT", 0.2)
    arguments = ["campaign", instances(folder, "holds"), "--store", str(folder / "s"), "--executor", "dask"]
    assert main(arguments) == 3
    assert "belong together" in capsys.readouterr().err
    assert main([*arguments, "--scheduler", "tcp://127.0.0.1:9"]) == 3
    assert "no Dask scheduler answers" in capsys.readouterr().err


def test_a_full_disk_loses_nothing(folder: Path) -> None:
    """No file may grow above a limit, as on a full disk: one clear line, all that was written stays, and it goes on."""
    store = folder / "results.sqlite"
    names = [f"fails{k}" for k in range(4)] + ["holds", "hard", "fails"]
    arguments = [instances(folder, *names), "--store", str(store)]
    limit = 20_000  # bytes: some pages for the table, some rows

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False, preexec_fn=small)
    assert done.returncode == 3, done.stderr
    note, error = done.stderr.splitlines()
    assert f"cannot use {store}" in note
    assert "nothing new is started" in note
    assert "make room and run the same command again" in error
    before = stored(store)
    assert 1 <= len(before) < len(names)
    assert main(["campaign", *arguments]) == 1
    after = stored(store)
    assert {name: after[name] for name in before} == before
    check_verdicts(store, names)


def test_what_cannot_be_written_at_first_is_tried_again(folder: Path) -> None:
    """A result that finds no room is written at the end if there is room then."""
    store, proofs = folder / "store", folder / "proofs"
    given = read_instances(instances(folder, "holds", "fails"))

    def swap(progress: Progress) -> None:
        if progress.note:
            proofs.unlink()
            proofs.mkdir()
        elif not progress.done:
            proofs.rmdir()
            proofs.write_text("")

    with pytest.raises(OutputError, match="all results so far are kept"):
        run(given, str(store), certificates=str(proofs), progress=swap)
    with Store(str(store)) as found:
        assert [row.verdict for row in found.rows()] == ["verified"]
    assert run(given, str(store), certificates=str(proofs)).known == 1


def test_certificates_and_answers_are_those_of_verify(folder: Path) -> None:
    """Byte for byte; a certificate that is gone or changed is made again, and nothing else."""
    store, proofs = str(folder / "store"), folder / "proofs"
    given = read_instances(instances(folder, "holds", "fails", "hard"))

    def campaign() -> Ran:
        return run(given, store, certificates=str(proofs))

    first = campaign()
    network = load(str(folder / "net.onnx"))
    for row in first.rows:
        assert row is not None
        query = load_property(row.property)
        mine = folder / "mine"
        alone = verify(network, query, time_limit=LIMIT, certificate=str(mine))
        assert row.verdict == alone.verdict.value
        assert row.network_sha256 == alone.network
        if row.certificate is not None:
            with Store(store) as found:
                answer = json.loads(found.answer(row.key))
            assert (answer["witness"], answer["bound"]) == (alone.to_dict()["witness"], alone.bound)
            assert (proofs / row.certificate).read_bytes() == mine.read_bytes()
            check_file(str(proofs / row.certificate), network, query)
    names = sorted(path.name for path in proofs.iterdir())
    assert len(names) == 2
    (proofs / names[0]).unlink()
    (proofs / names[1]).write_bytes(b"changed")
    assert campaign().known == 1
    assert sorted(path.name for path in proofs.iterdir()) == names
    assert campaign().known == 3


def test_a_changed_file_is_not_taken_for_done(folder: Path) -> None:
    """Identity is content and settings, not names: copies are done, changes are not."""
    store = str(folder / "store")
    path = instances(folder, "holds", "fails")

    def keys(time_limit: float | None = None, settings: Settings = Settings()) -> list[str]:  # noqa: B008
        identifier = Identifier(settings)
        return [identifier.identify(instance).key for instance in read_instances(path, time_limit)]

    first = keys()
    assert keys() == first
    others = [keys(5.0), keys(settings=Settings(seed=1)), keys(settings=Settings(solver=None))]
    others.append(keys(settings=Settings(certificates=True)))
    assert run(read_instances(path), store).known == 0
    write_property(folder / "holds.vnnlib", "<= Y_0 -101")
    (folder / "copy.vnnlib").write_bytes((folder / "fails.vnnlib").read_bytes())
    found = run(read_instances(instances(folder, "holds", "fails", "copy")), store)
    assert found.known == 1
    names = [f"net.onnx {name}.vnnlib" for name in ("holds", "fails", "copy")]
    assert [row and row.name for row in found.rows] == names
    others.append(keys())
    assert others[-1][1] == first[1]
    write_network(folder / "net.onnx", seed=1)
    others.append(keys())
    # Two at first, two for each setting, one for the property, two for the network.
    assert len({key for each in [first, *others] for key in each}) == 2 + 4 * 2 + 1 + 2


def test_wrong_files_are_rows_and_not_the_end(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each row says what is wrong; once the file is there its instance is run."""
    (folder / "broken.vnnlib").write_text("(assert")
    (folder / "instances.csv").write_text(
        "timeout,vnnlib,onnx,verdict\n"
        "9,holds.vnnlib,net.onnx,unsat\n9,broken.vnnlib,net.onnx\n\n9,none.vnnlib,net.onnx\n9,holds.vnnlib,no.onnx\n"
    )
    out = folder / "answer.json"
    arguments = ["campaign", str(folder / "instances.csv"), "--store", str(folder / "s"), "--json", str(out)]
    assert main(arguments) == 3
    answer = json.loads(out.read_text())
    assert answer["counts"] == {"verified": 1, "falsified": 0, "unknown": 0, "error": 3, "not run": 0}
    reasons = [row["reason"] for row in answer["results"]]
    assert "broken.vnnlib" in reasons[1]
    assert "none.vnnlib cannot be read" in reasons[2]
    assert "no.onnx" in reasons[3]
    (folder / "none.vnnlib").write_bytes((folder / "fails.vnnlib").read_bytes())
    assert main(arguments) == 3
    assert json.loads(out.read_text())["counts"]["falsified"] == 1
    assert sorted(writes(folder / "s")) == [1] * 5
    capsys.readouterr()


@pytest.mark.parametrize(
    ("text", "piece"),
    [
        ("", "no instances"),
        ("onnx,vnnlib,timeout\n", "no instances"),
        ("net.onnx,holds.vnnlib,9\nnet.onnx\n", "line 2: expected network,property,timeout"),
        ("net.onnx,,9\n", "line 1"),
        ("net.onnx,holds.vnnlib,soon\n", "'soon' is not a positive number"),
        ("net.onnx,holds.vnnlib,-1\n", "'-1' is not"),
        ("net.onnx,holds.vnnlib,nan\n", "'nan' is not"),
        ("net.onnx,holds.vnnlib,inf\n", "'inf' is not"),
        ('"net.onnx,holds', "unexpected end"),
        (b"\xff\xfe\x00", "decode"),
    ],
)
def test_a_malformed_list_is_an_error_before_the_work(folder: Path, text: str | bytes, piece: str) -> None:
    """The message names the line; nothing is started."""
    path = folder / "instances.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ParseError, match=piece):
        read_instances(str(path))
    assert main(["campaign", str(path), "--store", str(folder / "store")]) == 3
    assert not (folder / "store").exists()


def test_one_campaign_at_a_time_holds_a_store(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A second one is refused and changes nothing; reading is free; the end of the first lets the second in."""
    store = folder / "store"
    arguments = ["campaign", instances(folder, "holds"), "--store", str(store)]
    with Store(str(store)):
        assert stored(store) == {}
        assert main(arguments) == 3
        assert "is in use by another campaign" in capsys.readouterr().err
        assert stored(store) == {}
    assert main(arguments) == 0


def test_a_file_of_something_else_is_refused(folder: Path) -> None:
    """Text, other databases and folders are left as they are."""
    other = folder / "other"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE results (key)")
    connection.close()
    (folder / "text").write_text("no database, but long enough to be taken for one" * 20)
    before = [(folder / name).read_bytes() for name in ("other", "text")]
    for name in ("other", "text"):
        with pytest.raises(InputError, match=r"something else|not a store"):
            Store(str(folder / name))
    assert [(folder / name).read_bytes() for name in ("other", "text")] == before
    with pytest.raises(OutputError, match="unable to open"):
        Store(str(folder / "nowhere" / "store"))


def test_a_store_with_other_columns_is_refused(folder: Path) -> None:
    """It says what to do, and changes nothing."""
    Store(str(folder / "old")).close()
    with sqlite3.connect(folder / "old") as connection:
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    before = (folder / "old").read_bytes()
    with pytest.raises(InputError, match=r"another version of optverify.*choose another store"):
        Store(str(folder / "old"))
    assert (folder / "old").read_bytes() == before


def test_rows_say_which_semantics_they_are_about(folder: Path) -> None:
    """That of the option, that of the file, or the reals; a file that cannot be read is about nothing."""
    store, table = folder / "store", folder / "table.csv"
    (folder / "declared.vnnlib").write_text(
        "(vnnlib-version <2.0>)\n"
        "(declare-network N (declare-input X float32 [1,8])(declare-output Y float32 [1,1]))\n"
        + "".join(f"(assert (and (<= X[0,{i}] 1.0) (>= X[0,{i}] -1.0)))\n" for i in range(N_INPUTS))
        + "(assert (<= Y[0,0] -100.0))\n"
    )
    listed = instances(folder, "holds", "declared", "none")
    command = ["campaign", listed, "--store", str(store), "--export", str(table)]
    for option, about in ([], ["real", "float32", ""]), (["--semantics", "float32"], ["float32"] * 3):
        assert main([*command, *option]) == 3
        with table.open(newline="") as stream:
            lines = list(csv.DictReader(stream))
        assert [line["semantics"] for line in lines] == about
        assert [line["verdict"] for line in lines] == ["verified", "verified", "error"]
    with Store(str(store)) as found:
        assert {row.semantics for row in found.rows() if row.verdict == "error"} == {None, "float32"}


def test_results_are_exported_as_tables(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """CSV and Parquet have the same lines; what cannot be written is refused before the work."""
    store = folder / "store"
    arguments = ["campaign", instances(folder, "holds", "fails"), "--store", str(store)]
    assert main([*arguments, "--export", str(folder / "table.txt")]) == 3
    assert "unknown kind of table" in capsys.readouterr().err
    assert not store.exists()
    for name in ("table.csv", "table.parquet"):
        assert main([*arguments, "--export", str(folder / name)]) == 1
    with (folder / "table.csv").open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    table = pandas.read_parquet(folder / "table.parquet")
    assert [line["verdict"] for line in lines] == list(table["verdict"]) == ["verified", "falsified"]
    assert [float(line["bound"] or "nan") for line in lines][:1] == list(table["bound"])[:1]
    assert list(lines[0]) == list(table.columns)


def test_a_progress_callback_that_fails_harms_no_result(folder: Path) -> None:
    """Its error comes out; what was proved stays proved."""

    def fail(progress: Progress) -> None:
        if progress.latest is not None:
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        run(read_instances(instances(folder, "holds", "hard")), str(folder / "store"), progress=fail)
    check_verdicts(folder / "store", ["holds"])
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("error", [KeyboardInterrupt, ExecutorError, ValueError])
def test_a_progress_callback_that_stops_a_run_leaves_each_row_once(folder: Path, error: type[BaseException]) -> None:
    """Whatever it raises, the row that it was told of is not written again; after the first time it is not called."""
    told: list[Progress] = []

    def stop(progress: Progress) -> None:
        if progress.latest is not None:
            told.append(progress)
            raise error("mine")

    with nullcontext() if error is KeyboardInterrupt else pytest.raises(error, match="mine"):
        run(read_instances(instances(folder, "holds", "fails")), str(folder / "store"), workers=2, progress=stop)
    assert len(told) == 1
    assert set(writes(folder / "store")) == {1}


def test_a_script_that_cannot_start_workers_is_told_so_once(tmp_path: Path) -> None:
    """Without its guard a script is run again by each worker: one error that says so, not one for each instance."""
    script = tmp_path / "script.py"
    script.write_text(
        "from optverify import Network, certify\n"
        "net = Network.from_arrays([([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0])])\n"
        "certify(net, [[0.9, 0.1], [0.8, 0.1]], [0, 0], 0.1)\n"
    )
    here = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False, env=here)
    assert done.returncode == 1
    assert "if __name__ == '__main__':" in done.stderr.splitlines()[-1]
    assert done.stderr.count("Traceback") == 2  # of the one worker that was tried, and of the script


def test_instances_need_no_files() -> None:
    """Networks and properties in memory are instances too; nothing is kept without a store."""
    from optverify import Box, Network, Query, outputs

    net = Network.from_arrays([([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], [0.0])], name="abs")
    queries = [Query.always(Box([-1], [2]), outputs(1)[0] <= top, 1) for top in (3, 1)]
    ran = run([Instance(f"below {k}", net, query) for k, query in enumerate(queries)])
    assert [row and (row.verdict, row.network) for row in ran.rows] == [("verified", "abs"), ("falsified", "abs")]
