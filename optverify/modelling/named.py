"""A network as a program with the names that a user sees, and what is asked as its objective."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from optverify.expressions import Linear
from optverify.formulations.program import Block, Cone, Program
from optverify.modelling.forms import above, range_of
from optverify.network import Network, Relu
from optverify.preactivation import Bounds

NAMES = {"a": "relu", "t": "switch"}
"""Blocks with an index hold unstable neurons only, so the short names are left for all of a layer."""


@dataclass(frozen=True, eq=False)
class Neurons:
    """What becomes of the coordinates of one Relu: one in neither mask is 0.

    Parameters
    ----------
    passed : (n,) bool
        It leaves as it enters: active, or not rectified.
    unstable : (n,) bool
    """

    passed: NDArray[np.bool_]
    unstable: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Named:
    """A program with the names that a user sees.

    Parameters
    ----------
    program : Program
        To be minimised.
    blocks : mapping from name to Block
        ``x`` inputs, ``y`` outputs, ``z[k]`` what enters the k-th Relu, ``relu[k]`` what leaves its unstable neurons,
        ``switch[k]`` whether they are active, ``h[i]`` between two affine layers, ``tau``.
    neurons : tuple of Neurons, one per Relu
    """

    program: Program
    blocks: Mapping[str, Block]
    neurons: tuple[Neurons, ...]


def named(network: Network, bounds: Bounds, program: Program, forms: Sequence[Linear]) -> Named:
    """Give a program of a network a user's names, and the largest of some forms as its objective.

    Parameters
    ----------
    network : Network
    bounds : Bounds, ends of shape (n_k,)
    program : Program
        That a formulation made of these.
    forms : sequence of Linear
        Over inputs and outputs.

    Raises
    ------
    InputError
        See :func:`optverify.modelling.forms.above`.
    """
    start = {"X": program.variables["x"].start, "Y": program.variables["t"].start}
    columns = [
        Linear({("X", start[kind] + i): a for (kind, i), a in form.terms.items()}, form.constant) for form in forms
    ]
    program = minimise_largest(program, columns)
    blocks = {}
    for name, block in program.variables.items():
        base, bracket, layer = name.partition("[")
        blocks["y" if name == "t" else NAMES.get(base, base) + bracket + layer] = block
    masks = [layer.mask for layer in network.layers if isinstance(layer, Relu)]
    neurons = [
        Neurons(~mask | (z.lower >= 0), unstable)
        for mask, z, unstable in zip(masks, bounds.layers, bounds.unstable(network), strict=True)
    ]
    return Named(program, blocks, tuple(neurons))


def minimise_largest(program: Program, forms: Sequence[Linear]) -> Program:
    """Return a program with the largest of some forms as its objective, or one that is nowhere above it.

    Parameters
    ----------
    program : Program
        Its own objective is dropped.
    forms : sequence of Linear
        Over its columns. More than one need a variable ``tau`` and rows ``largest``: form <= tau.

    Raises
    ------
    InputError
        See :func:`optverify.modelling.forms.above`.
    """
    from scipy.sparse import csr_array, hstack, vstack

    names = [f"{name}[{i}]" for name, block in program.variables.items() for i in range(block.size)]
    lower, upper = program.lower.tolist(), program.upper.tolist()
    # A form of floats below each of them.
    below = [above(-form, lower, upper, names) for form in forms]
    c, n = np.zeros(program.n_variables), program.n_variables
    if len(forms) == 1:
        for j, value in below[0][0].items():
            c[j] = -value
        return replace(program, c=c, c0=-below[0][1])
    # At a minimum tau is the largest form, hence between the largest lower and the largest upper bound.
    ends = [range_of(form, lower, upper) for form in forms]
    start, count = program.n_rows, len(forms)
    coefficients = csr_array(
        (
            [-value for floats, _ in below for value in floats.values()],
            (
                [r for r, (floats, _) in enumerate(below) for _ in floats],
                [j for floats, _ in below for j in floats],
            ),
        ),
        shape=(count, n),
    )
    before = hstack([program.A, csr_array((start, 1))])
    largest = hstack([coefficients, csr_array(np.full((count, 1), -1.0))])
    return Program(
        c=np.append(c, 1.0),
        A=vstack([before, largest]),
        b=np.concatenate([program.b, [k for _, k in below]]),
        rows={**program.rows, "largest": Block(start, start + count, Cone.NONNEG)},
        lower=np.append(program.lower, max(low for low, _ in ends)),
        upper=np.append(program.upper, max(high for _, high in ends)),
        integer=np.append(program.integer, False),
        variables={**program.variables, "tau": Block(n, n + 1)},
        name=program.name,
    )
