"""Readers: files and foreign objects into networks and queries."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from optverify.errors import InputError

if TYPE_CHECKING:
    from optverify.network import Network
    from optverify.query import Query


def load(source: Any, input_shape: Sequence[int] | None = None, format: str = "") -> Network:  # noqa: A002
    """Read a network.

    Parameters
    ----------
    source : path or torch.nn.Module
        ``.onnx`` or ``.nnet`` by its ending; or a PyTorch module.
    input_shape : sequence of int, optional
        Shape of one input, for a PyTorch module only.
    format : str
        Floating-point format of the program that a `.nnet` file is for; other files say theirs, and it is not used.

    Raises
    ------
    InputError
        The file is not readable, not well-formed or of another kind.
    MissingExtra
        A PyTorch module without the extra ``torch``.
    """
    if isinstance(source, str | os.PathLike):
        path = os.fspath(source)
        if path.endswith(".onnx"):
            from optverify.io.onnx import read_onnx

            return replace(read_onnx(path), source=path)
        if path.endswith(".nnet"):
            from optverify.io.nnet import read_nnet

            return replace(read_nnet(path, format=format), source=path)
        raise InputError(f"{path}: unknown kind of network file; expected .onnx or .nnet, before the property")
    if input_shape is None:
        raise InputError("pass input_shape, the shape of one input, to read a PyTorch module")
    from optverify.io.pytorch import read_pytorch

    return read_pytorch(source, tuple(input_shape))


def load_property(path: str | os.PathLike[str]) -> Query:
    """Read a property: VNN-LIB, or the exact text that certificates are about; plain, or compressed with gzip.

    Raises
    ------
    InputError, ParseError
    """
    from optverify.io.vnnlib import read_vnnlib

    return read_vnnlib(os.fspath(path))
