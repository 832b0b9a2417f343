"""The command vnnlib, the solver command line of VNN-LIB 2.0: verify, supports.

The name `optverify.cli.vnnlib` is taken by the script that runs it.
"""

from __future__ import annotations

import argparse

from optverify import __version__
from optverify.cli.shared import Commands, note, positive_count, positive_seconds, say, workers_or_default

CAPABILITIES = (
    "onnx-opset-versions",
    "onnx-element-types",
    "onnx-operators",
    "vnnlib-versions",
    "hidden-node-theories",
    "multiple-input-output-theories",
    "multiple-network-theories",
    "multiple-node-comparison-theories",
    "arithmetic-complexity-theories",
    "optimised-disjunctive-reasoning",
    "serialise-assignments",
    "unsat-proofs",
)
"""What VNN-LIB 2.0 lets one ask a solver."""


def add_to(commands: Commands) -> None:
    """Add its parser."""
    parser = commands.add_parser("vnnlib", help="the solver command line of VNN-LIB 2.0: verify, supports")
    parser.add_argument("--name", action="version", version="optverify", help="print the solver's name")
    parser.add_argument("--version", action="version", version=__version__)
    parts = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    verify = parts.add_parser("verify", help="print unsat, sat and an assignment, unknown or timed-out")
    verify.add_argument("query", metavar="QUERY", help="VNN-LIB 2.0 file")
    verify.add_argument(
        "--network", action="append", default=[], type=_named_file, metavar="NAME=FILE", help="network of that name"
    )
    verify.add_argument("--timeout", type=positive_seconds, metavar="S", help="seconds of wall clock")
    verify.add_argument("--workers", type=positive_count, metavar="N", help="processes for long searches")
    verify.set_defaults(run=_verify)

    supports = parts.add_parser("supports", help="print a capability")
    wanted = supports.add_mutually_exclusive_group(required=True)
    for capability in CAPABILITIES:
        wanted.add_argument(f"--{capability}", dest="capability", action="store_const", const=capability)
    supports.set_defaults(run=_supports)


def _named_file(text: str) -> tuple[str, str]:
    name, _, path = text.partition("=")
    if not (name and path):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=FILE")
    return name, path


def _verify(options: argparse.Namespace) -> int:
    from optverify.vnnlib import answer

    found = answer(options.query, options.network, options.timeout, workers_or_default(options.workers))
    say("\n".join(found.output))
    note("\n".join(found.notes))
    return 0


def _supports(options: argparse.Namespace) -> int:
    from optverify.vnnlib import supported

    say("\n".join(supported(options.capability)))
    return 0
