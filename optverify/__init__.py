"""Neural-network verification in which every number is a theorem or is labelled a claim.

>>> from optverify import Box, Network, Query, outputs, verify
>>> net = Network.from_arrays([([[1.0, -1.0]], [0.0]), ([[2.0]], [1.0])])  # 2 relu(x0 - x1) + 1
>>> y = outputs(1)
>>> answer = verify(net, Query.always(Box([0, 0], [1, 1]), y[0] <= 4, n_outputs=1))
>>> answer.verdict.value
'verified'
"""

from optverify.bound import bound
from optverify.certify import CertifiedAccuracy, certify
from optverify.compare import compare, compare_instances
from optverify.errors import OptverifyError
from optverify.expressions import Linear, inputs, outputs
from optverify.instances import Instance
from optverify.io import load, load_property
from optverify.measures.boxes import safe_box
from optverify.measures.brackets import Radius
from optverify.measures.dual import dual_box
from optverify.measures.radius import radius
from optverify.measures.results import DualBox, SafeBox
from optverify.modelling.cvxpy import CvxpyModel
from optverify.models import safe_bound, to_cvxpy, to_pyomo
from optverify.network import Affine, Network, Relu
from optverify.query import Case, Query
from optverify.region import Ball, Box
from optverify.results import BoundResult, ModelBound, Verdict, Verification
from optverify.verify import verify
from optverify.witness import Witness

__version__ = "0.1.0"

__all__ = [
    "Affine",
    "Ball",
    "BoundResult",
    "Box",
    "Case",
    "CertifiedAccuracy",
    "CvxpyModel",
    "DualBox",
    "Instance",
    "Linear",
    "ModelBound",
    "Network",
    "OptverifyError",
    "Query",
    "Radius",
    "Relu",
    "SafeBox",
    "Verdict",
    "Verification",
    "Witness",
    "bound",
    "certify",
    "compare",
    "compare_instances",
    "dual_box",
    "inputs",
    "load",
    "load_property",
    "outputs",
    "radius",
    "safe_bound",
    "safe_box",
    "to_cvxpy",
    "to_pyomo",
    "verify",
]
