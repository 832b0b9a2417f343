"""Forms k + a.x over the columns of a model with exact rational coefficients, and floats that bound them.

A user's model is a set of conditions on forms. A :class:`~optverify.formulations.program.Program` holds floats. So each
form is replaced by one of floats that is nowhere below it on the box of the variables:

    k' + f.x  >=  k + a.x   for l <= x <= u,   where  k' = up(k + sum_j max over [l_j, u_j] of (a_j - f_j) x_j).

Then k + a.x >= 0 implies k' + f.x >= 0, so every point of the model is one of the program; and minus the form of minus
the objective is nowhere above the objective. A lower bound on the program is one on the model (``docs/models.md``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from math import inf, isfinite

from optverify.errors import InputError
from optverify.expressions import Linear, Variable
from optverify.interval import nearest, round_down, round_up

BEYOND = "a number is beyond the range of float64"


def column(index: int) -> Linear:
    """Return a variable of a model as a form: in this package X_j is the j-th column."""
    return Linear.variable("X", index)


def combination(parts: Iterable[tuple[Fraction, Linear]]) -> Linear:
    """Return the sum of multiples of forms."""
    terms: dict[Variable, Fraction] = {}
    constant = Fraction(0)
    for factor, form in parts:
        constant += factor * form.constant
        for variable, a in form.terms.items():
            terms[variable] = terms.get(variable, Fraction(0)) + factor * a
    return Linear(terms, constant)


def above(
    form: Linear, lower: Sequence[float], upper: Sequence[float], names: Sequence[str]
) -> tuple[dict[int, float], float]:
    """Return a form of floats that is nowhere on a box below the given one.

    Parameters
    ----------
    form : Linear
        Over columns.
    lower, upper : sequences of n float
        The box.
    names : sequence of n str
        For messages.

    Returns
    -------
    dict from column to coefficient
    float
        The constant.

    Raises
    ------
    InputError
        A number is beyond the range of float64; or a coefficient is no float and its variable has no bounds.
    """
    floats: dict[int, float] = {}
    constant = form.constant
    for (_, j), a in form.terms.items():
        f = nearest(a)
        # What rounding changes is paid for at one end of the variable, so that end must be finite.
        if upper[j] == inf:
            f = round_up(a)
        elif lower[j] == -inf:
            f = round_down(a)
        if not isfinite(f):
            raise InputError(BEYOND)
        if Fraction(f) != a:
            end = (upper if a > Fraction(f) else lower)[j]
            if not isfinite(end):
                raise InputError(f"{names[j]} has a coefficient that no float64 holds, and no bounds")
            constant += (a - Fraction(f)) * Fraction(end)
        floats[j] = f
    k = round_up(constant)
    if not isfinite(k):
        raise InputError(BEYOND)
    return floats, k


def range_of(form: Linear, lower: Sequence[float], upper: Sequence[float]) -> tuple[float, float]:
    """Return bounds on a form over a box, rounded outward; infinite where an end of the box that matters is."""
    found = []
    for sign, rounded in ((1, round_down), (-1, round_up)):
        ends = [(a, (lower if a * sign > 0 else upper)[j]) for (_, j), a in form.terms.items()]
        known = all(isfinite(end) for _, end in ends)
        total = form.constant + sum(a * Fraction(end) for a, end in ends) if known else None
        found.append(-sign * inf if total is None else rounded(total))
    return found[0], found[1]
