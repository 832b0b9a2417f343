"""Which points violate a property, under the arithmetic that a measure is about."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from optverify.executions import Executor, representable, violation
from optverify.network import Network
from optverify.query import Query
from optverify.semantics import REAL
from optverify.witness import Witness, examine, in_doubt


class Judge:
    """Confirms counterexamples: in exact arithmetic over the reals, by a concrete execution in a format.

    Parameters
    ----------
    network : Network
        From :func:`optverify.deployment.deployed`.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self._executor = None if network.semantics is REAL else Executor(network)

    def __call__(self, query: Query, point: Sequence[float]) -> Witness | None:
        """Return a violation at a point, or in a format right beside it; None if there is none that is certain.

        Parameters
        ----------
        query : Query
            Of one region, which the point is moved into.
        point : (n_inputs,) float
        """
        if self._executor is not None:
            if self.doubtful(query, point) is None:  # executions cost more than their band
                return None
            return violation(self._executor, query, query.cases[0].region, point)
        found = examine(self.network, query, point)
        return found if found.violates else None

    def doubtful(self, query: Query, point: Sequence[float]) -> tuple[Fraction, ...] | None:
        """Return the number of the format at a point if rounding alone may make it violate; see `witness.in_doubt`."""
        if self._executor is None:
            return None
        x = representable(query.cases[0].region, point, self.network.semantics)
        exact = None if x is None else tuple(map(Fraction, x.tolist()))
        return exact if exact is not None and in_doubt(self.network, query, exact) else None
