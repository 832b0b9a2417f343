"""Reads PyTorch modules as networks.

``torch.export`` turns a module into a list of calls of ATen functions without side effects; each of them
is lowered by its function in :mod:`optverify.io.pytorch_functions`. Nothing is evaluated by torch: weights are taken as
they are, and arithmetic between them follows the rules of :mod:`optverify.io.tensors`.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from optverify.errors import InputError, ShapeError, UnsupportedLayer, require
from optverify.io import tensors as tn
from optverify.io.lowering import Builder
from optverify.io.pytorch_functions import FUNCTIONS, MAY_CONVERT, REASONS, Call, format_of
from optverify.io.tensors import NotLowered, Tensor
from optverify.network import Network


def read_pytorch(module: Any, input_shape: Sequence[int]) -> Network:
    """Read a network from a PyTorch module.

    Parameters
    ----------
    module : torch.nn.Module
        In evaluation mode (``module.eval()``), if it has layers for which that matters.
    input_shape : sequence of int
        Shape of one input, without the dimension for samples: the module is called with
        ``(1, *input_shape)``.

    Returns
    -------
    Network
        Over the reals it is exactly the function of the module, with the parameters as they are and Python
        numbers rounded to the format of the parameters, as torch does (see ``docs/lowering.md``). The
        outputs are those for one sample, flattened in C order.

    Raises
    ------
    MissingExtra
        torch is not installed.
    InputError
        The module cannot be exported for this shape, has several outputs, or holds numbers that are not finite.
    UnsupportedLayer
        A function is not supported, or not with these arguments; the message names it and its place.

    Examples
    --------
    >>> import torch
    >>> from optverify.io.pytorch import read_pytorch
    >>> module = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> read_pytorch(module, (4,))
    <Network 'Sequential': 4 inputs, 1 ReLU layers with 8 neurons, 2 outputs>
    """
    torch = require("torch", "torch")
    if not isinstance(module, torch.nn.Module):
        raise InputError(f"expected a torch.nn.Module, found {type(module).__name__}")
    shape = tuple(int(n) for n in input_shape)
    if any(n < 1 for n in shape):
        raise InputError(f"input shape {shape} has a size below 1")
    program = _export(torch, module, shape)
    build = Builder(int(np.prod(shape, dtype=np.int64)))
    values: dict[str, Any] = {}
    result: Tensor | None = None
    constants = _constants(program)
    for node in program.graph.nodes:
        if node.op == "placeholder":
            values[node.name] = constants.get(node.name)
            if values[node.name] is None:
                kind = format_of(node.meta["val"].dtype)
                values[node.name] = Tensor(build.inputs.reshape(1, *shape), True, kind, node.name)
        elif node.op == "output":
            result = _only_output(program, node, values)
        else:
            values[node.name] = _evaluate(build, node, values)
    if result is None:
        raise InputError("the module gives no tensor")
    outputs = tn.coordinates(build, result)
    return build.network(outputs, shape, type(module).__name__, tn.formats(values.values()))


def _export(torch: Any, module: Any, shape: tuple[int, ...]) -> Any:
    """Return the functional program of the module for one sample."""
    held = [t for t in (*module.parameters(), *module.buffers()) if t.is_floating_point()]
    kind = {"dtype": held[0].dtype, "device": held[0].device} if held else {"dtype": torch.float32}
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # torch warns about its own internals
            program = torch.export.export(module, (torch.zeros((1, *shape), **kind),))
            # Functions that write into their arguments, or into views of them, are rewritten without that.
            return program.run_decompositions({}) if any(map(_writes, program.graph.nodes)) else program
    except Exception as error:  # torch.export lets through whatever the module raises
        reason = " ".join(str(error).split("\n\n")[0].split()) or type(error).__name__
        raise InputError(
            f"{type(module).__name__} cannot be exported for one input of shape {shape}: {reason}; "
            "give the shape without the samples, and write the module without branches on values"
        ) from None


def _writes(node: Any) -> bool:
    """Whether a call changes one of its arguments."""
    schema = getattr(node.target, "_schema", None)
    return node.op == "call_function" and (schema.is_mutable if schema else node.target is not operator.getitem)


def _constants(program: Any) -> dict[str, Tensor]:
    """Return parameters, buffers and other tensors of the module by the name of their placeholder."""
    held = {**program.constants, **program.state_dict}
    found = {}
    for entry in program.graph_signature.input_specs:
        if entry.target is not None and entry.target in held:
            tensor = held[entry.target].detach().cpu()
            kind = format_of(tensor.dtype)
            array = (tensor.double() if kind in tn.DIGITS_OF else tensor).numpy()
            found[entry.arg.name] = tn.constant(array, kind, entry.target)
    return found


def _only_output(program: Any, node: Any, values: dict[str, Any]) -> Tensor:
    """Return the one thing that the module gives; it must not change itself on the way."""
    kinds = [entry.kind.name for entry in program.graph_signature.output_specs]
    if "BUFFER_MUTATION" in kinds:
        raise InputError("the module changes its own buffers when called: switch it with module.eval() first")
    wanted = [arg for arg, kind in zip(node.args[0], kinds, strict=True) if kind == "USER_OUTPUT"]
    if len(wanted) != 1 or not isinstance(_resolve(wanted[0], values), Tensor):
        names = ", ".join(str(arg) for arg in wanted)
        raise InputError(f"a network must have one output, this one has {len(wanted)}: {names}; return one tensor")
    result = _resolve(wanted[0], values)
    return result if isinstance(result, Tensor) else tn.constant(0.0)


def _resolve(argument: Any, values: dict[str, Any]) -> Any:
    """Replace graph nodes by what they stand for, also inside of lists."""
    if isinstance(argument, (list, tuple)):
        return [_resolve(item, values) for item in argument]
    if hasattr(argument, "op") and hasattr(argument, "name"):
        return values[argument.name]
    return argument


def _evaluate(build: Builder, node: Any, values: dict[str, Any]) -> Any:
    """Lower one call; every error names it and its module."""
    if node.target is operator.getitem:
        return _item(node, values)
    name = str(node.target).removeprefix("aten.").split(".")[0]
    place = _place(node)
    function = FUNCTIONS.get(name)
    if function is None:
        raise UnsupportedLayer(name, place, REASONS.get(name, "this function is not supported"))
    try:
        schema = node.target._schema.arguments
        given = {a.name: a.default_value for a in schema if a.has_default_value()}
        given |= dict(zip((a.name for a in schema), node.args, strict=False)) | dict(node.kwargs)
        named = {key: _resolve(value, values) for key, value in given.items()}
        if named.get("dtype") is not None and name not in MAY_CONVERT:
            raise NotLowered("a dtype argument is not supported")
        first = node.meta.get("val")
        first = first[0] if isinstance(first, (list, tuple)) else first
        return function(Call(build, named, format_of(getattr(first, "dtype", "float32"))))
    except NotLowered as error:
        raise UnsupportedLayer(name, place, str(error)) from None
    except UnsupportedLayer:
        raise
    except InputError as error:
        raise type(error)(f"{name} (node {place!r}): {error}") from None
    except (ValueError, IndexError, KeyError, TypeError, MemoryError) as error:
        raise ShapeError(f"{name} (node {place!r}): its arguments do not fit together: {error}") from None


def _item(node: Any, values: dict[str, Any]) -> Any:
    """Return one of several results; a function that is lowered to its first result has no others."""
    results, position = values[node.args[0].name], node.args[1]
    results = results if isinstance(results, list) else [results]
    if position >= len(results):
        raise UnsupportedLayer(str(node.args[0].target), _place(node), f"its result {position} is not supported")
    return results[position]


def _place(node: Any) -> str:
    """Return the name of a call, after the path of the module that makes it."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path = stack[-1][0] if stack else ""
    return f"{path}: {node.name}" if path else str(node.name)
