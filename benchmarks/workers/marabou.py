"""Run Marabou 2.0 with the command line of ``optverify verify``.

    PYTHON marabou.py NET.onnx PROP.vnnlib --time-limit 120 --json -

Needs ``pip install maraboupy==2.0.0 onnx onnxruntime`` and nothing of this project, so that it can run in an
environment of its own. Prints ``{"verdict", "reason", "witness"}`` and exits with 0 verified, 1 falsified, 2 unknown,
3 error. Marabou computes in floats and within tolerances: its verdicts are claims.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings

CODES = {"verified": 0, "falsified": 1, "unknown": 2}


def solve(network: str, prop: str, seconds: float) -> dict[str, object]:
    """Return what Marabou says, with its default options but for the time limit."""
    warnings.simplefilter("ignore")  # of readers for formats that nobody asked for
    from maraboupy import Marabou

    options = Marabou.createOptions(timeoutInSeconds=max(1, round(seconds)), verbosity=0)
    model = Marabou.read_onnx(network)
    outcome, values, _ = model.solve(filename="", verbose=False, options=options, propertyFilename=prop)
    names = {"unsat": "verified", "sat": "falsified"}
    inputs = [int(v) for v in model.inputVars[0].ravel()]
    witness = [float(values[v]) for v in inputs] if outcome == "sat" else None
    return {"verdict": names.get(outcome, "unknown"), "reason": f"Marabou: {outcome}", "witness": witness}


def main() -> int:
    """Solve and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("network")
    parser.add_argument("property")
    parser.add_argument("--time-limit", type=float, required=True)
    parser.add_argument("--json", choices=["-"], default="-", help="always to standard output")
    options = parser.parse_args()
    # Marabou prints what it likes; the answer is to be the only thing on standard output.
    answers = os.dup(1)
    os.dup2(2, 1)
    try:
        found = solve(options.network, options.property, options.time_limit)
    except ImportError as error:
        print(f"Marabou is not installed here: {error} (pip install maraboupy==2.0.0)", file=sys.stderr)
        return 3
    except Exception as error:
        print(f"Marabou failed: {type(error).__name__}: {error}", file=sys.stderr)
        return 3
    os.write(answers, (json.dumps(found) + "\n").encode())
    return CODES[str(found["verdict"])]


if __name__ == "__main__":
    sys.exit(main())
