"""A bar that shows how far a search or a comparison is, in a notebook and in a terminal (tqdm, extra ``notebook``).

>>> from optverify import Box, Network, Query, outputs, verify
>>> from optverify.progress import ProgressBar
>>> net = Network.from_arrays([([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], [0.0])])  # |x|
>>> with ProgressBar(disable=True) as bar:
...     answer = verify(net, Query.always(Box([-1], [2]), outputs(1)[0] <= 3, 1), progress=bar)
>>> answer.verdict.value
'verified'
"""

from __future__ import annotations

import warnings
from types import TracebackType
from typing import Any

from optverify.errors import require
from optverify.search.tree import Progress


class ProgressBar:
    """What to pass as ``progress`` to `verify`, `bound` or `compare`; a context that leaves the bar at its end.

    Parameters
    ----------
    disable : bool
        Show nothing.

    Raises
    ------
    MissingExtra
        tqdm is not installed.
    """

    def __init__(self, *, disable: bool = False) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # without ipywidgets it falls back to text, which is what we want
            tqdm = require("tqdm.auto", "notebook").tqdm
            form = "{desc}{percentage:3.0f}%|{bar}| {elapsed} {postfix}"
            self._bar: Any = tqdm(total=1.0, bar_format=form, disable=disable)

    def __call__(self, state: Progress | int, total: int = 1, what: str = "") -> None:
        """Show a search's :class:`Progress`, or how many rows of how many are done and what comes next."""
        if isinstance(state, Progress):
            done, words = state.closed, str(state)
        else:
            done, words = state / max(total, 1), f"{state} of {total} rows; {what}"
        self._bar.n = min(done, 1.0)
        self._bar.set_postfix_str(words)

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.close()
