"""What other runtimes compute: onnxruntime on the original file, torch on single steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

from optverify.errors import InputError, require
from optverify.interval import Array


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


def has_torch() -> bool:
    """Tell whether torch is installed, without the seconds that its import takes."""
    try:
        return find_spec("torch") is not None
    except ImportError:
        return False


def torch_step(weight: Array, values: Array, bias: Array, kind: str) -> Array:
    """Multiply and add by torch, in its own kernels for the format, one sample at a time as in deployment.

    Parameters
    ----------
    weight : (g, k) float64
        Numbers of the format, like all others.
    values : (..., g, k) float64
        What each row reads.
    bias : (g,) float64
    kind : str
        Name of the format.

    Returns
    -------
    (..., g) float64

    Raises
    ------
    MissingExtra
        torch is not installed.
    """
    torch = require("torch", "torch")
    dtype = getattr(torch, kind)
    w, b = (torch.tensor(part, dtype=torch.float64).to(dtype) for part in (weight, bias))
    result = np.empty(values.shape[:-1])
    with torch.no_grad():
        for place in np.ndindex(values.shape[:-2]):
            a = torch.tensor(values[place], dtype=torch.float64).to(dtype)
            if bool((a == a[0]).all()):  # a dense layer: all rows read the same
                z = torch.nn.functional.linear(a[:1], w, b)[0]
            else:
                z = torch.matmul(a[:, None, :], w[:, :, None])[:, 0, 0] + b
            result[place] = z.double().numpy()
    return result
