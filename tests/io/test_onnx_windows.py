"""Convolutions and pooling with random kernels, strides, dilations and paddings against onnxruntime."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

from optverify.errors import InputError, UnsupportedLayer
from optverify.io.onnx import read_onnx
from tests.io.models import assert_agrees, model, save, session

FEW = st.integers(1, 3)
AUTO = st.sampled_from(["NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"])


def attributes(draw: st.DrawFn, *, pool: bool) -> tuple[dict[str, Any], tuple[int, int]]:
    """Draw the attributes of a window of two dimensions, and what it slides over."""
    kernel = [draw(FEW), draw(FEW)]
    found: dict[str, Any] = {"kernel_shape": kernel, "strides": [draw(FEW), draw(FEW)], "auto_pad": draw(AUTO)}
    if found["auto_pad"] == "NOTSET":
        found["pads"] = [draw(st.integers(0, kernel[i % 2] - 1 if pool else 3)) for i in range(4)]
        found["dilations"] = [draw(FEW), draw(FEW)]
    if pool and found["auto_pad"] == "NOTSET":
        found["ceil_mode"] = draw(st.integers(0, 1))
    return found, (draw(st.integers(1, 7)), draw(st.integers(1, 7)))


@st.composite
def pools(draw: st.DrawFn) -> tuple[str, dict[str, Any], tuple[int, int]]:
    """Draw a pooling operator."""
    found, spatial = attributes(draw, pool=True)
    operator = draw(st.sampled_from(["MaxPool", "AveragePool"]))
    if operator == "AveragePool":
        found["count_include_pad"] = draw(st.integers(0, 1))
    return operator, found, spatial


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[dict[str, Any], tuple[int, int], int]:
    """Draw a convolution of 4 channels and the number of channels that it gives."""
    found, spatial = attributes(draw, pool=False)
    found["group"] = draw(st.sampled_from([1, 2, 4]))
    return found, spatial, found["group"] * draw(st.integers(1, 2))


def agrees_or_both_refuse(proto: Any) -> None:
    """Compare; where onnxruntime refuses a model, there is nothing to compare with."""
    with tempfile.TemporaryDirectory() as folder:
        path = save(proto, Path(folder))
        try:
            shape = session(path).get_inputs()[0].shape
            session(path).run(None, {"x": np.zeros(shape, np.float32)})
        except (Fail, InvalidArgument, RuntimeException):
            assume(False)
        assert_agrees(path, samples=2)


@settings(max_examples=150, deadline=None)
@given(pools())
def test_pooling_agrees(drawn: tuple[str, dict[str, Any], tuple[int, int]]) -> None:
    """Pooling in any geometry is what onnxruntime computes, unless a window holds nothing."""
    operator, found, spatial = drawn
    refusal = None
    try:
        agrees_or_both_refuse(model([(operator, "x", "y", found)], (1, 2, *spatial), opset=19))
    except InputError as error:
        refusal = str(error)
    assert refusal is None or re.search("nothing but padding|does not fit|leave gaps", refusal)


@settings(max_examples=150, deadline=None)
@given(convolutions())
def test_convolution_agrees(drawn: tuple[dict[str, Any], tuple[int, int], int]) -> None:
    """Convolution in any geometry is what onnxruntime computes."""
    found, spatial, outputs = drawn
    random = np.random.default_rng(3)
    weight = random.standard_normal((outputs, 4 // found["group"], *found["kernel_shape"]))
    nodes = [("Conv", "x w b", "y", found)]
    agrees_or_both_refuse(model(nodes, (1, 4, *spatial), {"w": weight, "b": random.standard_normal(outputs)}))


@pytest.mark.parametrize(
    ("operator", "found"),
    [
        ("MaxPool", {"kernel_shape": [2], "dilations": [2]}),
        ("AveragePool", {"kernel_shape": [1], "strides": [3]}),
        ("MaxPool", {"kernel_shape": [1], "strides": [3]}),
    ],
)
def test_same_padding_without_agreed_meaning_is_refused(operator: str, found: dict[str, Any], tmp_path: Path) -> None:
    """There the runtime pads differently from the specification, so neither is assumed."""
    nodes = [(operator, "x", "y", {**found, "auto_pad": "SAME_UPPER"})]
    with pytest.raises(UnsupportedLayer, match="no agreed meaning"):
        read_onnx(save(model(nodes, (1, 1, 3), opset=19), tmp_path))


@pytest.mark.parametrize("operator", ["MaxPool", "AveragePool"])
def test_window_of_padding_is_refused(operator: str, tmp_path: Path) -> None:
    """The maximum or mean of nothing is no number."""
    found = {"kernel_shape": [1], "pads": [1, 0]}
    path = save(model([(operator, "x", "y", found)], (1, 1, 3)), tmp_path)
    with pytest.raises(InputError, match=rf"{operator} .*nothing but padding"):
        read_onnx(path)
