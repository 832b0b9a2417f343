"""Workers of a Dask cluster, through its `concurrent.futures` interface."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Any

from optverify.campaign.lanes import WorkerDied
from optverify.campaign.work import Outcome, Task
from optverify.errors import ExecutorError, InputError, require

CONNECT = 10.0
"""Seconds that a scheduler has to answer."""


class Cluster:
    """Works on tasks wherever a Dask scheduler sends them.

    A task whose worker is lost is run again by the scheduler, as often as its ``allowed-failures`` says.

    Parameters
    ----------
    scheduler : str
        Address, for instance ``tcp://127.0.0.1:8786``.

    Raises
    ------
    MissingExtra
        dask.distributed is not installed.
    InputError
        Nothing answers there.
    """

    def __init__(self, scheduler: str) -> None:
        distributed = require("distributed", "dask")
        logging.getLogger("distributed.client").setLevel(
            logging.CRITICAL
        )  # it shows tracebacks of what is reported here
        self._killed: type[Exception] = require("distributed.scheduler", "dask").KilledWorker
        try:
            self._client: Any = distributed.Client(scheduler, timeout=CONNECT, set_as_default=False)
        except (OSError, ValueError, TypeError) as error:
            raise InputError(f"no Dask scheduler answers at {scheduler}: {error}") from None
        self._scheduler = scheduler
        self._executor = self._client.get_executor(pure=False)
        self._sent: set[Future[Outcome]] = set()

    @property
    def width(self) -> int:
        """Tasks that are worth sending: two for each thread, so that none waits for the next."""
        try:
            return max(1, 2 * sum(map(int, self._client.nthreads().values())))
        except Exception as error:
            raise self._gone() from error

    def submit(self, function: Callable[[Task], Outcome], task: Task) -> Future[Outcome]:
        """Send a task; the future raises WorkerDied if all its workers are lost."""
        answer: Future[Outcome] = Future()
        sent = self._executor.submit(function, task)
        self._sent.add(sent)
        sent.add_done_callback(lambda done: self._pass(done, answer))
        return answer

    def _pass(self, done: Future[Outcome], answer: Future[Outcome]) -> None:
        self._sent.discard(done)
        try:
            answer.set_result(done.result())
        except self._killed as error:
            tried = getattr(error, "allowed_failures", 0) + 1
            answer.set_exception(WorkerDied(f"{tried} workers died while they worked on it", tried))
        except CancelledError:
            answer.set_exception(self._gone())
        except Exception as error:
            answer.set_exception(ExecutorError(f"Dask: {type(error).__name__}: {error}"))

    def _gone(self) -> ExecutorError:
        return ExecutorError(
            f"the Dask scheduler at {self._scheduler} is gone: start one with workers and run the same command "
            "with its address; what is in the store is not run again"
        )

    def close(self) -> None:
        """Cancel what waits; what runs on the cluster comes to its own end."""
        for future in list(self._sent):
            future.cancel()
        self._client.close()
