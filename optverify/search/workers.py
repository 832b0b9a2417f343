"""Where batches are worked on: in this process, or in others that are started when the search turns out to be long."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pickle import PicklingError
from types import TracebackType
from typing import TYPE_CHECKING

from optverify.query import Goal
from optverify.search.expand import Batch, Expanded, Method, expand

if TYPE_CHECKING:  # a few hundredths of a second, for long searches only
    from concurrent.futures import Future, ProcessPoolExecutor
    from multiprocessing.connection import Connection
    from multiprocessing.synchronize import Event

PATIENCE = 3.0
"""Seconds of search before other processes are started: each costs the CPU time of a start."""

MAX_FAILURES = 3
"""Times that a worker may die before this process does the work itself."""


@dataclass(eq=False)
class Job:
    """A batch that was handed out."""

    goal: int
    method: Method
    batch: Batch
    deadline: float
    future: Future[Expanded | None] | None = None
    pool: ProcessPoolExecutor | None = None


def one_thread() -> AbstractContextManager[object]:
    """Keep BLAS to one thread: the products are small, and threads that wait for them burn a core."""
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[object] = threadpool_limits(limits=1, user_api="blas")
    return limits


def cpu_seconds() -> float:
    """Return the processor time of this process since its start, and of all its children that have ended."""
    return sum(os.times()[:4])


@dataclass(frozen=True)
class Usage:
    """What a search took.

    Parameters
    ----------
    cpu_seconds : float
        Of this process since its start, and of all its children that have ended.
    peak_mib : float or None
        Largest memory of this process, in MiB, plus for each worker that of the largest; None where the system
        does not tell.
    """

    cpu_seconds: float
    peak_mib: float | None


class Crew:
    """Works on batches; a context manager that leaves no process behind.

    A batch whose worker dies is done again, by a new worker, and in this process after a few such deaths. Workers
    end when this process does, however that ends, and leave Ctrl-C to it.

    Parameters
    ----------
    goals : sequence of Goal
        That batches are about.
    workers : int
        1 works in this process only.
    """

    def __init__(self, goals: Sequence[Goal], workers: int = 1) -> None:
        self.goals, self.workers = tuple(goals), workers
        self._started = time.monotonic()
        self._pool: ProcessPoolExecutor | None = None
        self._leash: Connection | None = None
        self._halt: Event | None = None
        self._failures = 0
        self._processes = 0

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def send(self, goal: Goal, method: Method, batch: Batch, deadline: float) -> Job:
        """Hand out a batch."""
        job = Job(self.goals.index(goal), method, batch, deadline)
        if self.workers > 1 and time.monotonic() - self._started > PATIENCE:
            self._submit(job)
        return job

    def receive(self, job: Job) -> Expanded | None:
        """Wait for a batch; None if it is not done by its deadline."""
        while job.future is not None:
            from concurrent.futures import CancelledError
            from concurrent.futures.process import BrokenProcessPool

            try:
                left = job.deadline - time.monotonic()
                return job.future.result(None if left == float("inf") else max(left, 0.0))
            except TimeoutError:
                return None
            except (PicklingError, AttributeError, TypeError):  # a strategy or solver that cannot travel
                self.workers, job.future = 1, None
            except (BrokenProcessPool, CancelledError, OSError):
                job.future = None
                if job.pool is self._pool:  # not yet replaced on account of another batch
                    self.close()
                    self._failures += 1
                if self._failures < MAX_FAILURES:
                    self._submit(job)
                else:
                    self.workers = 1
        return expand(self.goals[job.goal], job.method, job.batch, job.deadline)

    def used(self) -> Usage:
        """Return what this process and the workers, which end now, have taken in all."""
        self.close()
        return Usage(cpu_seconds(), _peak_mib(self._processes))

    def close(self) -> None:
        """End the workers."""
        pool, leash, halt = self._pool, self._leash, self._halt
        self._pool = self._leash = self._halt = None
        if pool is None or leash is None or halt is None:
            return
        # They must not vanish before the pool has handed over what it is about to send: it would wait for ever.
        halt.set()
        try:
            pool.shutdown(wait=True, cancel_futures=True)
        finally:
            leash.close()

    def _submit(self, job: Job) -> None:
        from concurrent.futures import ProcessPoolExecutor
        from concurrent.futures.process import BrokenProcessPool
        from multiprocessing import get_context

        if self._pool is None:
            context = get_context("spawn")
            theirs, self._leash = context.Pipe(duplex=False)
            self._halt = context.Event()
            self._processes = self.workers
            self._pool = ProcessPoolExecutor(self.workers, context, _begin, (self.goals, theirs, self._halt))
        job.pool = self._pool
        try:
            with _undisturbed():  # it may start a worker
                job.future = self._pool.submit(_work, job.goal, job.method, job.batch, job.deadline - time.monotonic())
        except BrokenProcessPool:
            job.future = None  # then it is done here


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Hold Ctrl-C back: half a message would make a new worker complain, and so would the signal itself.

    A worker inherits that the signal is held back.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _peak_mib(workers: int) -> float | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 2.0**20 if sys.platform == "darwin" else 2.0**10
    mine, theirs = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return (mine + workers * theirs) / unit


_goals: tuple[Goal, ...] = ()
_halt: Event | None = None


def _begin(goals: tuple[Goal, ...], leash: Connection, halt: Event) -> None:
    """Make this process a worker."""
    global _goals, _halt
    _goals, _halt = goals, halt
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    one_thread()
    threading.Thread(target=_follow, args=(leash,), daemon=True).start()


def _follow(leash: Connection) -> None:
    """End this process as soon as the other end of the leash is gone, for whatever reason."""
    try:
        leash.recv_bytes()
    except (EOFError, OSError):
        os._exit(0)


def _work(goal: int, method: Method, batch: Batch, seconds: float) -> Expanded | None:
    if _halt is not None and _halt.is_set():
        return None  # nobody waits for it any more
    return expand(_goals[goal], method, batch, time.monotonic() + seconds)
