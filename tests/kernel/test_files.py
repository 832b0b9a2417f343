"""Every folder of accept/, reject/ and malformed/ is a test; to add one, add a folder."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from optverify import kernel

HERE = Path(__file__).parent


def folders(kind: str) -> list[Path]:
    return sorted(path.parent for path in HERE.glob(f"{kind}/*/certificate"))


def run(folder: Path) -> str:
    network, property_, certificate = (
        (folder / name).read_bytes() for name in ("network.json", "property.json", "certificate")
    )
    return kernel.check(network, property_, io.BytesIO(certificate))


@pytest.mark.parametrize("folder", folders("accept"), ids=lambda path: path.name)
def test_accept(folder: Path) -> None:
    """The statement ends with its verdict, once."""
    lines = run(folder).splitlines()
    assert lines[-1] == ("REFUTED" if folder.name.startswith("point") else "PROVED")
    assert not {"REFUTED", "PROVED"} & set(lines[:-1])


@pytest.mark.parametrize("folder", folders("reject"), ids=lambda path: path.name)
def test_reject(folder: Path) -> None:
    """Well-formed, proves nothing, says why."""
    with pytest.raises(kernel.Rejected) as caught:
        run(folder)
    assert (folder / "message").read_text() in str(caught.value)


@pytest.mark.parametrize("folder", folders("malformed"), ids=lambda path: path.name)
def test_malformed(folder: Path) -> None:
    """Not in the format, says where."""
    with pytest.raises(kernel.Malformed) as caught:
        run(folder)
    assert (folder / "message").read_text() in str(caught.value)


def test_there_are_files() -> None:
    """The glob finds all three kinds."""
    assert [len(folders(kind)) > 10 for kind in ("accept", "reject", "malformed")] == [True] * 3
