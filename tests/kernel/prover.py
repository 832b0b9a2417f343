"""A clumsy prover: random splits and advice, to exercise every record. It asks the kernel for intervals."""

from __future__ import annotations

import random

from optverify import kernel
from tests.kernel import build


def advice(rng: random.Random, node: kernel.Node, below: int) -> tuple[bytes, kernel.Advice]:
    """Draw the rule or random slopes and perhaps some multipliers: encoded, and as the kernel has it."""
    if rng.random() < 0.5:
        return build.advice(), kernel.RULE
    slopes: dict[kernel.Neuron, int] = {}
    given: dict[kernel.Neuron, tuple[int, int]] = {}
    neurons = [(k, j) for k, mask in enumerate(node.net.masks[:below]) for j, on in enumerate(mask) if on]
    for neuron in neurons:
        if rng.random() < 0.4:
            slopes[neuron] = rng.choice((0, 255, rng.randrange(256)))
        if rng.random() < 0.1:
            given[neuron] = rng.randrange(-9, 9), rng.randrange(-60, 2)
    numbers = {neuron: number for number, neuron in enumerate(neurons)}
    text = build.advice([(numbers[n], a) for n, a in slopes.items()], [(numbers[n], g) for n, g in given.items()])
    over = {neuron: m << 60 + e for neuron, (m, e) in given.items()}
    return text, kernel.RULE._replace(slopes=slopes, given=over, scale=60)


def prove(rng: random.Random, node: kernel.Node, cases: list[kernel.Case], depth: int = 5) -> bytes | None:
    """Return the records of a subtree, or None if `depth` levels are not enough."""
    out = b""
    net, relus = node.net, len(node.net.masks)
    neurons = [(k, j) for k, mask in enumerate(net.masks) for j, on in enumerate(mask) if on]
    if not node.empty and rng.random() < 0.7:
        out += build.REFRESH
        node.refresh()
    if node.empty:
        return out + build.EMPTY
    for group in sorted(node.open):
        count = len(cases[group].unsafe)
        for _ in range(4):
            mu = [rng.randrange(3) for _ in range(count)]
            text, how = advice(rng, node, relus)
            if node.close(cases[group], mu, how)[0] > 0:
                out += build.close(group, mu, text)
                node.open -= {group}
                break
    if not node.open:
        return out
    if not depth:
        return None
    lo, hi, den = node.box
    wide = [i for i in range(net.inputs) if lo[i] < hi[i]]
    parts: list[bytes | None]
    if wide and (not neurons or rng.random() < 0.5):
        i = max(wide, key=lambda i: hi[i] - lo[i])
        scale = 1 << 12
        m = (lo[i] + hi[i]) * scale // (2 * den)
        if not lo[i] * scale < m * den < hi[i] * scale:
            return None
        parts = [prove(rng, part, cases, depth - 1) for part in node.split_input(i, m, -12)]
        return (
            None if None in parts else out + build.u(1) + build.u(i) + build.d(m, -12) + b"".join(filter(None, parts))
        )
    if neurons:
        k, j = rng.choice([(k, j) for k, j in neurons if node.z[k][0][j] < 0 < node.z[k][1][j]] or neurons)
        parts = [prove(rng, part, cases, depth - 1) for part in node.split_neuron(k, j)]
        return None if None in parts else out + build.split_neuron(k, j, b"".join(filter(None, parts)), b"")
    return None


def certificate(seed: int, network: bytes, property_: bytes, grid: int = 40) -> bytes | None:
    """Return a whole certificate, or None."""
    rng = random.Random(seed)
    net = kernel.read_network(network)
    cases, goals = kernel.read_property(property_, net)
    records = b""
    for members in goals:
        mine = [cases[c] for c in members]
        tree = prove(rng, kernel.Node(net, grid, mine[0].box, frozenset(range(len(mine))), ball=mine[0].ball), mine)
        if tree is None:
            return None
        records += tree
    return build.verified(network, property_, records, grid)
