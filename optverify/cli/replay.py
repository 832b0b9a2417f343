"""The command replay."""

from __future__ import annotations

import argparse
import json
from fractions import Fraction
from pathlib import Path

from optverify.cli.shared import Commands
from optverify.errors import InputError
from optverify.semantics import SEMANTICS


def add_to(commands: Commands) -> None:
    """Add its parser."""
    replay = commands.add_parser("replay", help="run a witness in exact arithmetic, in every order and runtime")
    replay.add_argument("network", metavar="NET", help=".onnx or .nnet file")
    replay.add_argument("witness", metavar="WITNESS", help="the answer of verify --json with a witness or a near miss")
    replay.add_argument(
        "--semantics",
        choices=list(SEMANTICS)[1:],
        help="format of the orders (default: that of WITNESS or the file, or float32)",
    )
    replay.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    from optverify.executions import runs
    from optverify.io import load
    from optverify.semantics import FLOAT32

    point, asked = _point(options.witness)
    network = load(options.network, format=options.semantics or asked or FLOAT32.name)
    name = options.semantics or asked or (network.format if network.format in SEMANTICS else FLOAT32.name)
    shown = range(min(network.n_outputs, 8))
    table = Table("execution", *(f"Y_{j}" for j in shown), box=None, pad_edge=False)
    for execution, y in runs(network, point, SEMANTICS[name]).items():
        table.add_row(execution, *(f"{y[j]:.17g}" for j in shown))
    Console(highlight=False, soft_wrap=True).print(table)
    return 0


def _point(path: str) -> tuple[list[Fraction], str]:
    """Read the witness, or else the near miss, of an answer in JSON, and the format that it is about if any."""
    try:
        answer = json.loads(Path(path).read_bytes())
        point = (answer["witness"] or answer["near_miss"])["x"]
        parts = [[int(part, 0) for part in text.split("/")] for text in point]
        asked = str(answer.get("semantics"))
        return [Fraction(*part) for part in parts], asked if asked in list(SEMANTICS)[1:] else ""
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, AttributeError, ZeroDivisionError):
        raise InputError(f"{path} is no answer of verify with a witness or a near miss") from None
