"""Running the original file in onnxruntime, to show beside an exact answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from optverify.errors import InputError, require


@dataclass(frozen=True)
class Run:
    """One execution.

    Parameters
    ----------
    runtime : str
        Name and version.
    x, y : tuple of float
        What was fed (rounded to the file's type) and what came out.
    """

    runtime: str
    x: tuple[float, ...]
    y: tuple[float, ...]


def run_onnx(path: str, x: Sequence[float]) -> Run:
    """Run an ONNX file on one input.

    Parameters
    ----------
    path : str
    x : (n_inputs,) float

    Raises
    ------
    MissingExtra
        onnxruntime is not installed.
    InputError
        onnxruntime does not accept the file or the input.
    """
    runtime = require("onnxruntime", "replay")
    try:
        options = runtime.SessionOptions()
        options.log_severity_level = 4
        session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        entry = session.get_inputs()[0]
        kind = {"tensor(double)": np.float64, "tensor(float16)": np.float16}.get(entry.type, np.float32)
        shape = [n if isinstance(n, int) else 1 for n in entry.shape]
        with np.errstate(over="ignore"):
            fed = np.asarray(x).astype(kind).reshape(shape)
        (out,) = session.run([session.get_outputs()[0].name], {entry.name: fed})
    except Exception as error:  # onnxruntime's exceptions share no public base
        raise InputError(f"onnxruntime cannot run {path}: {error}") from None
    return Run(
        f"onnxruntime {runtime.__version__}",
        tuple(float(v) for v in fed.ravel()),
        tuple(float(v) for v in np.asarray(out).ravel()),
    )
