"""Every error that optverify raises on purpose.

::

    OptverifyError
    ├─ InputError (ValueError)                 the user's file, array or property is wrong
    │  ├─ ParseError                           text that cannot be read: file, line, column
    │  ├─ ShapeError                           sizes that do not fit together
    │  └─ UnsupportedLayer (NotImplementedError)   an operator, named with its node
    ├─ OutputError (OSError)                   a result that cannot be written
    ├─ MissingExtra (ImportError)              an optional package, named with its extra
    ├─ ExecutorError (RuntimeError)            processes or a cluster that cannot do the work
    ├─ SolverError (RuntimeError)              a solver that cannot be used or broke down
    │  ├─ SolverUnavailable
    │  ├─ UnsupportedProgram
    │  └─ SolverCrashed
    └─ CertificateError
       ├─ MalformedCertificate                 does not follow the format
       └─ RejectedCertificate                  follows it, and does not prove what it should

Time limits, infeasible programs and inaccurate solutions are results, never errors.
Each message says what is wrong, where, and what to do.
"""

from __future__ import annotations

import importlib
from types import ModuleType


class OptverifyError(Exception):
    """Root of the tree; the command line turns it into one line and exit code 3."""


class InputError(OptverifyError, ValueError):
    """The given network, property, region or option is not usable."""


class ParseError(InputError):
    """Text that does not follow its format.

    Parameters
    ----------
    message : str
        What is wrong and what was expected.
    source : str
        File name, or a name such as ``"<objective>"``.
    line, column : int, optional
        1-based position of the offending token.
    """

    def __init__(self, message: str, source: str = "", line: int | None = None, column: int | None = None) -> None:
        self.source, self.line, self.column = source, line, column
        place = [source] if source else []
        if line is not None:
            place.append(f"line {line}")
        if column is not None:
            place.append(f"column {column}")
        super().__init__(f"{', '.join(place)}: {message}" if place else message)


class ShapeError(InputError):
    """Two sizes disagree."""


class UnsupportedLayer(InputError, NotImplementedError):
    """An operator that the readers do not lower, or not with these attributes.

    Parameters
    ----------
    operator : str
        Its type, for instance ``"Softmax"``.
    node : str
        Its name in the file.
    reason : str
        What about it is not supported and what to do instead.
    """

    def __init__(self, operator: str, node: str, reason: str = "this operator is not supported") -> None:
        self.operator, self.node = operator, node
        super().__init__(f"{operator} (node {node!r}): {reason}")


class OutputError(OptverifyError, OSError):
    """A file that cannot be written; what stood there before is untouched."""


class MissingExtra(OptverifyError, ImportError):
    """An optional package is not installed.

    Parameters
    ----------
    module : str
        The import that failed.
    extra : str
        The extra of optverify that brings it.
    """

    def __init__(self, module: str, extra: str) -> None:
        self.module, self.extra = module, extra
        super().__init__(f"this needs the package {module!r}: install it with  pip install 'optverify[{extra}]'")


class ExecutorError(OptverifyError, RuntimeError):
    """A process that died, or a cluster that is gone; a campaign goes on when it is started again."""


class SolverError(OptverifyError, RuntimeError):
    """Something about a solver."""


class SolverUnavailable(SolverError):
    """The solver is not installed or not licensed here; the message says which."""


class UnsupportedProgram(SolverError):
    """The solver cannot take this kind of program (integers, semidefinite cones, ...)."""


class SolverCrashed(SolverError):
    """The solver raised, returned nonsense or died; the attempt failed, nothing else is implied."""


class CertificateError(OptverifyError):
    """A certificate that proves nothing."""


class MalformedCertificate(CertificateError):
    """The file does not follow the format."""


class RejectedCertificate(CertificateError):
    """The file follows the format and does not prove the statement; the message says where and why."""


WANTED = {
    "Network": "a Network: load(path) reads one",
    "Query": "a Query: load_property(path) reads one, Query.always(region, condition, n_outputs) says one",
    "Box": "a Box(lower, upper)",
    "Condition": "a condition such as outputs(n)[0] <= 1",
    "Integral": "a whole number",
}
"""What to pass, by the name of the type."""


def expect(kinds: type | tuple[type, ...], **given: object) -> None:
    """Refuse an argument of another type where it comes in, by its name.

    Raises
    ------
    InputError
        It is not of one of the kinds; the message says how to make one.
    """
    for name, value in given.items():
        if not isinstance(value, kinds):
            names = [kind.__name__ for kind in (kinds if isinstance(kinds, tuple) else (kinds,))]
            wanted = "; or ".join(WANTED.get(kind, f"of the type {kind}") for kind in names)
            raise InputError(f"{name} is of the type {type(value).__name__}; it must be {wanted}")


def require(module: str, extra: str) -> ModuleType:
    """Import an optional module.

    Raises
    ------
    MissingExtra
        It is not installed; the message names the extra.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if error.name is not None and error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise MissingExtra(module, extra) from None
