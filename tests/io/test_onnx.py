"""ONNX files: opsets, external data, old headers, shapes, counted roundings, and what is refused how."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from optverify.errors import InputError, OptverifyError, ParseError, ShapeError, UnsupportedLayer
from optverify.io.onnx import OPSETS, read_onnx
from optverify.network import Affine, Network
from tests.io.models import NodeSpec, assert_agrees, model, save, session
from tests.io.rounding import assert_within

RANDOM = np.random.default_rng(5)


def normal(*shape: int) -> Any:
    """Return random numbers that float32 holds."""
    return RANDOM.standard_normal(shape).astype(np.float32)


def ints(*values: int) -> Any:
    """Return integer constants."""
    return np.array(values, np.int64)


SMALL: list[NodeSpec] = [("MatMul", "x w", "z"), ("Add", "z b", "a"), ("Relu", "a", "y")]
SMALL_CONSTANTS = {"w": normal(3, 4), "b": normal(4)}


def small(**options: Any) -> onnx.ModelProto:
    """Make a network of one layer."""
    return model(SMALL, options.pop("shape", (1, 3)), SMALL_CONSTANTS, **options)


def first(network: Network) -> Affine:
    """Return the first layer."""
    layer = network.layers[0]
    assert isinstance(layer, Affine)
    return layer


# ---------------------------------------------------------------------- opsets


def spread(opset: int) -> onnx.ModelProto:
    """Make a convolutional network whose operators changed their form over the opsets."""
    constants: dict[str, Any] = {
        "k": normal(3, 2, 2, 2),
        "kb": normal(3),
        **{name: abs(normal(3)) + 0.1 for name in ("g", "s", "m", "v")},
        "w": normal(4, 2),
        "c": normal(2),
        "slope": normal(3, 1, 1),
    }
    nodes: list[NodeSpec] = [
        ("Conv", "x k kb", "conv"),
        ("BatchNormalization", "conv g s m v", "norm", {"epsilon": 0.01}),
        ("PRelu", "norm slope", "act"),
        ("MaxPool", "act", "pool", {"kernel_shape": [2, 2]}),
        ("AveragePool", "pool", "mean", {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ]

    def either(since: int, node: str, source: str, to: str, attributes: dict[str, Any], inputs: dict[str, Any]) -> None:
        """Give integers as attributes before an opset, and as inputs from it on."""
        if opset < since:
            nodes.append((node, source, to, attributes))
            return
        names = [f"{to}_{key}" for key in inputs]
        constants.update(zip(names, inputs.values(), strict=True))
        nodes.append((node, " ".join([source, *names]), to))

    lowest, highest = np.array(-0.5, np.float32), np.array(2.5, np.float32)
    either(11, "Clip", "mean", "clip", {"min": -0.5, "max": 2.5}, {"lo": lowest, "hi": highest})
    either(13, "ReduceSum", "clip", "sum", {"axes": [2]}, {"axes": ints(2)})
    either(13, "Squeeze", "sum", "flat", {"axes": [2]}, {"axes": ints(2)})
    either(
        11,
        "Pad",
        "flat",
        "pad",
        {"pads": [0, 0, 1, 0, 1, 0], "value": 0.5},
        {"p": ints(0, 0, 1, 0, 1, 0), "v": np.float32(0.5)},
    )
    either(13, "Unsqueeze", "pad", "cube", {"axes": [3]}, {"axes": ints(3)})
    either(18, "ReduceMean", "cube", "line", {"axes": [3], "keepdims": 1}, {"axes": ints(3)})
    either(
        10,
        "Slice",
        "line",
        "cut",
        {"starts": [0], "ends": [2], "axes": [1]},
        {"s": ints(0), "e": ints(2), "a": ints(1)},
    )
    nodes += [("Dropout", "cut", "kept"), ("Flatten", "kept", "row")]
    if opset < 13:
        nodes.append(("Split", "row", "left right", {"axis": 1, "split": [2, 4]}))
    else:
        constants["parts"] = ints(2, 4)
        nodes.append(("Split", "row parts", "left right", {"axis": 1}))
    nodes += [
        ("Gemm", "right w c", "end", {"alpha": 0.5}),
        ("Concat", "end left", "both", {"axis": 1}),
        ("HardSigmoid", "both", "y"),
    ]
    return model(nodes, (1, 2, 5, 6), constants, opset)


@pytest.mark.parametrize("opset", OPSETS)
def test_every_opset_agrees_with_onnxruntime(opset: int, tmp_path: Path) -> None:
    """The same network in the form of each opset is what onnxruntime computes."""
    assert_agrees(save(spread(opset), tmp_path))


@pytest.mark.parametrize("opset", [6, 23])
def test_other_opsets_are_refused(opset: int, tmp_path: Path) -> None:
    """An opset whose meaning is not known here is named, with the known ones."""
    with pytest.raises(InputError, match=rf"opset {opset}; 7 to 22"):
        read_onnx(save(small(opset=opset), tmp_path))


def test_old_header_lists_constants_as_inputs(tmp_path: Path) -> None:
    """Before IR version 4 every initializer is also an input; it is a constant all the same."""
    proto = small(opset=8, ir_version=3)
    for name, value in SMALL_CONSTANTS.items():
        proto.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape))
    assert_agrees(save(proto, tmp_path))


# ---------------------------------------------------------------------- files


def external(folder: Path) -> Path:
    """Write a model that keeps its weights in a second file."""
    path = folder / "split.onnx"
    onnx.save_model(small(), str(path), save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


def test_external_data_is_read(tmp_path: Path) -> None:
    """Weights in a second file are found beside the first one, whatever the working directory."""
    path = external(tmp_path)
    assert (tmp_path / "weights.bin").exists()
    assert np.array_equal(first(read_onnx(path)).dense, SMALL_CONSTANTS["w"].T)
    assert_agrees(path)


def test_missing_external_data_is_one_error(tmp_path: Path) -> None:
    """Without the second file the error says that it is missing."""
    path = external(tmp_path)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(InputError, match=r"another file cannot be read.*weights\.bin"):
        read_onnx(path)


def test_truncated_external_data_is_one_error(tmp_path: Path) -> None:
    """A second file that is too short is refused, not read as something else."""
    path = external(tmp_path)
    (tmp_path / "weights.bin").write_bytes(b"\0" * 7)
    with pytest.raises(InputError):
        read_onnx(path)


@pytest.mark.parametrize("keep", [0, 1, 2, 10, 0.3, 0.6, 0.9, 0.99])
def test_truncated_file_is_one_error(keep: float, tmp_path: Path) -> None:
    """A part of a file is an error of this package, wherever it ends."""
    content = small().SerializeToString()
    path = tmp_path / "part.onnx"
    path.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    with pytest.raises(InputError):
        read_onnx(path)


@pytest.mark.parametrize("seed", range(20))
def test_garbage_is_one_error(seed: int, tmp_path: Path) -> None:
    """Random bytes are an error of this package."""
    path = tmp_path / "garbage.onnx"
    path.write_bytes(np.random.default_rng(seed).bytes(200))
    with pytest.raises(InputError):
        read_onnx(path)


@pytest.mark.parametrize("seed", range(60))
def test_damaged_file_is_read_or_one_error(seed: int, tmp_path: Path) -> None:
    """With a few bytes changed a file is another network or an error of this package, never a traceback."""
    random = np.random.default_rng(seed)
    content = bytearray(spread(13).SerializeToString())
    for place in random.integers(0, len(content), 3):
        content[place] = random.integers(256)
    path = tmp_path / "damaged.onnx"
    path.write_bytes(bytes(content))
    outcome: Network | OptverifyError
    try:
        outcome = read_onnx(path)
    except OptverifyError as error:
        outcome = error
    assert isinstance(outcome, Network) or str(outcome)


def test_text_is_not_onnx(tmp_path: Path) -> None:
    """A file of another kind is named as such."""
    path = tmp_path / "net.onnx"
    path.write_text("import torch\n")
    with pytest.raises(ParseError, match=r"net\.onnx: this is not an ONNX file"):
        read_onnx(path)


def test_missing_file_and_directory(tmp_path: Path) -> None:
    """What is no file is said to be none."""
    with pytest.raises(InputError, match=r"nothing\.onnx cannot be read: No such file"):
        read_onnx(tmp_path / "nothing.onnx")
    with pytest.raises(InputError, match="is a directory"):
        read_onnx(tmp_path)


# ---------------------------------------------------------------------- shapes


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1, 3), (3,)),
        (("N", 3), (3,)),
        ((None, 3), (3,)),
        ((2, 3), (2, 3)),
        ((1, 2, 3), (2, 3)),
        ((3,), (3,)),
    ],
)
def test_input_shape_is_that_of_one_sample(shape: Any, expected: tuple[int, ...], tmp_path: Path) -> None:
    """The first dimension is dropped where it is 1 or not fixed."""
    path = save(model([("MatMul", "x w", "y")], shape, {"w": normal(3, 2)}), tmp_path)
    assert read_onnx(path).input_shape == expected
    assert_agrees(path)


def test_scalar_input(tmp_path: Path) -> None:
    """A network of one number has the input shape (1,)."""
    path = save(model([("Mul", "x c", "y")], (), {"c": normal(2)}), tmp_path)
    assert read_onnx(path).input_shape == (1,)
    assert_agrees(path)


@pytest.mark.parametrize(
    ("shape", "message"),
    [((1, "width"), "dimension 1 of input 'x' .width."), ((1, None), "dimension 1 of input 'x'"), ((1, 0), "is 0")],
)
def test_open_shapes_are_refused(shape: Any, message: str, tmp_path: Path) -> None:
    """Only the first dimension may be open."""
    with pytest.raises(InputError, match=message):
        read_onnx(save(small(shape=shape), tmp_path))


def test_input_without_shape_is_refused(tmp_path: Path) -> None:
    """A tensor of unknown rank has no number of inputs."""
    proto = small()
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(InputError, match="input 'x' has no shape"):
        read_onnx(save(proto, tmp_path))


def test_integer_input_is_refused(tmp_path: Path) -> None:
    """Only tensors of floats can be verified."""
    proto = small()
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    with pytest.raises(InputError, match="input 'x' must be a tensor of floats"):
        read_onnx(save(proto, tmp_path))


def test_several_outputs_are_named(tmp_path: Path) -> None:
    """Two outputs are refused, and the message names them."""
    with pytest.raises(InputError, match="one output, this one has 2: 'a', 'y'"):
        read_onnx(save(small(outputs="a y"), tmp_path))


def test_several_inputs_are_named(tmp_path: Path) -> None:
    """Two inputs are refused, and the message names them."""
    proto = small()
    proto.graph.input.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, [1]))
    with pytest.raises(InputError, match="one input, this one has 2: 'x', 'other'"):
        read_onnx(save(proto, tmp_path))


def test_output_that_is_a_constant(tmp_path: Path) -> None:
    """A network that ignores its input is a network."""
    path = save(model([("Identity", "c", "y")], (1, 2), {"c": np.array([0.0, 2.5])}), tmp_path)
    assert read_onnx(path).exact([Fraction(1), Fraction(1)]) == [0, Fraction(5, 2)]


# ---------------------------------------------------------------------- numbers


@pytest.mark.parametrize("kind", [np.float16, ml_dtypes.bfloat16, np.float32])
def test_weights_are_those_of_the_file(kind: Any, tmp_path: Path) -> None:
    """Each stored format is read without rounding, also through a Cast."""
    weight = RANDOM.standard_normal((3, 2)).astype(kind)
    proto = model([("Cast", "h", "w", {"to": TensorProto.FLOAT}), ("MatMul", "x w", "y")], (1, 3))
    proto.graph.initializer.append(numpy_helper.from_array(weight, "h"))
    layer = first(read_onnx(save(proto, tmp_path)))
    assert np.array_equal(layer.dense, weight.astype(np.float64).T)
    assert not layer.slack.any()


def test_double_weights_in_a_double_network(tmp_path: Path) -> None:
    """Double weights keep all their digits."""
    weight = RANDOM.standard_normal((3, 2))
    path = save(model([("MatMul", "x w", "y")], (1, 3), {"w": weight}, kind=np.float64), tmp_path)
    assert np.array_equal(first(read_onnx(path)).dense, weight.T)


def test_double_input_that_is_converted_rounds_once(tmp_path: Path) -> None:
    """Conversion to float32 is the identity over the reals, and one rounding in the program."""
    proto = model([("Cast", "x", "s", {"to": TensorProto.FLOAT}), ("Relu", "s", "y")], (1, 3), kind=np.float64)
    proto.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    path = save(proto, tmp_path)
    layer = first(read_onnx(path))
    assert layer.roundings.tolist() == [1, 1, 1]
    x = RANDOM.standard_normal((1, 3))
    assert_within(read_onnx(path), x, session(path).run(None, {"x": x})[0])


def test_double_constant_that_is_converted_keeps_its_value(tmp_path: Path) -> None:
    """A double constant that float32 does not hold enters with the rounding of its conversion."""
    proto = model([("Cast", "d", "c", {"to": TensorProto.FLOAT}), ("Add", "x c", "y")], (1, 1))
    proto.graph.initializer.append(numpy_helper.from_array(np.array([0.1]), "d"))
    path = save(proto, tmp_path)
    assert read_onnx(path).exact([Fraction(0)]) == [Fraction(0.1)]
    assert_agrees(path)


def test_conversion_to_half_is_refused(tmp_path: Path) -> None:
    """A rounding that is coarser than float32 is not counted, so it is not allowed."""
    nodes = [("Cast", "x", "h", {"to": TensorProto.FLOAT16}), ("Cast", "h", "y", {"to": TensorProto.FLOAT})]
    with pytest.raises(UnsupportedLayer, match=r"Cast .*cast_0.*float16 is coarser"):
        read_onnx(save(model(nodes, (1, 2)), tmp_path))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", ["w", "b"])
def test_weights_that_are_not_finite_are_named(bad: float, place: str, tmp_path: Path) -> None:
    """The message names the initializer, its index and the node."""
    constants = {name: value.copy() for name, value in SMALL_CONSTANTS.items()}
    constants[place].flat[2] = bad
    node = {"w": "MatMul .*matmul_0", "b": "Add .*add_1"}[place]
    with pytest.raises(InputError, match=rf"{node}.*constant '{place}' holds {bad} at index"):
        read_onnx(save(model(SMALL, (1, 3), constants), tmp_path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variance": np.array([1.0, -0.5])}, "variance 'variance'.*must be positive"),
        ({"variance": np.array([1.0, np.nan])}, "'variance' holds nan"),
        ({"gamma": np.array([np.inf, 1.0])}, "'gamma' holds inf"),
    ],
)
def test_batch_norm_without_meaning_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    """A variance that is negative beyond epsilon, or not a number, is named with the node."""
    constants = {name: np.ones(2) for name in ("gamma", "beta", "mean", "variance")} | changes
    nodes = [("BatchNormalization", "x gamma beta mean variance", "y")]
    with pytest.raises(InputError, match=f"BatchNormalization .*{message}"):
        read_onnx(save(model(nodes, (1, 2), constants), tmp_path))


def test_division_by_zero_is_refused(tmp_path: Path) -> None:
    """Also where only one entry is zero."""
    path = save(model([("Div", "x c", "y")], (1, 2), {"c": np.array([1.0, 0.0])}), tmp_path)
    with pytest.raises(InputError, match=r"Div .*div_0.*divides by zero"):
        read_onnx(path)


def test_batch_norm_encloses_its_exact_value(tmp_path: Path) -> None:
    """The slack covers what gamma / sqrt(variance + epsilon) really is, by exact comparison of squares."""
    gamma, variance, epsilon = np.float32(1.1), np.float32(0.7), np.float32(1e-5)
    constants = {"gamma": [gamma], "beta": [0.0], "mean": [0.0], "variance": [variance]}
    constants = {name: np.array(value, np.float32) for name, value in constants.items()}
    nodes = [("BatchNormalization", "x gamma beta mean variance", "y", {"epsilon": float(epsilon)})]
    network = read_onnx(save(model(nodes, (1, 1), constants), tmp_path))
    ((low, high),) = network.enclose([Fraction(1)])
    square = Fraction(float(gamma)) ** 2 / (Fraction(float(variance)) + Fraction(float(epsilon)))
    assert low**2 <= square <= high**2
    assert high - low < Fraction(1, 2**48)


ROUNDINGS: dict[str, tuple[list[NodeSpec], tuple[int, ...], dict[str, Any], list[list[int]]]] = {
    "matmul": ([("MatMul", "x w", "y")], (1, 3), {"w": normal(3, 2)}, [[3, 3]]),
    "matmul add": ([*SMALL[:2], ("Identity", "a", "y")], (1, 3), SMALL_CONSTANTS, [[4] * 4]),
    "gemm": ([("Gemm", "x w b", "y")], (1, 3), SMALL_CONSTANTS, [[4] * 4]),
    "gemm scaled": ([("Gemm", "x w b", "y", {"alpha": 0.5, "beta": 2.0})], (1, 3), SMALL_CONSTANTS, [[6] * 4]),
    "gemm of two": ([("Gemm", "x w x", "y")], (1, 2), {"w": normal(2, 2)}, [[0] * 4, [3] * 2]),
    "add": ([("Relu", "x", "r"), ("Add", "x r", "y")], (1, 1), {}, [[0, 0], [1]]),
    "sub mean": ([("Sub", "x b", "y")], (1, 4), {"b": normal(4)}, [[1] * 4]),
    "mul": ([("Mul", "x b", "y")], (1, 4), {"b": normal(4)}, [[1] * 4]),
    "div": ([("Div", "x b", "y")], (1, 4), {"b": normal(4)}, [[2] * 4]),
    "conv": ([("Conv", "x w", "y", {"pads": [1, 1]})], (1, 1, 3), {"w": normal(1, 1, 3)}, [[2, 3, 2]]),
    "mean": ([("ReduceMean", "x", "y", {"axes": [1]})], (1, 5), {}, [[6]]),
    "sum": ([("ReduceSum", "x", "y")], (1, 5), {}, [[4]]),
    "neg": ([("Neg", "x", "y")], (1, 2), {}, [[0, 0]]),
    "max": ([("Gather", "x i", "g", {"axis": 1}), ("Max", "x g", "y")], (1, 2), {"i": ints(1, 0)}, [[0] * 4, [0] * 2]),
    "leaky": ([("LeakyRelu", "x", "y")], (1, 1), {}, [[0, 0], [1]]),
    "clip": ([("Clip", "x lo", "y")], (1, 1), {"lo": np.array(0.5)}, [[0], [0]]),
    "hard sigmoid": ([("HardSigmoid", "x", "y")], (1, 1), {}, [[2], [0], [0]]),
    "batch norm": (
        [("BatchNormalization", "x o z z o", "y")],
        (1, 1),
        {"o": np.ones(1), "z": np.zeros(1)},
        [[8], [2]],
    ),
    "flatten": ([("Flatten", "x", "y")], (1, 2), {}, [[0, 0]]),
}


@pytest.mark.parametrize("name", ROUNDINGS)
def test_roundings_are_those_of_the_deployed_program(name: str, tmp_path: Path) -> None:
    """Each step counts its terms and its bias; what lowering introduced counts nothing."""
    nodes, shape, constants, expected = ROUNDINGS[name]
    network = read_onnx(save(model(nodes, shape, constants), tmp_path))
    assert [layer.roundings.tolist() for layer in network.layers if isinstance(layer, Affine)] == expected


def test_exact_operators_have_no_slack(tmp_path: Path) -> None:
    """Only batch norms and divisions are uncertain; a network of anything else evaluates exactly."""
    nodes = [
        ("MatMul", "x w", "z"),
        ("LeakyRelu", "z", "l"),
        ("Clip", "l lo hi", "c"),
        ("Abs", "c", "p"),
        ("Max", "p b", "y"),
    ]
    constants = {**SMALL_CONSTANTS, "lo": np.array(-0.3), "hi": np.array(0.6)}
    network = read_onnx(save(model(nodes, (1, 3), constants), tmp_path))
    x = [Fraction(float(v)) for v in normal(3)]
    weight = [[Fraction(float(v)) for v in row] for row in SMALL_CONSTANTS["w"].T]
    z = [sum(w * v for w, v in zip(row, x, strict=True)) for row in weight]
    slope, low, high = (Fraction(float(np.float32(v))) for v in (0.01, -0.3, 0.6))
    clipped = [min(max(v if v > 0 else slope * v, low), high) for v in z]
    bounds = [Fraction(float(v)) for v in SMALL_CONSTANTS["b"]]
    assert network.exact(x) == [max(abs(v), b) for v, b in zip(clipped, bounds, strict=True)]


# ---------------------------------------------------------------------- refusals


REFUSED: dict[str, tuple[list[NodeSpec], tuple[int, ...], dict[str, Any], int, str]] = {
    "softmax": ([("Softmax", "x", "y")], (1, 3), {}, 13, r"Softmax .*'softmax_0'.*not piecewise linear"),
    "transposed convolution": (
        [("ConvTranspose", "x w", "y")],
        (1, 1, 3),
        {"w": normal(1, 1, 2)},
        13,
        r"ConvTranspose .*'convtranspose_0'.*transposed",
    ),
    "upsample": ([("Upsample", "x s", "y")], (1, 3), {"s": normal(2)}, 9, r"Upsample .*resampling"),
    "unknown": ([("Celu", "x", "y")], (1, 3), {}, 13, r"Celu .*'celu_0'.*not supported"),
    "square": ([("Mul", "x x", "y")], (1, 3), {}, 13, r"Mul .*'mul_0'.*both depend on the input"),
    "matmul of variables": ([("MatMul", "x x", "y")], (3, 3), {}, 13, r"MatMul .*both depend"),
    "gemm of variables": ([("Gemm", "x x", "y")], (3, 3), {}, 13, r"Gemm .*both depend"),
    "quotient": ([("Div", "c x", "y")], (1, 3), {"c": normal(3)}, 13, r"Div .*depends on the input"),
    "variable slope": ([("PRelu", "x x", "y")], (1, 3), {}, 13, r"PRelu .*only constants"),
    "variable weight": ([("Conv", "x x", "y")], (1, 1, 3), {}, 13, r"Conv .*only constants"),
    "variable bound": ([("Clip", "x x", "y")], (1,), {}, 13, r"Clip .*only constants"),
    "training": (
        [("Dropout", "x r t", "y")],
        (1, 3),
        {"r": np.array(0.5), "t": np.array(True)},
        13,
        r"Dropout .*training mode",
    ),
    "training batch norm": (
        [("BatchNormalization", "x o o o o", "y m v", {"training_mode": 1})],
        (1, 1),
        {"o": np.ones(1)},
        15,
        r"BatchNormalization .*training mode",
    ),
    "old training batch norm": (
        [("BatchNormalization", "x o o o o", "y m v n w")],
        (1, 1),
        {"o": np.ones(1)},
        9,
        r"BatchNormalization .*training mode",
    ),
    "spatial": (
        [("BatchNormalization", "x o o o o", "y", {"spatial": 0})],
        (1, 1),
        {"o": np.ones(1)},
        7,
        r"BatchNormalization .*spatial=1",
    ),
    "indices of max pool": (
        [("MaxPool", "x", "v y", {"kernel_shape": [2]})],
        (1, 1, 3),
        {},
        13,
        r"MaxPool .*'maxpool_0'.*output 'y' is not supported",
    ),
    "mask of dropout": ([("Dropout", "x", "v y")], (1, 3), {}, 13, r"Dropout .*output 'y' is not supported"),
    "conversion to integers": ([("Cast", "x", "y", {"to": TensorProto.INT64})], (1, 3), {}, 13, r"Cast .*int64"),
    "variable shape": (
        [("Reshape", "x x", "y")],
        (1,),
        {},
        13,
        r"Reshape .*integer constants",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_supported_names_operator_and_node(name: str, tmp_path: Path) -> None:
    """Each refusal is an UnsupportedLayer with the operator, the node and a reason."""
    nodes, shape, constants, opset, message = REFUSED[name]
    with pytest.raises(UnsupportedLayer, match=message):
        read_onnx(save(model(nodes, shape, constants, opset), tmp_path))


def test_nodes_without_name_are_found_by_their_outputs(tmp_path: Path) -> None:
    """Exporters often leave names out; then the position and the output are given."""
    proto = model([("Relu", "x", "z"), ("Tanh", "z", "y")], (1, 3))
    proto.graph.node[1].name = ""
    with pytest.raises(UnsupportedLayer, match=r"Tanh .*number 1, giving y"):
        read_onnx(save(proto, tmp_path))


def test_other_domains_are_refused(tmp_path: Path) -> None:
    """An operator of another domain is not the one of the same name."""
    proto = small()
    proto.graph.node[2].domain = "com.example"
    proto.opset_import.append(helper.make_opsetid("com.example", 1))
    with pytest.raises(UnsupportedLayer, match=r"Relu .*'com\.example'"):
        read_onnx(save(proto, tmp_path))


SHAPES: dict[str, tuple[list[NodeSpec], tuple[int, ...], dict[str, Any]]] = {
    "MatMul": ([("MatMul", "x w", "y")], (1, 3), {"w": normal(4, 2)}),
    "Gemm": ([("Gemm", "x w", "y")], (1, 3), {"w": normal(4, 2)}),
    "Add": ([("Add", "x c", "y")], (1, 3), {"c": normal(4)}),
    "Conv": ([("Conv", "x w", "y")], (1, 3, 4), {"w": normal(1, 2, 2)}),
    "Conv bias": ([("Conv", "x w b", "y")], (1, 1, 4), {"w": normal(2, 1, 2), "b": normal(3)}),
    "Conv kernel": ([("Conv", "x w", "y", {"kernel_shape": [3]})], (1, 1, 4), {"w": normal(1, 1, 2)}),
    "Conv window": ([("Conv", "x w", "y")], (1, 1, 2), {"w": normal(1, 1, 3)}),
    "Reshape": ([("Reshape", "x s", "y")], (1, 3), {"s": ints(2, 2)}),
    "Concat": ([("Concat", "x c", "y", {"axis": 1})], (2, 3), {"c": normal(1, 3)}),
    "Squeeze": ([("Squeeze", "x a", "y")], (1, 3), {"a": ints(1)}),
    "Split": ([("Split", "x s", "y z", {"axis": 1})], (1, 3), {"s": ints(1, 1)}),
    "Gather": ([("Gather", "x i", "y", {"axis": 1})], (1, 3), {"i": ints(3)}),
    "Transpose": ([("Transpose", "x", "y", {"perm": [0, 2, 1]})], (1, 3), {}),
    "ReduceSum": ([("ReduceSum", "x a", "y")], (1, 3), {"a": ints(2)}),
    "Pad": ([("Pad", "x p", "y")], (1, 3), {"p": ints(1, 1)}),
    "BatchNormalization": ([("BatchNormalization", "x c c c c", "y")], (1, 3), {"c": abs(normal(2))}),
}


@pytest.mark.parametrize("name", SHAPES)
def test_sizes_that_do_not_fit_name_the_node(name: str, tmp_path: Path) -> None:
    """Wrong sizes are one input error that starts with the operator."""
    with pytest.raises(InputError, match=rf"^{name.split(maxsplit=1)[0]} \(node '.*_0'\): "):
        read_onnx(save(model(*SHAPES[name]), tmp_path))


@pytest.mark.parametrize(
    ("nodes", "constants"),
    [
        ([("Pad", "x p", "y")], {"p": ints(0, 0, 0, 2**26)}),
        ([("Expand", "x s", "z"), ("Relu", "z", "y")], {"s": ints(2**20, 2**20, 3)}),
        ([("Expand", "x s", "z"), ("MatMul", "z w", "y")], {"s": ints(2**22, 3), "w": np.ones((3, 99))}),
    ],
)
def test_absurd_sizes_are_one_error(nodes: list[NodeSpec], constants: dict[str, Any], tmp_path: Path) -> None:
    """A number that a damaged file blew up neither fills the memory nor takes forever."""
    with pytest.raises(InputError, match=r"too large|Unable to allocate"):
        read_onnx(save(model(nodes, (1, 3), constants), tmp_path))


def test_shape_errors_are_shape_errors(tmp_path: Path) -> None:
    """Sizes that disagree have their own class."""
    with pytest.raises(ShapeError):
        read_onnx(save(model(*SHAPES["Conv"]), tmp_path))


@pytest.mark.parametrize(
    "nodes",
    [
        [("Relu", "ghost", "y")],
        [("Relu", "x", "z")],
        [("Gemm", "x", "y")],
        [("Relu", "x", "y", {"alpha": 1.0})],
        [("MaxPool", "x", "y")],
        [("Concat", "x x", "y")],
    ],
)
def test_graphs_against_the_rules_are_refused(nodes: list[NodeSpec], tmp_path: Path) -> None:
    """Values from nowhere, missing operands, and attributes that do not exist are input errors."""
    with pytest.raises(InputError):
        read_onnx(save(model(nodes, (1, 3)), tmp_path))


def test_sparse_tensors_are_refused(tmp_path: Path) -> None:
    """Sparse initializers are not read as zeros."""
    proto = model([("Identity", "x", "y")], (1, 3))
    values = numpy_helper.from_array(np.ones(1, np.float32), "s")
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, numpy_helper.from_array(ints(1)), [3]))
    with pytest.raises(InputError, match="sparse tensors"):
        read_onnx(save(proto, tmp_path))


def test_name_is_that_of_the_file(tmp_path: Path) -> None:
    """The network is called like its file, without the ending."""
    assert read_onnx(save(small(), tmp_path)).name == "tiny"


def test_optimised_runtime_stays_within_the_bound(tmp_path: Path) -> None:
    """Fusing a product with its addition and its ReLU changes nothing that is counted."""
    path = save(small(), tmp_path)
    network, runtime = read_onnx(path), session(path, optimised=True)
    for _ in range(5):
        x = normal(1, 3)
        assert_within(network, x, runtime.run(None, {"x": x})[0])
