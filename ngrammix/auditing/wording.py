"""Words for the figures of an audit: coverage, numbers that differ, streams, witnesses."""

import math
from collections.abc import Sequence

from ngrammix.auditing.report import CONFIDENCE
from ngrammix.auditing.witness import Kind, Witness

ENDS = 6  # tokens shown of each end of a long stream
LEAST_PERCENT = 1e-7  # shown; no audit tries more than 4 billion positions
MAX_TEXT = 200  # characters shown of the text of a witness
# By the kind of a witness: names of its stream, of the other one, of its tokens, and of its two
# numbers.
LABELS: dict[Kind, tuple[str, str, str, str, str]] = {
    "future": ("stream", "with another future", "tokens", "first", "with another future"),
    "sum": ("after", "other", "tokens of the sum", "right", "sum"),
    "range": ("stream", "other", "tokens", "right", "found"),
    "bets": ("stream", "other", "tokens", "right", "found"),
    "table": ("stream", "other", "tokens", "larger table", "smaller table"),
    "shown": ("after", "other", "token", "shown", "charged for"),
    "repeat": ("stream", "scored between", "tokens", "first time", "second time"),
    "count": ("stream", "other", "tokens", "tokens", "scores"),
    "logits": ("window", "other window", "token", "first window", "other window"),
    "bytes": (
        "tokens of the text",
        "other",
        "wrong token",
        "bytes of the text",
        "bytes of the tokens",
    ),
    "log": ("tokens", "other", "tokens", "right", "found"),
}


def counted(n: int, unit: str) -> str:
    """A number of things, whose name is in the plural.

    Examples
    --------
    >>> counted(1, "calls"), counted(1200, "calls")
    ('1 call', '1,200 calls')
    """
    return f"{n:,} {unit.removesuffix('s') if n == 1 else unit}"


def coverage(share: float | None, unit: str = "positions") -> str:
    """What a check would have found; empty where that cannot be stated.

    Examples
    --------
    >>> coverage(0.0046)
    'a leak at 0.46 % of the positions or more would have been found with 99 %'
    """
    if share is None:
        return ""
    if share == 0.0:
        return f"all {unit}" if unit != "positions" else "every position"
    if share >= 1.0:
        return f"none of the {unit}"
    sure = f"{CONFIDENCE:.0%}".replace("%", " %")
    return f"a leak at {percent(share)} of the {unit} or more would have been found with {sure}"


def percent(share: float) -> str:
    """A share as percentage of two digits, rounded up: no more is claimed than was done."""
    value = max(100 * share, LEAST_PERCENT)
    digits = 1 - math.floor(math.log10(value))
    rounded = math.ceil(value * 10.0**digits - 1e-9) / 10.0**digits
    return f"{rounded:.{max(0, digits)}f} %"


def figure(value: float, digits: int = 6) -> str:
    """A number with this many digits; whole ones whole."""
    if not math.isfinite(value):
        return str(value)
    if value.is_integer() and abs(value) < 1e15:
        return f"{value + 0.0:,.0f}"  # + 0.0: zero has no sign
    return f"{value:.{digits}g}"


def two_figures(first: float, second: float) -> tuple[str, str]:
    """Two numbers with as many digits as show that they differ, six at least."""
    texts = figure(first), figure(second)
    for digits in range(7, 18 if first != second else 7):
        if texts[0] != texts[1]:
            break
        texts = figure(first, digits), figure(second, digits)
    return texts


def shown(tokens: Sequence[int]) -> str:
    """Tokens; of a long stream the first and the last, and the length.

    Examples
    --------
    >>> shown(range(40))
    '0 1 2 3 4 5 ... 34 35 36 37 38 39 (40 tokens)'
    """
    if len(tokens) <= 2 * ENDS + 1:
        return " ".join(map(str, tokens))
    first, last = (" ".join(map(str, part)) for part in (tokens[:ENDS], tokens[-ENDS:]))
    return f"{first} ... {last} ({len(tokens):,} tokens)"


def difference(first: Sequence[int], second: Sequence[int]) -> list[str]:
    """Where two streams differ first, in a line; none if both are short enough to see it."""
    if max(len(first), len(second)) <= 2 * ENDS + 1:
        return []
    for i, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return [f"first difference: index {i:,}, {one} and {other}"]
    return [f"first difference: one ends at index {min(len(first), len(second)):,}"]


def describe_witness(witness: Witness) -> list[str]:
    """The input that shows a violation, and its two numbers, a line each."""
    stream, other, tokens, first, second = LABELS[witness.kind]
    parts = ((stream, witness.stream), (other, witness.other), (tokens, witness.tokens))
    lines = [f"{label}: {shown(values)}" for label, values in parts if values]
    if witness.kind in ("future", "logits"):
        lines += difference(witness.stream, witness.other)
    if witness.text:
        lines.append(f"text: {shorten(witness.text, MAX_TEXT)}")
    place = "" if witness.position is None else f" at position {witness.position:,}"
    numbers = two_figures(*witness.numbers)
    return [*lines, f"{witness.unit}{place}: {first} {numbers[0]}, {second} {numbers[1]}"]


def shorten(text: str, most: int) -> str:
    """The text, or its beginning and its length."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text):,} characters)"
