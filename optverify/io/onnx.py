"""Reads ONNX files (opsets 7 to 22) as networks.

The graph is walked once; each node speaks to a :class:`~optverify.io.lowering.Builder` through its
function in :mod:`optverify.io.onnx_operators`. Everything that cannot be read exactly is refused with an
error that names the node or the tensor.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from optverify.errors import InputError, ParseError, ShapeError, UnsupportedLayer
from optverify.io import tensors as tn
from optverify.io.lowering import Builder
from optverify.io.onnx_operators import FORMATS, OPERATORS, REASONS, Node
from optverify.io.schedule import LARGEST
from optverify.io.tensors import NotLowered, Tensor
from optverify.network import Network

OPSETS = range(7, 23)
"""The versions of the operator set whose meaning is known here."""


def read_onnx(path: str | os.PathLike[str]) -> Network:
    """Read a network from an ONNX file.

    Parameters
    ----------
    path : path
        The file; tensors that it keeps in other files are read too.

    Returns
    -------
    Network
        Over the reals it is exactly the function of the file (see ``docs/lowering.md``). Its input shape is
        that of the file without the first dimension where that is 1 or not fixed; its outputs are those of
        the file for one sample, flattened in C order.

    Raises
    ------
    InputError
        The file cannot be read or is not a valid model, has several inputs or outputs, or holds numbers
        that are not finite.
    ParseError
        The file is not ONNX at all.
    UnsupportedLayer
        An operator is not supported, or not with these attributes; the message names the node.

    Examples
    --------
    >>> from optverify.io.onnx import read_onnx
    >>> read_onnx("controller.onnx")  # doctest: +SKIP
    <Network 'controller': 4 inputs, 2 ReLU layers with 128 neurons, 2 outputs>
    """
    path = Path(path)
    model = _load(path)
    graph = model.graph
    source, target = _only_input(graph), _only_output(graph)
    _refuse_unknown_operators(model)
    shape, sample = _shapes(source)
    _check(model, path)
    build = Builder(int(np.prod(sample, dtype=np.int64)))
    values = _constants(graph)
    values[source.name] = Tensor(build.inputs.reshape(shape), True, FORMATS[source.type.tensor_type.elem_type])
    missing: dict[str, tuple[str, str]] = {}
    for position, node in enumerate(graph.node):
        _evaluate(build, node, _name(node, position), values, missing)
    result = _look_up(target, values, missing)
    outputs = tn.coordinates(build, result)
    return build.network(outputs, sample, path.stem, tn.formats(values.values()))


# ---------------------------------------------------------------------- the file


def _load(path: Path) -> onnx.ModelProto:
    """Parse the file and read what it keeps elsewhere."""
    try:
        content = path.read_bytes()
    except IsADirectoryError:
        raise InputError(f"{path} is a directory, expected an ONNX file") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    try:
        model = onnx.load_model_from_string(content, format="protobuf")
    except Exception:  # protobuf's own class for this is not onnx's to name
        raise ParseError("this is not an ONNX file, or only a part of one", str(path)) from None
    if not model.graph.node and not model.graph.output:
        raise ParseError("this is not an ONNX file: it holds no graph", str(path))
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise InputError(f"{path}: the data that it keeps in another file cannot be read: {_line(error)}") from None
    return model


def _check(model: onnx.ModelProto, path: Path) -> None:
    """Refuse files that break the rules of ONNX."""
    versions = {entry.domain: entry.version for entry in model.opset_import}
    version = versions.get("", versions.get("ai.onnx"))
    if version is None or version not in OPSETS:
        raise InputError(
            f"{path} uses opset {version}; {OPSETS[0]} to {OPSETS[-1]} can be read: "
            "export it again, or convert it with onnx.version_converter"
        )
    if model.graph.sparse_initializer:
        raise InputError(f"{path} holds sparse tensors, which are not supported; store them dense")
    try:
        onnx.checker.check_model(_without_data(model))
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        raise InputError(f"{path} is not a valid ONNX model: {_line(error)}") from None


def _without_data(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with its initializers as inputs: the checker copies what it sees and ends at 2 GB.

    The output gets a shape, which many exporters leave out.
    """
    graph = model.graph
    constants = {t.name: onnx.helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    outputs = [onnx.helper.make_tensor_value_info(value.name, onnx.TensorProto.FLOAT, []) for value in graph.output]
    bare = onnx.helper.make_graph(graph.node, graph.name or "graph", [*inputs, *constants.values()], outputs)
    return onnx.helper.make_model(bare, opset_imports=model.opset_import, ir_version=max(model.ir_version, 4))


def _line(error: Exception) -> str:
    """Return the message of another library as one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _only_input(graph: onnx.GraphProto) -> onnx.ValueInfoProto:
    """Return the one input that is not a constant."""
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1:
        names = ", ".join(repr(value.name) for value in inputs) or "none"
        raise InputError(f"a network must have one input, this one has {len(inputs)}: {names}")
    source: onnx.ValueInfoProto = inputs[0]
    return source


def _only_output(graph: onnx.GraphProto) -> str:
    if len(graph.output) != 1:
        names = ", ".join(repr(value.name) for value in graph.output) or "none"
        raise InputError(
            f"a network must have one output, this one has {len(graph.output)}: {names}; export it with one of them"
        )
    return str(graph.output[0].name)


def _refuse_unknown_operators(model: onnx.ModelProto) -> None:
    for position, node in enumerate(model.graph.node):
        if node.domain not in {"", "ai.onnx"}:
            reason = f"operators of the domain {node.domain!r} are not supported"
            raise UnsupportedLayer(node.op_type, _name(node, position), reason)
        if node.op_type not in OPERATORS:
            reason = REASONS.get(node.op_type, "this operator is not supported")
            raise UnsupportedLayer(node.op_type, _name(node, position), reason)


def _name(node: onnx.NodeProto, position: int) -> str:
    """Return what to call a node; many exporters leave the name out."""
    return node.name or f"number {position}, giving {', '.join(map(str, node.output))}"


def _shapes(source: onnx.ValueInfoProto) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shape of the input in the graph, for one sample, and in the network."""
    kind = source.type.tensor_type
    if not source.type.HasField("tensor_type") or FORMATS.get(kind.elem_type) not in tn.DIGITS_OF:
        raise InputError(f"input {source.name!r} must be a tensor of floats")
    if not kind.HasField("shape"):
        raise InputError(f"input {source.name!r} has no shape; export the network with a fixed one")
    shape = []
    for axis, dimension in enumerate(kind.shape.dim):
        size = dimension.dim_value if dimension.HasField("dim_value") else None
        if size is None and axis > 0:
            raise InputError(
                f"dimension {axis} of input {source.name!r} ({dimension.dim_param or '?'}) is not fixed; only the "
                "first one, for samples, may be: export the network with a fixed shape"
            )
        if size is not None and not 1 <= size <= LARGEST:
            raise InputError(f"dimension {axis} of input {source.name!r} is {size}; it must be from 1 to {LARGEST}")
        shape.append(1 if size is None else int(size))
    return tuple(shape), tuple(shape[1:] if shape[:1] == [1] else shape)


# ---------------------------------------------------------------------- the graph


def _constants(graph: onnx.GraphProto) -> dict[str, Tensor]:
    return {tensor.name: _decode(tensor, f"initializer {tensor.name!r}") for tensor in graph.initializer}


def _decode(proto: onnx.TensorProto, what: str) -> Tensor:
    """Return a tensor of the file."""
    try:
        onnx.checker.check_tensor(proto)
        array = onnx.numpy_helper.to_array(proto)
    except (ValueError, TypeError, KeyError, AttributeError, onnx.checker.ValidationError) as error:
        raise InputError(f"{what} cannot be read: {_line(error)}") from None
    return tn.constant(array, FORMATS.get(proto.data_type, str(array.dtype)), proto.name)


def _attribute(attribute: onnx.AttributeProto, node: str) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, onnx.TensorProto):
        return _decode(value, f"attribute {attribute.name!r} of node {node!r}")
    return value


