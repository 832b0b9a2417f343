"""Optimise a linear objective of a network's outputs by OMLT's big-M formulation, Pyomo and HiGHS.

    PYTHON omlt_bigm.py PROBLEM.npz --time-limit 90

Needs ``omlt``, ``pyomo`` and ``highspy`` and nothing of this project, so that it can run in an environment of its
own. ``PROBLEM.npz`` holds for layer k ``weight_k`` (out, in), ``bias_k`` and ``relu_k``, then ``lower`` and
``upper`` of the inputs, and the objective ``c`` over the outputs. The bounds of the neurons are OMLT's own.
"""

from __future__ import annotations

import argparse
import json
import logging
import math

import numpy as np
import pyomo.environ as pyo
from omlt import OmltBlock
from omlt.neuralnet import FullSpaceNNFormulation, NetworkDefinition
from omlt.neuralnet.layer import DenseLayer, InputLayer
from pyomo.contrib.appsi.solvers import Highs


def definition(problem: dict[str, np.ndarray]) -> NetworkDefinition:
    """Return OMLT's form of the network."""
    ends = zip(problem["lower"].tolist(), problem["upper"].tolist(), strict=True)
    network = NetworkDefinition(scaled_input_bounds=dict(enumerate(ends)))
    previous = InputLayer([len(problem["lower"])])
    network.add_layer(previous)
    for k in range(sum(name.startswith("weight_") for name in problem)):
        weight = problem[f"weight_{k}"]
        activation = "relu" if problem[f"relu_{k}"] else "linear"
        layer = DenseLayer([weight.shape[1]], [weight.shape[0]], weight.T, problem[f"bias_{k}"], activation=activation)
        network.add_layer(layer)
        network.add_edge(previous, layer)
        previous = layer
    return network


def main() -> None:
    """Solve and print ``{"lower", "upper", "complete", "status"}``; the ends are claims."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("problem")
    parser.add_argument("--sense", choices=["min", "max"], default="min")
    parser.add_argument("--time-limit", type=float, required=True)
    parser.add_argument("--gap", type=float, default=1e-6)
    options = parser.parse_args()
    with np.load(options.problem) as stored:
        problem = dict(stored)
    logging.getLogger("pyomo").setLevel(logging.ERROR)  # it warns of starting values that nobody uses
    model = pyo.ConcreteModel()
    model.net = OmltBlock()
    model.net.build_formulation(FullSpaceNNFormulation(definition(problem)))
    terms = [float(c) * model.net.outputs[j] for j, c in enumerate(problem["c"]) if c]
    model.objective = pyo.Objective(expr=sum(terms), sense=pyo.minimize if options.sense == "min" else pyo.maximize)
    solver = Highs()
    solver.config.load_solution = False
    solver.config.time_limit = options.time_limit
    solver.config.mip_gap = options.gap
    solver.highs_options = {"threads": 1}
    result = solver.solve(model)
    ends = [result.best_objective_bound, result.best_feasible_objective]
    ends = [math.inf if end is None else end for end in (ends if options.sense == "min" else ends[::-1])]
    status = result.termination_condition.name
    lower, upper = (end if abs(end) < 1e20 else None for end in ends)
    print(json.dumps({"lower": lower, "upper": upper, "complete": status == "optimal", "status": status}))


if __name__ == "__main__":
    main()
