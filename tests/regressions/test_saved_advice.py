"""Closes that were read from a saved search keep their multipliers, whatever they are written into."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from optverify import Box, Network, Query, Verdict, kernel, outputs, verify
from optverify.canonical import network_text, property_text
from optverify.certificate import certify, check_file, read
from optverify.checker import Nodes, lower
from optverify.proof import Advice, Close, Proof
from optverify.search.tree import Progress


def test_stored_advice_is_what_is_bounded() -> None:
    """A close with advice alone was valued by the CROWN rule, and its weights were scaled without the multipliers."""
    rng = np.random.default_rng(0)
    network = Network.from_arrays(
        [(rng.normal(size=(6, 2)), rng.normal(size=6)), (rng.normal(size=(2, 6)), np.ones(2))]
    )
    y = outputs(2)
    query = Query.never(Box([-1, -1], [1, 1]), (y[0] <= -99) & (y[1] <= -99), 2)
    goals = query.goals(network)
    advice = Advice(np.array([0, 3]), np.array([7, 200], np.uint8), np.array([1, 4]), np.array([1e3, -2e3]))
    close = Close(0, (900, 1000), advice=advice)
    first, second = io.BytesIO(), io.BytesIO()
    certify(first, network, query, goals, [Proof(closes=[close])])
    _, again = read(io.BytesIO(first.getvalue()), goals)
    certify(second, network, query, goals, again)
    assert second.getvalue() == first.getvalue()
    (found,) = again[0].closes
    nodes = Nodes.root(goals[0], Proof())
    values = [lower(goals[0], nodes, np.zeros(1, int), [each]) for each in (close, found)]
    assert values[0] == values[1] > 0
    network_file, property_file = network_text(network), property_text(query)
    assert kernel.check(network_file, property_file, io.BytesIO(first.getvalue())).endswith("PROVED")


def test_many_rows_resumed(tmp_path: Path) -> None:
    """A conjunction of two rows, stopped again and again, ends in a certificate that both checkers accept."""
    rng = np.random.default_rng(5)
    steps = [(rng.normal(size=(m, n)), rng.normal(size=m)) for n, m in ((3, 12), (12, 12), (12, 2))]
    network = Network.from_arrays(steps)
    region = Box([-1] * 3, [1] * 3)
    x = rng.uniform(-1, 1, (20_000, 3))
    least = float(network(x).max(axis=1).min())
    y = outputs(2)
    query = Query.never(region, (y[0] <= least - 0.3) & (y[1] <= least - 0.3), 2)
    tree, proof = str(tmp_path / "tree"), str(tmp_path / "proof")

    def stop(progress: Progress) -> None:
        if progress.nodes >= 3:
            raise KeyboardInterrupt

    answer = verify(network, query, save=tree, progress=stop)
    for _ in range(50):
        if answer.verdict is not Verdict.UNKNOWN:
            break
        answer = verify(network, query, save=tree, resume=tree, certificate=proof, progress=stop)
    assert answer.verdict is Verdict.VERIFIED
    if answer.certified:
        check_file(proof, network, query)
        kernel.check(network_text(network), property_text(query), io.BytesIO(Path(proof).read_bytes()))
