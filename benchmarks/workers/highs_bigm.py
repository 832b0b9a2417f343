"""Optimise a linear objective of a network's outputs by plain HiGHS on our big-M program.

    python -m benchmarks.workers.highs_bigm NET PROP --objective "Y_0 - Y_1" --bounds crown --time-limit 90

The program is that of ``optverify.formulations.bigm``; HiGHS has its default options but for one thread, the time
limit and the gap. No callbacks, no adapter of ours.
"""

from __future__ import annotations

import argparse
import json
import math
from typing import Any

import highspy
import numpy as np

from optverify import formulations
from optverify.bounds.crown import crown
from optverify.bounds.interval_propagation import propagate
from optverify.formulations import Cone, Program, Weighted
from optverify.io import load, load_property
from optverify.io.expression import parse_linear
from optverify.query import append_rows


def passed(program: Program) -> Any:
    """Return HiGHS's own form of a program."""
    lp = highspy.HighsLp()
    row_lower = program.b.copy()
    for block in program.rows.values():
        if block.cone is Cone.NONNEG:
            row_lower[block.indices] = -math.inf
    lp.num_col_, lp.num_row_ = program.n_variables, program.n_rows
    lp.col_cost_, lp.offset_ = program.c, program.c0
    lp.col_lower_, lp.col_upper_ = program.lower, program.upper
    lp.row_lower_, lp.row_upper_ = row_lower, program.b
    lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lp.a_matrix_.start_, lp.a_matrix_.index_ = program.A.indptr, program.A.indices
    lp.a_matrix_.value_ = program.A.data
    kinds = (highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger)
    lp.integrality_ = [kinds[flag] for flag in program.integer.tolist()]
    return lp


def main() -> None:
    """Solve and print ``{"lower", "upper", "complete", "status", "nodes"}``; the ends are HiGHS's claims."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("network")
    parser.add_argument("property", help="its box of inputs is used")
    parser.add_argument("--objective", required=True)
    parser.add_argument("--sense", choices=["min", "max"], default="min")
    parser.add_argument("--bounds", choices=["crown", "interval"], required=True, help="of the pre-activations")
    parser.add_argument("--time-limit", type=float, required=True)
    parser.add_argument("--gap", type=float, default=1e-6)
    options = parser.parse_args()
    linear = parse_linear(options.objective)
    network = append_rows(load(options.network), [linear if options.sense == "min" else -linear])
    region = load_property(options.property).cases[0].region.outward
    bounds = (crown if options.bounds == "crown" else propagate)(network, region.take(None))[0].take(0)
    program = formulations.get("bigm").build(network, region, bounds, Weighted(np.ones(1)))
    highs = highspy.Highs()  # type: ignore[no-untyped-call]
    settings = {"log_to_console": False, "threads": 1, "mip_rel_gap": options.gap, "time_limit": options.time_limit}
    for name, value in settings.items():
        highs.setOptionValue(name, value)
    highs.passModel(passed(program))
    highs.run()
    info, status = highs.getInfo(), highs.getModelStatus()
    ends = [info.mip_dual_bound, info.objective_function_value]
    if info.primal_solution_status != int(highspy.SolutionStatus.kSolutionStatusFeasible):
        ends[1] = math.inf
    if options.sense == "max":
        ends = [-ends[1], -ends[0]]
    lower, upper = (end if abs(end) < 1e20 else None for end in ends)
    complete = status == highspy.HighsModelStatus.kOptimal
    found = {"lower": lower, "upper": upper, "complete": complete, "status": highs.modelStatusToString(status)}
    print(json.dumps({**found, "nodes": int(info.mip_node_count), "binaries": int(program.integer.sum())}))


if __name__ == "__main__":
    main()
