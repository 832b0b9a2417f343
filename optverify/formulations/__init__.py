"""Formulations: a network, a region and bounds become a program.

``docs/formulations.md`` says how to add one: a file with one function, and a line below.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from optverify.errors import InputError
from optverify.formulations.bigm import bigm
from optverify.formulations.encoder import Largest, Multipliers, Objective, Weighted, read_input, read_multipliers
from optverify.formulations.program import Block, Cone, Program
from optverify.formulations.triangle import triangle
from optverify.interval import Interval
from optverify.network import Network
from optverify.preactivation import Bounds

__all__ = [
    "FORMULATIONS",
    "Block",
    "Build",
    "Cone",
    "Formulation",
    "Largest",
    "Multipliers",
    "Objective",
    "Program",
    "Weighted",
    "get",
    "read_input",
    "read_multipliers",
]


class Build(Protocol):
    """What a formulation is: a function."""

    def __call__(self, network: Network, region: Interval, bounds: Bounds, objective: Objective) -> Program:
        """Return a program whose optimum is at most the minimum of the objective over the region."""


@dataclass(frozen=True)
class Formulation:
    """An entry of the registry.

    Parameters
    ----------
    name : str
    build : Build
    exact : bool
        Whether the optimum equals the minimum (but for slack of coefficients).
    summary : str
        One line.
    """

    name: str
    build: Build
    exact: bool
    summary: str


FORMULATIONS: Mapping[str, Formulation] = MappingProxyType(
    {
        entry.name: entry
        for entry in (
            Formulation("triangle", triangle, exact=False, summary="LP, convex hull of each ReLU"),
            Formulation("bigm", bigm, exact=True, summary="MILP, one binary variable per unstable ReLU"),
        )
    }
)


def get(name: str) -> Formulation:
    """Look a formulation up.

    Raises
    ------
    InputError
        There is none of that name; the message lists those that there are.
    """
    try:
        return FORMULATIONS[name]
    except KeyError:
        raise InputError(f"there is no formulation {name!r}; choose from {', '.join(FORMULATIONS)}") from None
