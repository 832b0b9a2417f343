"""What a search about a property looks for: a point, or an execution in floating point, that violates it."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from optverify.executions import Executor, representable, violation
from optverify.interval import Array
from optverify.network import Network
from optverify.query import Query
from optverify.region import Box
from optverify.search import attack
from optverify.witness import Witness, examine, in_doubt

NEAR = 1e-4
"""A point whose worst row exceeds 0 by at most this is worth showing beside an UNKNOWN."""

MAX_LAST = 10
"""Most points that are checked exactly at the end of a search without a verdict."""

WORTH_EXACT = 1e-6
"""Floating values up to this may be <= 0 in exact arithmetic: worth the exact check."""


class Counterexample:
    """Search target: a point that violates the query in exact arithmetic."""

    threshold = 0.0
    stop_at = 0.0
    confirmed = "the witness violates the property in exact arithmetic"

    def __init__(self, network: Network, query: Query) -> None:
        self.network, self.query = network, query
        self.witness: Witness | None = None
        self.doubt: Witness | None = None
        self.nearest: tuple[float, Array] | None = None
        self._examined = np.inf

    def offer(self, value: float, point: Array) -> bool:
        """Check a point exactly if its floating value makes it worth it."""
        if self.nearest is None or value < self.nearest[0]:
            self.nearest = (value, point)
        if value <= WORTH_EXACT and value < self._examined:
            self._examined = value
            witness = examine(self.network, self.query, point.tolist())
            if witness.violates:
                self.witness = witness
        return self.witness is not None

    def found(self) -> bool:
        """Tell whether there is a witness."""
        return self.witness is not None

    def last_try(self, bests: Sequence[attack.Best]) -> None:
        """Check the best point of each goal exactly, whatever its floating value: that may be far off."""
        for best in bests[:MAX_LAST]:
            if self.witness is None and best.point is not None:
                witness = examine(self.network, self.query, best.point.tolist())
                self.witness = witness if witness.violates else None

    def near_miss(self) -> Witness | None:
        """Return the point that came nearest, if it is near."""
        if self.witness is not None or self.nearest is None or not self.nearest[0] <= NEAR:
            return None
        return examine(self.network, self.query, self.nearest[1].tolist())


class BadExecution(Counterexample):
    """Search target: a point and an execution in floating point that violates the query there.

    A point where the error band alone reaches the unsafe set is a doubt: it ends the search too, as no bound can
    exclude it.
    """

    stop_at = -np.inf  # the lower the value, the more executions violate

    def __init__(self, network: Network, query: Query) -> None:
        super().__init__(network, query)
        self.executor = Executor(network)
        self.confirmed = f"an execution in {network.semantics} violates the property"

    def offer(self, value: float, point: Array) -> bool:
        """Run a point wherever the band reaches the unsafe set."""
        if self.nearest is None or value < self.nearest[0]:
            self.nearest = (value, point)
        regions = dict.fromkeys(case.region for case in self.query.cases)
        near = [r for r in regions if ((r.outward.lower <= point) & (point <= r.outward.upper)).all()]
        doubtful = [self._doubtful(region, point) for region in near]  # all of them: one may have a witness
        return any(doubtful) or self.witness is not None

    def last_try(self, bests: Sequence[attack.Best]) -> None:
        """Run the best point of each goal."""
        for best in bests[:MAX_LAST]:
            if self.witness is None and best.point is not None:
                self.offer(best.value, best.point)

    def near_miss(self) -> Witness | None:
        """Return the point in doubt."""
        return self.doubt

    def _doubtful(self, region: Box, point: Array) -> bool:
        x = representable(region, point.tolist(), self.network.semantics)
        exact = tuple(region.clamp(point.tolist())) if x is None else tuple(map(Fraction, x.tolist()))
        if self.witness is not None or not in_doubt(self.network, self.query, exact):
            return False
        if x is not None:
            self.witness = violation(self.executor, self.query, region, x.tolist())
        self.doubt = self.doubt or Witness(exact, tuple(self.network.enclose(exact)), None)
        return True
