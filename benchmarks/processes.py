"""Processes with their processor time and memory, and nothing left behind: what the benchmark scripts share.

A new process counts its parent's memory as its own peak until it has more. So the scripts themselves stay small: they
import neither numpy nor the verifier, and what needs them is done :func:`aside`. Needs Linux (process groups, wait4).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from benchmarks.results import Results, UsageError

T = TypeVar("T")

OUTPUT_LIMIT = 1 << 20
"""Bytes of output kept from one process."""


@dataclass(frozen=True)
class Finished:
    """What one process did.

    Parameters
    ----------
    exit : int
        Exit code; negative: the signal that ended it.
    cpu_seconds, wall_seconds : float
        Processor time of the process, its start-up and the children that it waited for; elapsed time.
    peak_mib : float
        Largest resident memory of one of these processes, in MiB.
    output, errors : str
        The last :data:`OUTPUT_LIMIT` bytes of what it printed.
    failure : str
        Why nothing that it printed counts; empty if it ended by itself.
    """

    exit: int
    cpu_seconds: float
    wall_seconds: float
    peak_mib: float
    output: str = ""
    errors: str = ""
    failure: str = ""

    def answer(self) -> dict[str, Any]:
        """Return the JSON object that it printed.

        Raises
        ------
        ValueError
            There is none; the message says what there is instead.
        """
        if self.failure:
            raise ValueError(self.failure)
        try:
            found = json.loads(self.output[self.output.index("{") :])
            if isinstance(found, dict):
                return found
        except (ValueError, RecursionError):
            pass
        raise ValueError(f"no answer: {self.last_line()}")

    def last_line(self) -> str:
        """Return the last line of the errors, or else of the output."""
        return (self.errors.strip().splitlines() or self.output.strip().splitlines() or ["no output"])[-1][:300]


class Processes:
    """Starts processes, each in a group of its own, and ends the groups.

    Parameters
    ----------
    grace : float
        Seconds past the time limit after which a process is killed.
    """

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._lock = threading.Lock()
        self._living: set[int] = set()
        self._stopped = False

    def run(self, arguments: Sequence[str], seconds: float) -> Finished:
        """Run one process to its end; never raises on account of what the process does."""
        # Files and not pipes: a process left behind by this one would hold a pipe open.
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            started = time.monotonic()
            with self._lock:
                if self._stopped:
                    raise KeyboardInterrupt
                try:
                    process = subprocess.Popen(
                        arguments, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, start_new_session=True
                    )
                except OSError as error:
                    return Finished(127, 0.0, 0.0, 0.0, failure=f"cannot be started: {error}")
                self._living.add(process.pid)
            late = threading.Event()

            def end() -> None:
                late.set()
                self._kill(process.pid)

            timer = threading.Timer(seconds + self._grace, end)
            timer.start()
            try:
                # Wait without reaping: until then no other process can have this id, so killing it is safe.
                os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            finally:  # an interrupt ends the process too
                wall = time.monotonic() - started
                timer.cancel()
                with self._lock:
                    _kill_group(process.pid)  # and what it may have left running
                    self._living.discard(process.pid)
                    _, status, usage = os.wait4(process.pid, 0)
            code = process.returncode = os.waitstatus_to_exitcode(status)
            failure = f"ended by signal {-code} ({signal.strsignal(-code)})" if code < 0 else ""
            if late.is_set():
                failure = f"killed: still running {self._grace:g} s after the time limit"
            return Finished(
                code,
                usage.ru_utime + usage.ru_stime,
                wall,
                usage.ru_maxrss / 1024,
                _tail(output),
                _tail(errors),
                failure,
            )

    def stop(self) -> None:
        """Kill everything that runs and start nothing more."""
        with self._lock:
            self._stopped = True
            for pid in self._living:
                _kill_group(pid)

    def _kill(self, pid: int) -> None:
        with self._lock:
            if pid in self._living:
                _kill_group(pid)


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _tail(stream: Any) -> str:
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - OUTPUT_LIMIT))
    return str(stream.read().decode("utf-8", "replace"))


def aside(function: Callable[..., T], *args: Any) -> T:
    """Call a function in a process of its own, so that what it imports is not in this one.

    Raises
    ------
    UsageError
        For every error of the verifier and of the file system.
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_guarded, function, args).result()


def _guarded(function: Callable[..., T], args: tuple[Any, ...]) -> T:
    from optverify.errors import OptverifyError

    try:
        return function(*args)
    except (OptverifyError, OSError) as error:
        raise UsageError(str(error)) from None


@contextmanager
def terminated_is_interrupted() -> Iterator[None]:
    """Let a polite kill end the processes too."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def recording(path: Path, fields: Sequence[str], resume: bool, *stops: Callable[[], None]) -> Iterator[Results]:
    """Open a result file for a run that may be interrupted; in the end what still runs is stopped."""
    results = Results(path, fields, resume)
    try:
        with terminated_is_interrupted():
            yield results
    finally:
        for stop in stops:
            stop()
        results.close()
