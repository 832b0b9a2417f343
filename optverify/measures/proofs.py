"""A folder with a certificate of each end of each face of a dual box."""

from __future__ import annotations

from fractions import Fraction
from io import BytesIO
from pathlib import Path

from optverify.bound import property_text
from optverify.certificate import check, write_falsified
from optverify.deployment import deployed
from optverify.errors import CertificateError, OutputError
from optverify.io.files import replacing
from optverify.measures.results import Side
from optverify.measures.sweep import over, slab
from optverify.network import Network
from optverify.query import Query
from optverify.region import Box
from optverify.results import Verdict
from optverify.semantics import Semantics
from optverify.solvers.solution import Solver
from optverify.verify import verify
from optverify.witness import Witness


class Folder:
    """Writes certificates ``NAME.proof``, each with the property that it is about beside it, ``NAME.vnnlib``.

    Parameters
    ----------
    path : str
        Made where there is none.
    network : Network
        Over the reals.
    query : Query
        Its cases are the class, its region the domain.
    semantics : Semantics
    solver : str or Solver or None

    Attributes
    ----------
    complete : bool
        Whether the checker accepted all that was to be written.

    Raises
    ------
    OutputError
        The folder cannot be made.
    InputError
        The class cannot be written as VNN-LIB.
    """

    def __init__(
        self, path: str, network: Network, query: Query, semantics: Semantics, solver: str | Solver | None
    ) -> None:
        property_text(query)
        try:
            Path(path).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make the folder {path}: {error.strerror or error}") from None
        self._path, self._network, self._query = Path(path), network, query
        self._semantics, self._solver, self.complete = semantics, solver, True

    def outer(self, box: Box, axis: int, side: Side, position: Fraction) -> None:
        """Prove that the class has no point in a box between a face of it and a position."""
        end = getattr(box, side)[axis]
        if end != position:
            self.empty(slab(box, axis, end, position), f"face-{axis}-{side}-outer")

    def empty(self, box: Box, name: str) -> None:
        """Prove that the class has no point in a box."""
        asked = over(self._query, box)
        with replacing(str(self._path / f"{name}.vnnlib")) as stream:
            answer = verify(
                self._network,
                asked,
                semantics=self._semantics,
                solver=self._solver,
                certificate=str(self._path / f"{name}.proof"),
            )
            proved = answer.verdict is Verdict.VERIFIED and bool(answer.certified)
            if proved:
                stream.write(property_text(asked).encode())
        self.complete &= proved

    def inner(self, axis: int, side: Side, witness: Witness) -> None:
        """Refute that the class has no point as far out as a witness."""
        (domain,) = {case.region for case in self._query.cases}
        asked = over(self._query, slab(domain, axis, getattr(domain, side)[axis], witness.x[axis]))
        network, written = deployed(self._network, self._semantics), BytesIO()
        assert witness.case is not None
        try:
            write_falsified(written, network, asked, witness.case, witness.x)
            check(BytesIO(written.getvalue()), network, asked)
        except CertificateError:
            self.complete = False
            return
        for end, content in ((".proof", written.getvalue()), (".vnnlib", property_text(asked).encode())):
            with replacing(str(self._path / f"face-{axis}-{side}-inner{end}")) as stream:
                stream.write(content)
