"""The lifted relaxation at nodes: what linear bounds cannot prove, the same verdicts, trees, proofs and interrupts."""

from __future__ import annotations

import io
import math
import signal
import threading
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import optverify.verify as verify_module
from optverify import Box, Network, Query, Verdict, kernel, outputs, verify
from optverify.bounds.crown import crown, output_bounds
from optverify.bounds.relaxed import frame_of, relaxed
from optverify.canonical import network_text, property_text
from optverify.certificate import check_file
from optverify.errors import InputError
from optverify.formulations.encoder import objective_of
from optverify.interval import Interval
from optverify.preactivation import Bounds
from optverify.proof import NeuronSplit
from optverify.query import Goal
from optverify.search import semidefinite, workers
from optverify.search.node import Node, divide
from optverify.search.semidefinite import close_groups, nodes_before, price, promising
from optverify.search.tree import Progress
from tests import oracle
from tests.strategies import boxes, networks


def random_network(seed: int, *sizes: int) -> Network:
    """Make a fully connected network whose values neither vanish nor explode."""
    rng = np.random.default_rng(seed)
    steps = [(rng.normal(size=(m, n)) / np.sqrt(n), 0.3 * rng.normal(size=m)) for n, m in pairwise(sizes)]
    return Network.from_arrays(steps)


def cube(size: int) -> Box:
    """Return the inputs from -1 to 1."""
    return Box.around(np.zeros(size), 1, clip=None)


def above(size: int, value: str) -> Query:
    """Ask whether the one output stays above a value."""
    return Query.never(cube(size), outputs(1)[0] <= Fraction(value), 1)


AT_ROOT = random_network(4, 14, 16, 16, 1), above(14, "-0.98")
"""The relaxation closes the root; without it there is no end after 6,000 nodes."""

BY_SPLITS = random_network(0, 14, 16, 16, 1), above(14, "-1.03")
"""The relaxation closes the halves of halves."""


def root(goal: Goal) -> tuple[Interval, Bounds]:
    """Return the box of a goal and bounds on it."""
    region = goal.region.outward
    return region, crown(goal.network, region.take(None))[0].take(0)


def exact(network: Network, query: Query, path: str) -> None:
    """Run the kernel in this process."""
    kernel.check(network_text(network), property_text(query), io.BytesIO(Path(path).read_bytes()))
