"""What the package exports, and that it needs no optional package."""

from __future__ import annotations

import doctest
import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optverify
from optverify import Box, Network, Query, campaign, outputs
from optverify.errors import InputError, MissingExtra, OptverifyError, require


def test_exports_are_complete_and_sorted() -> None:
    """`__all__` is sorted, everything in it exists, and every public class is in it."""
    assert optverify.__all__ == sorted(optverify.__all__)
    for name in optverify.__all__:
        assert getattr(optverify, name) is not None
    public = {n for n, v in vars(optverify).items() if not n.startswith("_") and (isinstance(v, type))}
    assert public <= set(optverify.__all__)


@pytest.mark.parametrize("module", ["__init__", "verify", "expressions", "network", "semantics", "models"])
def test_the_examples_in_docstrings_are_true(module: str) -> None:
    """Run as written."""
    found = importlib.import_module("optverify" if module == "__init__" else f"optverify.{module}")
    done = doctest.testmod(found)
    assert done.attempted
    assert not done.failed


def test_public_functions_and_classes_are_documented() -> None:
    """Everything exported has a docstring that starts with a sentence."""
    for name in optverify.__all__:
        doc = getattr(optverify, name).__doc__
        assert doc
        assert doc.strip().split("\n")[0].endswith((".", "?"))


NET = Network.from_arrays([([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0])])
BOX = Box([0, 0], [1, 1])
ABOVE = outputs(2)[0] <= 1
ENTRANCES: dict[str, Callable[[Any], object]] = {
    "verify, network": lambda it: optverify.verify(it, Query.robust(BOX, 0, 2)),
    "verify, query": lambda it: optverify.verify(NET, it),
    "bound, network": lambda it: optverify.bound(it, BOX, "Y_0"),
    "bound, region": lambda it: optverify.bound(NET, it, "Y_0"),
    "compare, network": lambda it: optverify.compare(it, BOX),
    "compare, question": lambda it: optverify.compare(NET, it),
    "compare_instances, instance": lambda it: optverify.compare_instances([it]),
    "campaign, instance": lambda it: campaign.run([it]),
    "certify, network": lambda it: optverify.certify(it, [[0.5, 0.5]], [0], 0.1),
    "radius, network": lambda it: optverify.radius(it, [0.5, 0.5]),
    "radius, domain": lambda it: optverify.radius(NET, [0.5, 0.2], domain=it),
    "safe_box, network": lambda it: optverify.safe_box(it, [0.5, 0.5]),
    "safe_box, safe": lambda it: optverify.safe_box(NET, [0.5, 0.2], property=it),
    "dual_box, network": lambda it: optverify.dual_box(it, 0),
    "dual_box, label": lambda it: optverify.dual_box(NET, it),
    "to_cvxpy, network": lambda it: optverify.to_cvxpy(it, BOX),
    "to_cvxpy, question": lambda it: optverify.to_cvxpy(NET, it),
    "to_pyomo, network": lambda it: optverify.to_pyomo(it, BOX),
    "Query, region": lambda it: Query.always(it, ABOVE, 2),
    "Query, safe": lambda it: Query.always(BOX, it, 2),
    "Query, label": lambda it: Query.robust(BOX, it, 2),
}


@pytest.mark.parametrize("wrong", ["net.onnx", Path("net.onnx"), np.zeros(2), [0.5], object()], ids=type)
@pytest.mark.parametrize("entrance", ENTRANCES)
def test_an_argument_of_a_wrong_type_is_refused_by_its_name(entrance: str, wrong: object) -> None:
    """Where it comes in, in one line, by all that takes networks, regions and properties."""
    with pytest.raises(InputError, match=entrance.split(", ")[1] if entrance != "certify, network" else "net"):
        ENTRANCES[entrance](wrong)


BLOCK = """
import sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        extras = "torch flint mosek onnxruntime matplotlib IPython vnnlib distributed pandas pyarrow"
        if name.split(".")[0] in extras.split():
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Finder())
"""


def test_verifies_without_any_extra() -> None:
    """With every optional package blocked the core still verifies."""
    code = BLOCK + (
        "from optverify import *\n"
        "net = Network.from_arrays([([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], [0.0])])\n"
        "print(verify(net, Query.always(Box([-1], [2]), outputs(1)[0] <= 3, 1)).verdict.value)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "verified", done.stderr


def test_a_missing_extra_is_named() -> None:
    """Reading a PyTorch module without torch says which extra brings it."""
    code = BLOCK + (
        "from optverify import load\n"
        "try:\n    load(object(), input_shape=(3,))\n"
        "except ImportError as error:\n    print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("MissingExtra"), done.stdout + done.stderr
    assert "optverify[torch]" in done.stdout


def test_require_imports_or_names_the_extra() -> None:
    """An installed module comes back; a missing one is a MissingExtra, which is an ImportError."""
    assert require("json", "anything").__name__ == "json"
    with pytest.raises(MissingExtra, match=r"optverify\[magic\]"):
        require("no_such_module_here", "magic")
    assert issubclass(MissingExtra, OptverifyError)
    assert issubclass(MissingExtra, ImportError)
