"""Other processes: the same answer, nothing lost when one dies, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from optverify import Box, Network, Query, Verdict, bound, outputs, verify
from optverify.search import workers
from optverify.search.branching import Hybrid, Nodes
from optverify.search.expand import Batch, Method
from optverify.search.node import Node
from optverify.search.tree import Progress
from optverify.search.workers import Crew


def random_network(*sizes: int) -> Network:
    """Make a fully connected network whose values neither vanish nor explode."""
    rng = np.random.default_rng(7)
    steps = [(rng.normal(size=(m, n)) / np.sqrt(n), 0.3 * rng.normal(size=m)) for n, m in pairwise(sizes)]
    return Network.from_arrays(steps)


NETWORK = random_network(5, 24, 24, 24, 1)
BOX = Box.around(np.zeros(5), 1, clip=None)
ENDLESS = random_network(5, 60, 60, 60, 1)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start processes from the first batch on."""
    monkeypatch.setattr(workers, "PATIENCE", -1.0)


def provable() -> Query:
    """Return a property that holds by a margin small enough for some thousand nodes."""
    lower = bound(NETWORK, BOX, "Y_0", method="exact", gap=0.05).lower
    return Query.never(BOX, outputs(1)[0] <= lower - 0.02, 1)


def test_the_answer_does_not_depend_on_the_number_of_workers() -> None:
    """Verdict, bound and tree are those of one process."""
    query = provable()
    alone, together = verify(NETWORK, query), verify(NETWORK, query, workers=2)
    assert alone.verdict is together.verdict is Verdict.VERIFIED
    assert alone.nodes == together.nodes > 200
    assert alone.bound == together.bound


def test_an_optimum_does_not_depend_on_the_number_of_workers() -> None:
    """Best-first search takes its batches in the same order too."""
    one, two = (bound(NETWORK, BOX, "Y_0", gap=0.05, workers=n) for n in (1, 2))
    assert (one.lower, one.upper, one.nodes) == (two.lower, two.upper, two.nodes)


def test_the_work_of_a_killed_worker_is_done_again() -> None:
    """Killing a worker at every tenth batch changes nothing in the answer, and leaves no process."""
    query, killed = provable(), []
    expected = verify(NETWORK, query)

    def kill(progress: Progress) -> None:
        mine = children()
        if mine and len(killed) < 10 and progress.nodes > 40 * len(killed):
            killed.append(mine[0])
            os.kill(mine[0], signal.SIGKILL)

    answer = verify(NETWORK, query, workers=2, progress=kill)
    assert killed
    assert (answer.verdict, answer.nodes, answer.bound) == (Verdict.VERIFIED, expected.nodes, expected.bound)
    assert not children()


def test_closing_does_not_wait_for_what_is_not_sent_yet() -> None:
    """Batches larger than the pipe to the workers are on their way when the search ends."""
    (goal,) = Query.never(BOX, outputs(1)[0] <= -1e9, 1).goals(NETWORK)
    batch = Batch(1, tuple(Node.root(goal) for _ in range(500)), -1e9, np.inf)
    for pause in (0.0, 0.5, 1.0, 1.5):
        with Crew([goal], 2) as crew:
            for _ in range(6):
                crew.send(goal, Method(), batch, time.monotonic() + 600)
            time.sleep(pause)
    assert not children()


class Local(Hybrid):
    """A strategy that cannot be sent to another process."""

    def __init__(self) -> None:
        super().__init__()
        object.__setattr__(self, "secret", lambda: None)

    def choose(self, nodes: Nodes) -> list:  # type: ignore[type-arg]
        """Split as usual."""
        return super().choose(nodes)


def test_a_strategy_that_cannot_travel_works_here() -> None:
    """Objects that do not pickle keep the search in this process."""
    answer = verify(NETWORK, provable(), workers=2, strategy=Local())
    assert answer.verdict is Verdict.VERIFIED
    assert not children()


SCRIPT = """
import sys
from optverify import verify
from optverify.search import workers
from tests.search.test_workers import BOX, ENDLESS
from optverify import Query, outputs

if __name__ == "__main__":
    workers.PATIENCE = -1.0
    query = Query.never(BOX, outputs(1)[0] <= float(sys.argv[1]), 1)
    said = []
    def report(progress):
        if progress.nodes > 200 and not said:
            said.append(print("running", flush=True))
    print(verify(ENDLESS, query, workers=2, progress=report).verdict.value)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_process_is_left_behind(tmp_path: Path, number: signal.Signals) -> None:
    """After Ctrl-C the answer comes and the workers are gone; after a kill they follow by themselves."""
    least = bound(ENDLESS, BOX, "Y_0", time_limit=1.0).upper
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, str(path), repr(least - 1e-3)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    started = children(process.pid)
    assert started
    if number is signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does: to all of them
        assert process.communicate(timeout=60)[0] == "unknown\n"
    else:
        process.kill()
        process.communicate(timeout=60)
    deadline = time.monotonic() + 30
    while any(map(alive, started)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, started))


def children(of: int | None = None) -> list[int]:
    """Return the living child processes."""
    parent = os.getpid() if of is None else of
    found = [
        int(pid) for task in Path(f"/proc/{parent}/task").iterdir() for pid in (task / "children").read_text().split()
    ]
    return [pid for pid in found if alive(pid) and b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes()]


def alive(pid: int) -> bool:
    """Tell whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