def _evaluate(
    build: Builder,
    node: onnx.NodeProto,
    name: str,
    values: dict[str, Tensor],
    missing: dict[str, tuple[str, str]],
) -> None:
    """Lower one node and enter its outputs; every error names the node."""
    try:
        operands = tuple(_look_up(i, values, missing) if i else None for i in node.input)
        attributes = {a.name: _attribute(a, name) for a in node.attribute}
        named = [output for output in node.output if output]
        result = OPERATORS[node.op_type](Node(build, attributes, operands, len(named)))
    except NotLowered as error:
        raise UnsupportedLayer(node.op_type, name, str(error)) from None
    except UnsupportedLayer:
        raise
    except InputError as error:
        raise type(error)(f"{node.op_type} (node {name!r}): {error}") from None
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError) as error:
        # numpy's own words for shapes that do not fit: the file is at fault, not the program.
        raise ShapeError(f"{node.op_type} (node {name!r}): its operands do not fit together: {_line(error)}") from None
    outputs = [result] if isinstance(result, Tensor) else list(result)
    if any(tensor.symbolic and tensor.array.size > LARGEST for tensor in outputs):
        raise InputError(
            f"{node.op_type} (node {name!r}): its result has more than {LARGEST} values; that is too large"
        )
    for position, output in enumerate(node.output):
        if position < len(outputs):
            values[output] = outputs[position]
        elif output:
            missing[output] = (node.op_type, name)


def _look_up(name: str, values: dict[str, Tensor], missing: dict[str, tuple[str, str]]) -> Tensor:
    """Return the tensor of a name."""
    if name in missing:
        raise UnsupportedLayer(*missing[name], f"its output {name!r} is not supported")
    if name not in values:
        raise InputError(f"nothing gives the value {name!r}")
    return values[name]
