"""Whether an execution of a deployed network may overflow, by the best enclosures that are cheap."""

from __future__ import annotations

from optverify.bounds.crown import crown
from optverify.deployment import overflow, overflow_within
from optverify.interval import Interval
from optverify.network import Network
from optverify.preactivation import layer_inputs


def possible_overflow(network: Network, region: Interval) -> str:
    """Tell where an execution may overflow; the empty text says nowhere.

    Parameters
    ----------
    network : Network
        From :func:`optverify.deployment.deployed`.
    region : Interval, ends of shape (n_inputs,)

    Notes
    -----
    Interval arithmetic answers first; where it sees an overflow, backward bounds are asked. Those of a layer follow
    from the layers before it alone, so they hold for every execution that has not overflowed by then: going from layer
    to layer, none overflows.
    """
    obstacle = overflow(network, region)
    if not obstacle:
        return ""
    bounds, _ = crown(network, Interval(region.lower[None], region.upper[None]))
    return overflow_within(network, layer_inputs(network, region, bounds.take(0)))
