"""Run instances, in processes or on a cluster, and keep each result as it comes."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from optverify.campaign.instances import Identified, Identifier, Instance, Settings, distinct
from optverify.campaign.kept import Kept, named
from optverify.campaign.lanes import Lanes, WorkerDied
from optverify.campaign.store import MEMORY, Row
from optverify.campaign.work import Outcome, Task, work
from optverify.errors import ExecutorError, InputError, OutputError
from optverify.semantics import named as arithmetic
from optverify.solvers import LINEAR

MAX_ATTEMPTS = 3
"""Times that an instance is started before the deaths of its workers are its result."""


class Pool(Protocol):
    """Where tasks are worked on."""

    @property
    def width(self) -> int:
        """How many tasks to hand out at a time."""

    def submit(self, function: Callable[[Task], Outcome], task: Task) -> Future[Outcome]:
        """Hand out a task; a lost worker is WorkerDied, a lost pool ExecutorError."""

    def close(self) -> None:
        """Give up what is not done."""


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Parameters
    ----------
    done, total : int
    known : int
        Of `done`, the ones that had an answer before.
    verdicts : mapping of str to int
    latest : Row or None
    note : str
        What the user should know now; mostly empty.
    """

    done: int
    total: int
    known: int
    verdicts: Mapping[str, int]
    latest: Row | None
    note: str = ""


@dataclass(frozen=True)
class Ran:
    """What a run has.

    Parameters
    ----------
    rows : tuple of Row or None
        One for each instance, in its order; None where it was not reached.
    known : int
        Questions that had an answer before.
    """

    rows: tuple[Row | None, ...]
    known: int

    @property
    def complete(self) -> bool:
        """Whether there is an answer to each instance; not so after Ctrl-C."""
        return None not in self.rows

    def counts(self) -> dict[str, int]:
        """Return the number of instances by verdict."""
        found = Counter("not run" if row is None else row.verdict for row in self.rows)
        return {name: found[name] for name in ("verified", "falsified", "unknown", "error", "not run")}


class Campaign:
    """A store, the settings, and processes that are started when there is something to do; a context manager.

    Parameters
    ----------
    store : str, optional
        SQLite file; it may hold the results of any number of campaigns. Without one nothing is kept.
    semantics : str, optional
        As in :func:`optverify.verify`.
    solver : str or None
    seed : int
    workers : int
        Processes of this machine. A script needs the usual ``if __name__ == "__main__":``.
    scheduler : str, optional
        Address of a Dask scheduler, whose workers are used instead.
    certificates : str, optional
        Folder for certificates, made where there is none.
    retry_errors : bool
        Run again what ended in an error.

    Raises
    ------
    InputError
        The store is in use or is none; the solver or the semantics is unknown; there is no worker.
    SolverUnavailable, MissingExtra
    OutputError
        The store or the folder cannot be written.
    """

    def __init__(
        self,
        store: str | None = None,
        *,
        semantics: str | None = None,
        solver: str | None = LINEAR,
        seed: int = 0,
        workers: int = 1,
        scheduler: str | None = None,
        certificates: str | None = None,
        retry_errors: bool = False,
    ) -> None:
        from optverify.solvers import get

        if workers < 1:
            raise InputError(f"a campaign needs at least one worker, not {workers}")
        if solver is not None:
            get(solver)
        about = None if semantics is None else arithmetic(semantics).name
        self._settings = Settings(solver, seed, certificates is not None, about)
        self._workers, self._scheduler, self._retry_errors = workers, scheduler, retry_errors
        self._identifier = Identifier(self._settings)
        self._pool: Pool | None = None
        self.kept = Kept(store or MEMORY, certificates)

    def __enter__(self) -> Campaign:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the processes and let the store go."""
        try:
            self.close_pool()
        finally:
            self.kept.store.close()

    def close_pool(self) -> None:
        """Give up what is not done."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def run(self, instances: Sequence[Instance], progress: Callable[[Progress], None] | None = None) -> Ran:
        """Answer what has no answer in the store.

        Parameters
        ----------
        instances : sequence of Instance
        progress : callable, optional
            Called with :class:`Progress` at the start and after each result. What it raises ends the run as Ctrl-C
            does, and comes out.

        Returns
        -------
        Ran
            Ctrl-C ends it with what is done.

        Raises
        ------
        OutputError
            A result cannot be written. No new instance is started, the ones that run come to their end, and what
            they found is tried once more before this is raised.
        ExecutorError
            The cluster is gone.
        """
        identified = [self._identifier.identify(instance) for instance in instances]
        rows: dict[str, Row] = {}
        todo: deque[Identified] = deque()
        for found in distinct(identified):
            row = self.kept.answered(found.key)
            if row is None or (row.verdict == "error" and self._retry_errors):
                todo.append(found)
            else:
                rows[found.key] = row
        known = len(rows)
        total = known + len(todo)

        def tell(row: Row | None, note: str = "") -> None:
            if progress is not None:
                verdicts = Counter(each.verdict for each in rows.values())
                progress(Progress(len(rows), total, known, verdicts, row, note))

        _Run(self, todo, rows, tell).finish()
        return Ran(tuple(named(rows.get(found.key), found.instance) for found in identified), known)

    def answer(self, row: Row) -> str:
        """Return all of the answer of a row as JSON."""
        return self.kept.store.answer(row.key)

    def pool(self) -> Pool:
        """Return where tasks are worked on; started at the first call."""
        if self._pool is None:
            if self._scheduler is None:
                self._pool = Lanes(self._workers)
            else:
                from optverify.campaign.cluster import Cluster

                self._pool = Cluster(self._scheduler)
        return self._pool


