"""The command check: a certificate, by the fast checker or by the kernel.

Exit codes: 0 accepted, 1 rejected, 3 if there is no certificate to judge.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from optverify.cli.shared import Commands, fail, note, say
from optverify.errors import CertificateError, RejectedCertificate
from optverify.semantics import REAL

if TYPE_CHECKING:
    from optverify.network import Network
    from optverify.query import Query


def add_to(commands: Commands) -> None:
    """Add its parser."""
    check = commands.add_parser(
        "check", help="check a certificate: exit 0 accepted (PROVED or REFUTED), 1 rejected, 3 malformed"
    )
    check.add_argument("certificate", metavar="FILE")
    check.add_argument("--network", required=True, metavar="NET", help="the .onnx or .nnet file that it is about")
    check.add_argument("--property", required=True, metavar="PROP", help="the .vnnlib or .json file that it is about")
    check.add_argument("--exact", action="store_true", help="by the independent kernel, in exact integers (slower)")
    check.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from optverify.certificate import check_file
    from optverify.checker import header_of
    from optverify.io import load, load_property

    query = load_property(options.property)
    network = load(options.network, format=query.under(header_of(options.certificate).semantics).format)
    try:
        if options.exact:
            code = _run_kernel(network, query, options.certificate)
            if code == 1:
                note(f"optverify: the fast checker: {_second_opinion(network, query, options.certificate)}")
            return code
        header = check_file(options.certificate, network, query)
    except RejectedCertificate as error:
        fail(str(error))
        return 1
    about = "over the reals" if header.semantics == REAL.name else f"for every execution in {header.semantics}"
    if header.kind == "verified":
        cases = "the unsafe case" if len(query.cases) == 1 else f"any of the {len(query.cases)} unsafe cases"
        say(f"PROVED, {about}: no input reaches {cases} of {options.property}")
    else:
        about = about.replace("every", "some")
        say(f"REFUTED, {about}: case {header.case} of {options.property} is reached by the point in the file")
    return 0


def _second_opinion(network: Network, query: Query, certificate: str) -> str:
    """Say at which node of how many: the kernel follows the records without counting ahead."""
    from optverify.certificate import check_file

    try:
        check_file(certificate, network, query)
    except CertificateError as error:
        return str(error)
    return "accepted; please report this"


def _run_kernel(network: Network, query: Query, certificate: str) -> int:
    """Run the kernel by path, isolated: it sees the canonical problem and the certificate, and nothing of ours."""
    from optverify.canonical import network_text, property_text
    from optverify.checker import header_of, under

    network = under(network, query, header_of(certificate))
    kernel = Path(__file__).parents[1] / "kernel.py"
    with tempfile.TemporaryDirectory(prefix="optverify-") as folder:
        problem = {"network.json": network_text(network), "property.json": property_text(query)}
        for name, text in problem.items():
            Path(folder, name).write_bytes(text)
        files = [str(Path(folder, name)) for name in problem]
        return subprocess.run([sys.executable, "-I", "-S", str(kernel), *files, certificate], check=False).returncode
