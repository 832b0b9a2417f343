"""What a question says about the network that it is for: names, shapes and the arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from optverify.errors import ShapeError
from optverify.network import Network
from optverify.semantics import Semantics


@dataclass(frozen=True)
class Variable:
    """A tensor by its name.

    Parameters
    ----------
    name : str
    shape : tuple of int
        Empty for a single number.
    """

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Declaration:
    """The network of a query, as a VNN-LIB 2.0 file declares it.

    Parameters
    ----------
    network : str
        Its name.
    input, output : Variable
    semantics : Semantics
        The reals, or the format of all elements.
    """

    network: str
    input: Variable
    output: Variable
    semantics: Semantics

    def __str__(self) -> str:
        tensors = ", ".join(f"{v.name} {list(v.shape)}" for v in (self.input, self.output))
        return f"the network {self.network} in {self.semantics}: {tensors}"

    def check(self, network: Network) -> None:
        """Compare the shapes; dimensions of size 1 do not count, as they do not change which element an index means.

        Raises
        ------
        ShapeError
            The network has others.
        """
        for variable, shape in ((self.input, network.input_shape), (self.output, network.output_shape)):
            same = _long(variable.shape) == _long(shape)
            # Layers without a file have no shapes: the number of elements is all that can be compared.
            if not (same or (not network.format and prod(variable.shape) == prod(shape))):
                raise ShapeError(
                    f"the property declares {variable.name} with the shape {list(variable.shape)}, "
                    f"the network's is {list(shape)}"
                )


def _long(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n for n in shape if n != 1)