class _Run:
    """One call of :meth:`Campaign.run`: what waits, what runs, what could not be written."""

    def __init__(
        self, campaign: Campaign, todo: deque[Identified], rows: dict[str, Row], tell: Callable[..., None]
    ) -> None:
        self._campaign, self._todo, self._rows, self._tell = campaign, todo, rows, tell
        self._running: dict[Future[Outcome], tuple[Identified, int]] = {}
        self._unwritten: list[tuple[Identified, Outcome, int]] = []
        self._failure: OutputError | None = None

    def finish(self) -> None:
        try:
            self._tell(None)
            while self._todo or self._running:
                self._hand_out()
                done, _ = wait(self._running, return_when=FIRST_COMPLETED)
                for future in done:
                    self._take(future)
        except BaseException as error:
            self._rescue()
            if not isinstance(error, KeyboardInterrupt):
                raise
        self._write_again()

    def _rescue(self) -> None:
        """Keep what has come in meanwhile, give up the rest; who watches is not told, as that may be what failed."""
        self._tell = lambda *_: None
        for future, (found, attempt) in self._running.items():
            if future.done() and future.exception() is None:
                self._record(found, future.result(), attempt)
        self._campaign.close_pool()

    def _hand_out(self) -> None:
        while self._todo and not self._failure:
            found = self._todo[0]
            if found.problem:
                self._record(found, Outcome("error", found.problem), 0)
            elif len(self._running) < self._campaign.pool().width:
                self._running[self._campaign.pool().submit(work, found.task)] = (found, 1)
            else:
                return
            self._todo.popleft()
        if self._failure:
            self._todo.clear()

    def _take(self, future: Future[Outcome]) -> None:
        """Write a result, or hand its instance out again if its worker died."""
        found, attempt = self._running.pop(future)  # before it is written: a stop in between must not write it twice
        try:
            outcome = future.result()
        except WorkerDied as error:
            attempt += error.attempts - 1
            if attempt < MAX_ATTEMPTS:
                self._running[self._campaign.pool().submit(work, found.task)] = (found, attempt + 1)
                return
            outcome = Outcome("error", f"{error} (tried {attempt} times)")
        except ExecutorError:
            raise
        except Exception as error:  # an instance that cannot travel
            outcome = Outcome("error", f"{type(error).__name__}: {error}")
        self._record(found, outcome, attempt)

    def _record(self, found: Identified, outcome: Outcome, attempts: int) -> None:
        try:
            row = self._campaign.kept.record(found, outcome, attempts)
        except OutputError as error:
            self._unwritten.append((found, outcome, attempts))
            if self._failure is None:
                self._failure = error
                self._tell(None, f"{error}: nothing new is started")
        else:
            self._rows[row.key] = row
            self._tell(row)

    def _write_again(self) -> None:
        """Try what could not be written once more: space may have been made meanwhile."""
        if self._failure is None:
            return
        again, self._unwritten = self._unwritten, []
        for found, outcome, attempts in again:
            self._record(found, outcome, attempts)
        lost = f"{len(self._unwritten)} results could not be kept and are computed again" if self._unwritten else ""
        raise OutputError(
            f"{self._failure}; {lost or 'all results so far are kept'}: make room and run the same command again"
        )


def run(
    instances: Sequence[Instance],
    store: str | None = None,
    *,
    semantics: str | None = None,
    solver: str | None = LINEAR,
    seed: int = 0,
    workers: int = 1,
    scheduler: str | None = None,
    certificates: str | None = None,
    retry_errors: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Ran:
    """Answer instances; see :class:`Campaign` for the parameters and :meth:`Campaign.run` for the answer."""
    with Campaign(
        store,
        semantics=semantics,
        solver=solver,
        seed=seed,
        workers=workers,
        scheduler=scheduler,
        certificates=certificates,
        retry_errors=retry_errors,
    ) as campaign:
        return campaign.run(instances, progress)
