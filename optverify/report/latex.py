"""Text and numbers that LaTeX prints as they are: with any engine and encoding, for all that is written is ASCII."""

from __future__ import annotations

import re
import unicodedata

SYMBOLS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\`{}",
    '"': r"{\ttfamily\char34}",
    "[": "{[}",  # at the start of a line, it would be an argument of the line break before it
    "*": "{*}",
    "\u2018": "`",
    "\u2019": "'",
    "“": "``",
    "”": "''",
    "\u2013": "--",
    "—": "---",
    "…": r"\ldots{}",
    "§": r"\S{}",
    "ß": r"\ss{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "œ": r"\oe{}",
    "Œ": r"\OE{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
    "\u0131": r"\i{}",
} | {
    letter: f"${command}$"
    for letter, command in {
        "\u2212": "-",
        "±": r"\pm",
        "\u00d7": r"\times",
        "·": r"\cdot",
        "∞": r"\infty",
        "≤": r"\le",
        "≥": r"\ge",
        "≠": r"\ne",
        "≈": r"\approx",
        "→": r"\rightarrow",
        "←": r"\leftarrow",
        "∈": r"\in",
        "²": "^2",
        "³": "^3",
        "µ": r"\mu",
        "°": r"^\circ",
    }.items()
}
"""How letters are written that are not written as themselves."""

ACCENTS = {
    "\u0300": r"\`",
    "\u0301": r"\'",
    "\u0302": r"\^",
    "\u0303": r"\~",
    "\u0304": r"\=",
    "\u0306": r"\u",
    "\u0307": r"\.",
    "\u0308": r"\"",
    "\u030a": r"\r",
    "\u030b": r"\H",
    "\u030c": r"\v",
    "\u0327": r"\c",
}
"""Accents of which every encoding of fonts has or makes a form."""

GREEK = re.compile(r"GREEK (SMALL|CAPITAL) LETTER (\w+)")

NAMED = {
    "SMALL": "alpha beta gamma delta epsilon zeta eta theta iota kappa mu nu xi pi rho sigma tau upsilon phi chi psi "
    "omega",
    "CAPITAL": "Gamma Delta Theta Xi Pi Sigma Upsilon Phi Psi Omega",
}
"""Greek letters that LaTeX has a name for; the other capitals look like Latin ones."""

NUMBER = re.compile(r"([-+]?[0-9]+(?:\.[0-9]*)?)(?:[eE]([-+]?[0-9]+))?")


def escaped(text: str) -> str:
    """Return text that LaTeX prints as it is; letters that its usual fonts have not, by number: [U+65E5]."""
    parts = [_letter(letter) for letter in " ".join(unicodedata.normalize("NFC", text).split())]
    # Some in a row would be drawn as one: a longer dash, a quotation mark.
    for k in range(1, len(parts)):
        if parts[k][0] in "-,'`" and parts[k - 1].endswith(parts[k][0]):
            parts[k] = "{}" + parts[k]
    return "".join(parts)


def _letter(letter: str) -> str:
    if letter in SYMBOLS:
        return SYMBOLS[letter]
    if " " <= letter <= "\x7e":
        return letter
    apart = unicodedata.normalize("NFD", letter)
    base, mark = apart[0], apart[1:]
    if mark in ACCENTS and base.isascii() and base.isalpha():
        dotless = rf"\{base}" if base in "ij" and mark != "\u0327" else base
        return f"{ACCENTS[mark]}{{{dotless}}}"
    greek = GREEK.fullmatch(unicodedata.name(letter, ""))
    if greek is not None:
        name = greek[2].lower() if greek[1] == "SMALL" else greek[2].capitalize()
        if name in NAMED[greek[1]].split():
            return rf"$\{name}$"
    return f"{{[}}U+{ord(letter):04X}]"


def number(text: str) -> str:
    """Set a number: a proper minus, powers of ten; a dash and other words as text."""
    found = NUMBER.fullmatch(text)
    if found is not None:
        times = "" if found[2] is None else rf" \cdot 10^{{{int(found[2])}}}"
        return f"${found[1]}{times}$"
    if text in ("inf", "-inf"):
        return "$" + text.replace("inf", r"\infty") + "$"
    return "--" if text == "-" else escaped(text)


def heading(text: str, side: str) -> str:
    """Set a heading of several words in two lines, as numbers are narrow, flush left (l) or right (r)."""
    words = text.split()
    if len(words) < 2:
        return escaped(text)
    halves = [(" ".join(words[:k]), " ".join(words[k:])) for k in range(1, len(words))]
    upper, lower = min(halves, key=lambda pair: max(map(len, pair)))
    return rf"\begin{{tabular}}[b]{{@{{}}{side}@{{}}}}{escaped(upper)}\\{escaped(lower)}\end{{tabular}}"
