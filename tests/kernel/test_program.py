"""The kernel as a program, and as a file to be read."""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import time
import tracemalloc
import zlib
from pathlib import Path

import pytest

from optverify import kernel
from tests.kernel import build, make_cases

HERE = Path(__file__).parent
SOURCE = Path(kernel.__file__)
NETWORK, PROPERTY = make_cases.dump(make_cases.SAME), make_cases.dump(make_cases.NEVER)


def run(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-S", str(SOURCE), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env={}, capture_output=True, text=True, timeout=60, check=False)


def files(kind: str, name: str) -> list[Path]:
    return [HERE / kind / name / part for part in ("network.json", "property.json", "certificate")]


@pytest.mark.parametrize(
    ("kind", "name", "code", "last"),
    [
        ("accept", "goals-and-groups", 0, "PROVED"),
        ("accept", "point-slack", 0, "REFUTED"),
        ("reject", "not-positive", 1, "Rejected: node 1: the bound for group 0 is not positive"),
        ("malformed", "certificate-cut-short", 3, "Malformed: "),
        ("malformed", "network-deep", 3, "Malformed: "),
    ],
)
def test_runs_by_path_in_an_empty_environment(kind: str, name: str, code: int, last: str, tmp_path: Path) -> None:
    """Exit status, verdict on stdout only when there is one, one line on stderr otherwise."""
    got = run(*files(kind, name), cwd=tmp_path)
    assert got.returncode == code
    if code:
        assert got.stdout == ""
        assert got.stderr.startswith(last)
        assert got.stderr.count("\n") == 1
    else:
        assert got.stderr == ""
        assert got.stdout.endswith(f"\n{last}\n")


def test_missing_files_and_arguments(tmp_path: Path) -> None:
    """No traceback where a file is missing or the usage is wrong."""
    assert run(cwd=tmp_path).returncode == 2
    got = run("a", "b", "c", cwd=tmp_path)
    assert (got.returncode, got.stdout, got.stderr.count("\n")) == (3, "", 1)


def test_the_statement_says_what_was_proved(tmp_path: Path) -> None:
    """Digests, sizes, semantics, boxes and cases are printed."""
    text = run(*files("accept", "goals-and-groups"), cwd=tmp_path).stdout
    digests = build.digests(*(path.read_bytes() for path in files("accept", "goals-and-groups")[:2]))
    for part in [*digests.values(), "2 inputs", "4 ReLU neurons", "semantics: real", "[1,7]", "2 boxes"]:
        assert part in text


def test_one_screenful() -> None:
    """A property with many cases of many atoms is abbreviated."""
    atoms = [make_cases.atom((5, 1), ("Y", 0, 1, 1)) for _ in range(50)]
    text = make_cases.dump(make_cases.property_(1, 1, *[make_cases.case(make_cases.UNIT, *atoms)] * 200))
    records = b"".join(build.close(group, [1] * 50) for group in range(200))
    statement = kernel.check(NETWORK, text, io.BytesIO(build.verified(NETWORK, text, records)))
    assert len(statement) < 20_000
    assert "and so on" in statement


def test_short_enough_to_read() -> None:
    """The trusted file has a budget: 600 lines that are not blank, and none too long."""
    lines = SOURCE.read_text().splitlines()
    assert sum(bool(line.strip()) for line in lines) <= 600
    assert max(map(len, lines)) <= 120


def test_standard_library_only_and_no_floats() -> None:
    """No import of anything else, no float literal, no true division, no call of float."""
    for node in ast.walk(ast.parse(SOURCE.read_text())):
        if isinstance(node, ast.Import):
            assert {name.name.split(".")[0] for name in node.names} <= sys.stdlib_module_names
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            assert (node.module or "").split(".")[0] in sys.stdlib_module_names
        assert not (isinstance(node, ast.Constant) and isinstance(node.value, float | complex))
        assert not (isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div))
        assert not (isinstance(node, ast.Name) and node.id in ("float", "round", "eval", "exec", "__import__"))
        assert not isinstance(node, ast.Assert) or "isinstance" in ast.unparse(node)


def bomb(records: bytes) -> bytes:
    return build.verified(NETWORK, PROPERTY, b"")[: -len(zlib.compress(b""))] + zlib.compress(records, 9)


@pytest.mark.parametrize(
    "records",
    [
        b"\x03" * 100_000_000,
        b"\x00" * 100_000_000,
        build.u(4) + b"\x80" * 100_000_000,
        build.u(5) + build.u(0) + build.u(1) + build.u(10**15) + b"\x01" * 50_000_000,
        build.u(5) + build.u(0) + build.u(1) + b"\0" + build.u(10**15) + b"\x01" * 50_000_000,
        (build.u(1) + build.u(0) + build.d(1, -1) + build.REFRESH) * 5_000_000,
    ],
    ids=["refreshes", "zeros", "endless-integer", "slopes", "multipliers", "splits"],
)
def test_zip_bombs(records: bytes) -> None:
    """A small file that expands to very much is refused soon, in no more memory than the expansion that is allowed."""
    certificate = bomb(records)
    del records
    assert len(certificate) < 1_000_000
    tracemalloc.start()
    started = time.monotonic()
    with pytest.raises((kernel.Malformed, kernel.Rejected)):
        kernel.check(NETWORK, PROPERTY, io.BytesIO(certificate))
    assert time.monotonic() - started < 30
    assert tracemalloc.get_traced_memory()[1] < 2 * (250 * len(certificate) + 2**20) + 20_000_000
    tracemalloc.stop()


def deep(levels: int) -> tuple[bytes, bytes, bytes]:
    """Split at 1 - 2^-k again and again; where x <= 1 - 2^-k, and at the end, everything closes."""
    prop = make_cases.dump(make_cases.property_(1, 1, make_cases.case(make_cases.UNIT, make_cases.atom((5, 1)))))
    step = b"".join(
        build.u(1) + build.u(0) + build.d(2**k - 1, -k) + build.close(0, [1]) for k in range(1, min(levels, 1_000) + 1)
    )
    records = step + (build.u(2) + build.u(0) + build.u(0) + build.close(0, [1])) * max(0, levels - 1_000)
    return NETWORK, prop, build.verified(NETWORK, prop, records + build.close(0, [1]))


def test_a_deep_tree() -> None:
    """Depth is bounded by the format, not by recursion."""
    network, prop, certificate = deep(3_000)
    assert "PROVED" in kernel.check(network, prop, io.BytesIO(certificate))


def test_too_many_nodes_wait() -> None:
    """Where every first child is split again, what waits is bounded."""
    splits = (build.u(2) + build.u(0) + build.u(0)) * 10_001
    with pytest.raises(kernel.Malformed, match="waiting"):
        kernel.check(NETWORK, PROPERTY, io.BytesIO(build.verified(NETWORK, PROPERTY, splits)))


def test_many_denominators() -> None:
    """A box whose common denominator explodes is refused soon."""
    n = 2_000
    rows = make_cases.affine([[1] * n], [0])
    network = make_cases.dump(make_cases.network(n, rows))
    box = [[1, 10**300 + 2 * i + 1] for i in range(n)]
    case = {"lower": [[0, 1]] * n, "upper": box, "unsafe": []}
    prop = make_cases.dump(make_cases.property_(n, 1, case))
    started = time.monotonic()
    with pytest.raises(kernel.Malformed, match="common denominator"):
        kernel.check(network, prop, io.BytesIO(build.verified(network, prop, b"")))
    assert time.monotonic() - started < 10
