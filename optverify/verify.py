"""Decide whether a property holds."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from io import BytesIO
from typing import BinaryIO

import numpy as np

from optverify.canonical import network_digest, property_digest
from optverify.deployment import deployed
from optverify.errors import CertificateError, InputError, expect
from optverify.io.files import replacing
from optverify.network import Network
from optverify.query import Query
from optverify.region import boxes_only
from optverify.results import Certificate, Verdict, Verification, versions
from optverify.search.branching import Branching, Hybrid
from optverify.search.cascade import Cascade
from optverify.search.counterexample import NEAR, BadExecution, Counterexample
from optverify.search.expand import Method
from optverify.search.tree import Progress, Stop
from optverify.search.workers import Crew, cpu_seconds, one_thread
from optverify.semantics import REAL, Semantics
from optverify.solvers import LINEAR, name_of
from optverify.solvers.solution import Solver
from optverify.witness import doubt, replay

RELAXATIONS = ("auto", "triangle", "lifted")
"""How nodes are bounded: by linear bounds and programs (``triangle``), by the lifted relaxation too (``lifted``)."""


def verify(
    network: Network,
    query: Query,
    *,
    semantics: str | Semantics | None = None,
    time_limit: float | None = None,
    solver: str | Solver | None = LINEAR,
    strategy: Branching | None = None,
    relaxation: str = "auto",
    progress: Callable[[Progress], None] | None = None,
    seed: int = 0,
    workers: int = 1,
    certificate: str | None = None,
    save: str | None = None,
    resume: str | None = None,
) -> Verification:
    """Decide whether no case of a query is reachable.

    Parameters
    ----------
    network : Network
    query : Query
    semantics : str or Semantics, optional
        ``"real"``: exact arithmetic over the weights in the file. ``"float32"``, ``"float64"``, ``"float16"``,
        ``"bfloat16"``: every execution in that format (``docs/semantics.md``). By default what the query says, else the
        reals.
    time_limit : float, seconds of wall clock, optional
        What is proved by then is in the answer.
    solver : str or Solver or None
        For the linear programs; None works without.
    strategy : Branching, optional
    relaxation : "auto", "triangle" or "lifted"
        Whether nodes that linear bounds leave open are given to the lifted semidefinite relaxation: never
        (``triangle``), wherever it may close them (``lifted``), or where it promises to be cheaper than splitting,
        once a search without it turns out to be long (``auto``). See ``docs/sdp.md``.
    progress : callable, optional
        Called with :class:`~optverify.search.tree.Progress` during the search.
    seed : int
        For the random points of the attack.
    workers : int
        Processes that work on long searches; the answer does not depend on it. A script that passes more than 1
        needs the usual ``if __name__ == "__main__":``.
    certificate : str, optional
        File for the proof or the counterexample (``docs/certificate-v1.md``). It is checked before it is written, and
        a proof that the checker does not accept makes the answer UNKNOWN.
    save : str, optional
        File for the tree of a search that ends without a verdict.
    resume : str, optional
        Such a file, of the same network and property: what it says is proved is proved again, which takes a fraction of
        the time, and the search goes on with the rest.

    Returns
    -------
    Verification
        VERIFIED rests on rigorous bounds only, FALSIFIED on a witness replayed in exact arithmetic, or on a concrete
        execution in the format. Ctrl-C gives UNKNOWN with what was proved.

    Raises
    ------
    ShapeError
        The query is about another number of inputs or outputs.
    OutputError
        A file cannot be written; found out before the search.
    InputError
        The relaxation is unknown; nothing can be said about this network in this format, or the query is about
        another one.
    InputError, CertificateError
        The saved tree cannot be read, is about something else or is not true.

    Examples
    --------
    >>> from optverify import Box, Network, Query, outputs, verify
    >>> net = Network.from_arrays([([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], [0.0])])  # |x|
    >>> y = outputs(1)
    >>> verify(net, Query.always(Box([-1], [2]), y[0] <= 3, n_outputs=1)).verdict
    <Verdict.VERIFIED: 'verified'>
    """
    expect(Network, network=network)
    expect(Query, query=query)
    if relaxation not in RELAXATIONS:
        raise InputError(f"the relaxation is one of {', '.join(RELAXATIONS)}, not {relaxation!r}")
    arithmetic = query.under(semantics)
    original, network = network, deployed(network, arithmetic)
    if certificate is not None or save is not None:
        network_digest(network), property_digest(query)  # what cannot be written is an error before the work
    boxes_only(case.region for case in query.cases)
    goals = query.goals(network)
    with (
        one_thread(),
        nullcontext() if certificate is None else replacing(certificate) as proof_file,
        nullcontext() if save is None else replacing(save) as save_file,
        Crew(goals, workers) as crew,
    ):
        target = (Counterexample if arithmetic is REAL else BadExecution)(network, query)
        keep = certificate is not None or save is not None or resume is not None
        lift, stop_at = relaxation == "lifted", target.stop_at
        method = Method(strategy or Hybrid(), solver, proof=keep, lift=lift, seed=seed, stop_at=stop_at)
        began = time.monotonic(), cpu_seconds()
        cascade = Cascade(target, goals, method, relaxation == "auto", crew, progress)
        if resume is not None:
            cascade.go_on_from(resume)
        stop = cascade.search(began[0] + (np.inf if time_limit is None else time_limit))
        return _answer(original, cascade, stop, began, proof_file, save_file)


def _answer(
    original: Network,
    cascade: Cascade,
    stop: Stop,
    began: tuple[float, float],
    proof_file: BinaryIO | None,
    save_file: BinaryIO | None,
) -> Verification:
    """Put the answer together; write the certificate, or what is proved so far."""
    target, outcomes = cascade.target, cascade.outcomes
    verdict, reason = _judge(stop, cascade)
    certificate: Certificate | None = None
    try:
        if proof_file is not None and verdict is not Verdict.UNKNOWN:
            certificate = _certify(cascade, proof_file)
    except CertificateError as error:
        verdict, reason = Verdict.UNKNOWN, f"the checker does not accept the certificate: {error}"
    except KeyboardInterrupt:
        verdict, reason = Verdict.UNKNOWN, "interrupted while the certificate was made"
    if save_file is not None and verdict is Verdict.UNKNOWN:
        reason += _save(cascade, save_file)
    proved = min((outcome.progress.lower for outcome in outcomes), default=-np.inf)
    everywhere = len(outcomes) == len(cascade.goals) and np.isfinite(proved)
    # What a saved search had closed is known to be above 0, and no more: 0 would look like no proof.
    everywhere &= not (cascade.resumed and verdict is Verdict.VERIFIED and proved <= 0)
    known = [claim for claim in cascade.claims if not np.isnan(claim)]
    share = sum(search.progress().closed for search in cascade.searches) / max(len(cascade.goals), 1)
    all_searches = (*cascade.searches, *cascade.given_up)
    used = cascade.crew.used()
    return Verification(
        verdict=verdict,
        reason=reason,
        claim_text=target.query.text,
        bound=proved if everywhere else None,
        claim=min(known) if known else None,
        witness=target.witness,
        near_miss=target.near_miss() if verdict is Verdict.UNKNOWN else None,
        replay=replay(original, target.query, target.witness) if target.witness else (),
        certified=None if proof_file is None else certificate is not None,
        certificate=certificate,
        closed=1.0 if verdict is Verdict.VERIFIED else min(share, 1.0),
        nodes=sum(search.progress().nodes for search in all_searches),
        programs=sum(search.programs for search in all_searches),
        seconds=time.monotonic() - began[0],
        cpu_seconds=used.cpu_seconds - began[1],
        peak_mib=used.peak_mib,
        network=original.digest,
        query=target.query.digest,
        solver=name_of(cascade.method.solver),
        semantics=target.network.semantics.name,
        versions=versions(),
    )


def _judge(stop: Stop, cascade: Cascade) -> tuple[Verdict, str]:
    """Turn the end of the search into a verdict."""
    target = cascade.target
    if target.witness is not None:
        return Verdict.FALSIFIED, target.confirmed
    if not cascade.goals:
        return Verdict.VERIFIED, "the unsafe set is empty"
    if cascade.overflow:
        return Verdict.UNKNOWN, cascade.overflow
    if stop is Stop.CLOSED:
        return Verdict.VERIFIED, "rigorous bounds close every part of the region"
    if target.doubt is not None:
        return Verdict.UNKNOWN, doubt(target.query, target.doubt)
    near = target.nearest is not None and target.nearest[0] <= NEAR
    return Verdict.UNKNOWN, stop.value + (" (near miss)" if near else "")


def _save(cascade: Cascade, stream: BinaryIO) -> str:
    """Write what is proved so far; return what to add to the reason."""
    from optverify.certificate import save

    try:
        save(stream, cascade.target.network, cascade.target.query, cascade.goals, cascade.proofs)
    except CertificateError as error:
        return f" (the tree was not saved: {error})"
    return " (the tree is saved)"


def _certify(cascade: Cascade, stream: BinaryIO) -> Certificate:
    """Write the proof or the counterexample as the checker has accepted it."""
    from optverify.certificate import certify, check, walk, write_falsified

    target, proofs = cascade.target, cascade.proofs
    began, written, witness, check_seconds = cpu_seconds(), BytesIO(), target.witness, 0.0
    if witness is not None and witness.case is not None:
        write_falsified(written, target.network, target.query, witness.case, witness.x)
        check(BytesIO(written.getvalue()), target.network, target.query)
    else:
        check_seconds = certify(written, target.network, target.query, cascade.goals, proofs)
    stream.write(written.getvalue())
    nodes = [] if witness is not None else [node for proof in proofs for node in walk(proof)]
    leaves = sum(not node.children for node in nodes)
    write_seconds = cpu_seconds() - began - check_seconds
    return Certificate(len(written.getvalue()), len(nodes), leaves, write_seconds, check_seconds)
