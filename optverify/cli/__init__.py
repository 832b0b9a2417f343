"""The command line: a file for each command or two, :mod:`optverify.cli.shared`, and `main`, which runs one of them.

Exit codes: 0 verified (or done), 1 falsified, 2 unknown (or stopped early), 3 error. Results go to standard
output, progress and errors to standard error.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from optverify import __version__
from optverify.cli import (
    bound,
    campaign_certify,
    check,
    compare,
    radius_box,
    replay,
    show,
    solvers,
    verify,
    vnnlib2,
)
from optverify.cli.shared import EXIT_ERROR, Parser, fail
from optverify.errors import OptverifyError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    atexit.register(gc.freeze)  # the last search for garbage takes longer than to leave the memory to the system
    options = _parser().parse_args(arguments)
    options.arguments = arguments
    try:
        return int(options.run(options))
    except OptverifyError as error:
        return fail(str(error))
    except KeyboardInterrupt:
        return fail("interrupted")
    except BrokenPipeError:  # the reader of our output has gone
        with suppress(OSError):
            os.close(sys.stdout.fileno())
        return EXIT_ERROR
    except (MemoryError, RecursionError) as error:
        return fail(f"{type(error).__name__}: the problem is too large for this machine")
    except Exception as error:  # a defect of ours: still one line, and never a verdict
        if os.environ.get("OPTVERIFY_DEBUG"):
            raise
        return fail(
            f"internal error, please report it: {type(error).__name__}: {error} (OPTVERIFY_DEBUG=1 shows where)"
        )


def vnnlib() -> int:
    """Run the command line of VNN-LIB 2.0 as a program of its own."""
    return main(["vnnlib", *sys.argv[1:]])


def _parser() -> Parser:
    parser = Parser(
        prog="optverify",
        description="Neural-network verification in which every number is a theorem or is labelled a claim.",
        epilog="exit codes: 0 verified, 1 falsified, 2 unknown, 3 error",
    )
    parser.add_argument("--version", action="version", version=f"optverify {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in (verify, check, bound, compare, radius_box, replay, vnnlib2, campaign_certify, show, solvers):
        command.add_to(commands)
    return parser
