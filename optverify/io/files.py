"""Writing files so that they appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from optverify.errors import InputError, OutputError


@contextmanager
def replacing(path: str) -> Iterator[BinaryIO]:
    """Open a stream whose content replaces a file once the block ends without an error.

    A block that writes nothing replaces nothing.

    The temporary file beside it is made at once, so that a folder that cannot be written to is an error before
    the work and not after it.

    Raises
    ------
    OutputError
        The file cannot be written; what stood there before is untouched.
    """
    target = Path(path)
    name = ""
    try:
        target = target.resolve()  # what a link points to is replaced, not the link
        if target.is_dir():
            raise IsADirectoryError(0, "it is a folder")
        if target.exists() and not target.is_file():  # a device or a pipe: there is nothing to replace
            with target.open("wb") as stream:
                yield stream
            return
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
        with os.fdopen(handle, "wb") as stream:
            yield stream
            written = stream.tell() > 0
        if not written:
            return
        Path(name).chmod(0o666 & ~_umask())  # mkstemp makes files that only their owner can read
        Path(name).replace(target)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        if name:
            with suppress(OSError):
                Path(name).unlink()


def expect_ending(path: str, endings: tuple[str, ...], what: str) -> None:
    """Refuse a name that does not say which kind of file to write.

    Raises
    ------
    InputError
    """
    if not path.endswith(endings):
        raise InputError(f"{path}: unknown kind of {what}; expected one of {', '.join(endings)}")


def _umask() -> int:
    """Return the process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
