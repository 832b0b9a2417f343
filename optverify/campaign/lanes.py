"""Processes of this machine, each with one task at a time.

A `concurrent.futures.ProcessPoolExecutor` is broken as a whole when one of its processes dies, and does not say on
which task. Here a death belongs to one task, and the others go on.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from queue import SimpleQueue
from typing import NamedTuple

from optverify.campaign.work import Outcome, Task
from optverify.errors import ExecutorError
from optverify.search.workers import one_thread

GUARD = "a script that asks for processes needs the usual  if __name__ == '__main__':"


class WorkerDied(ExecutorError):
    """A process ended before its task did.

    Parameters
    ----------
    message : str
    attempts : int
        How often the task was tried.
    """

    def __init__(self, message: str, attempts: int = 1) -> None:
        self.attempts = attempts
        super().__init__(message)


class _Job(NamedTuple):
    future: Future[Outcome]
    function: Callable[[Task], Outcome]
    task: Task


class Lanes:
    """Works on tasks in processes that end when this one does, however that ends; they leave Ctrl-C to it.

    Parameters
    ----------
    workers : int
    """

    def __init__(self, workers: int) -> None:
        self.width = workers
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._living: set[SpawnProcess] = set()
        self._closed = False
        self._threads = [threading.Thread(target=self._serve, daemon=True) for _ in range(workers)]
        for thread in self._threads:
            thread.start()

    def submit(self, function: Callable[[Task], Outcome], task: Task) -> Future[Outcome]:
        """Hand out a task; the future raises WorkerDied if its process dies."""
        future: Future[Outcome] = Future()
        self._jobs.put(_Job(future, function, task))
        return future

    def close(self) -> None:
        """Kill what runs; nothing is left behind."""
        with self._lock:
            self._closed = True
            for process in self._living:
                process.kill()
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _serve(self) -> None:
        if hasattr(
            signal, "pthread_sigmask"
        ):  # processes that are started here inherit it, from their first instruction
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        process: _Process | None = None
        while (job := self._jobs.get()) is not None:
            try:
                process = process or self._start()
                outcome = process.run(job)
                if not process.alive():
                    self._end(process)
                    process = None
                job.future.set_result(outcome)
            except BaseException as error:
                if process is not None:
                    self._end(process)
                process = None
                job.future.set_exception(error)
        if process is not None:
            self._end(process)

    def _start(self) -> _Process:
        with self._lock:
            if self._closed:
                raise WorkerDied("the campaign has ended")
            try:
                started = _Process()
            except RuntimeError:  # this is a worker that runs the user's script again
                raise ExecutorError(GUARD) from None
            self._living.add(started.process)
        return started

    def _end(self, process: _Process) -> None:
        process.end()
        with self._lock:
            self._living.discard(process.process)


class _Process:
    """A process and the pipe to it.

    Nobody else holds the other end of the pipe, so even a death in the middle of an answer is seen.
    """

    def __init__(self) -> None:
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self.process = context.Process(target=_live, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()
        self._begun = False

    def run(self, job: _Job) -> Outcome:
        try:
            self._pipe.send((job.function, job.task))
            answer = None
            while not isinstance(answer, Outcome):  # its first message is that it has begun
                if not wait([self._pipe], patience := job.task.patience()):
                    self.process.kill()
                    self.process.join()
                    return Outcome("error", f"killed: still running {patience:g} s after its start")
                answer = self._pipe.recv()
                self._begun = True
            return answer
        except (EOFError, OSError):
            self.process.join()
            if not self._begun and (self.process.exitcode or 0) > 0:  # as all others would
                raise ExecutorError(f"a worker {_end(self.process.exitcode)} before it began: {GUARD}") from None
            raise WorkerDied(f"the process that worked on it {_end(self.process.exitcode)}") from None

    def alive(self) -> bool:
        return self.process.is_alive()

    def end(self) -> None:
        self._pipe.close()
        self.process.kill()
        self.process.join()


def _end(code: int | None) -> str:
    if code is not None and code < 0:
        return f"was ended by signal {-code} ({signal.strsignal(-code)})"
    return f"ended with exit code {code}"


def _live(pipe: Connection) -> None:
    """Work on one task after the other until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()
    with one_thread(), suppress(EOFError, OSError):
        pipe.send(True)
        while True:
            function, task = pipe.recv()
            pipe.send(function(task))


def _follow_parent() -> None:
    """End as soon as the campaign is gone: nobody wants the answer any more."""
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(0)
