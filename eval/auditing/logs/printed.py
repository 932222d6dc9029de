"""Printed: a number with the interval that its printed digits leave open."""

import math
import re
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np

from ngrammix.checks import as_int

# Digits, in groups of three or not, decimals, an exponent; no sign but a minus.
NUMBER = re.compile(
    r"[-+\u2212]?(?:\d{1,3}(?:[,_\u2009\u202f]\d{3})+(?![\d])|\d+)(?:\.\d+)?(?:[eE][-+]?\d{1,4})?"
    r"|[-+\u2212]?\.\d+|[-+]?(?:nan|inf(?:inity)?)\b",
    re.IGNORECASE,
)
SUFFIXES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9}
LOWEST, HIGHEST = 1e-12, 1e18  # a figure outside is none of a text
MAX_DIGITS = 60
SLACK = 1e-6  # relative: sums in float32, and what was rounded before it was divided


@dataclass(frozen=True)
class Printed:
    """A number > 0 as it was printed.

    Attributes
    ----------
    value : float
        As it stands there.
    low, high : float
        The number that was printed lies between: half a unit of the last digit below, as it may
        have been rounded up, and one unit above, as the rest may have been cut off. A whole number
        of tokens or bytes is exact.
    text : str
        As it was printed; empty for a number that was computed.
    """

    value: float
    low: float
    high: float
    text: str = ""

    def __mul__(self, other: "Printed") -> "Printed":
        return Printed(self.value * other.value, self.low * other.low, self.high * other.high)

    def __truediv__(self, other: "Printed") -> "Printed":
        return Printed(
            self.value / other.value, self.low / other.high, self.high / max(other.low, LOWEST)
        )

    def fits(self, other: "Printed") -> bool:
        """Whether both may be the same number."""
        return self.low * (1 - SLACK) <= other.high and other.low * (1 - SLACK) <= self.high


def exact(value: float) -> Printed:
    """A number that is known."""
    return Printed(value, value, value)


def about(value: float, width: float) -> Printed:
    """A number that is known but for a relative error of `width`."""
    return Printed(value, value * (1 - width), value * (1 + width))


def read_printed(text: str, *, is_count: bool) -> Printed | None:
    """The number of a text such as ``1.0069``, ``62,021,632`` or ``40.5M``; None if it is none.

    `is_count`: of tokens or bytes, which are exact where all their digits stand there.
    """
    plain = re.sub(r"[,_\s\u2009\u202f]", "", text.strip()).replace("\u2212", "-").lower()
    suffix = plain[-1:] if plain[-1:] in SUFFIXES and plain[-1:] else ""
    if len(plain) > MAX_DIGITS:
        return None
    try:
        number = Decimal(plain.removesuffix(suffix)) * SUFFIXES[suffix]
    except InvalidOperation:
        return None
    if not number.is_finite() or not LOWEST <= number <= HIGHEST:
        return None
    exponent = Decimal(plain.removesuffix(suffix)).as_tuple().exponent
    unit = float(SUFFIXES[suffix]) * 10.0 ** int(exponent)
    if is_count and number == int(number) and (unit <= 1.0 or is_written_out(plain)):
        unit = 0.0
    value = float(number)
    return Printed(value, max(value - unit / 2, LOWEST), value + unit, text.strip())


def is_written_out(plain: str) -> bool:
    """Whether a number has all digits before the point: no suffix and no exponent."""
    return plain.replace(".", "").isdigit()


def printed(value: Any, name: str, *, is_count: bool) -> Printed:
    """An argument as `Printed`: a number, or a text with the digits that were printed.

    Raises
    ------
    ValueError
        If it is not a number > 0.
    """
    whole = as_int(value)
    if isinstance(value, str | Decimal):
        found = read_printed(str(value), is_count=is_count)
    elif whole is not None:
        found = read_printed(str(whole), is_count=is_count) if abs(whole) < 1 << 62 else None
    elif isinstance(value, float | np.floating):
        found = read_printed(repr(float(value)), is_count=is_count)
        if found is not None and not isinstance(value, float):
            unit = found.value * float(np.finfo(value.dtype).eps)
            found = replace(found, low=found.value - unit, high=found.value + unit)
    else:
        found = None
    if found is None or (is_count and not found.value.is_integer()):
        rule = "a whole number" if is_count else "a number"
        raise ValueError(
            f"{name} must be {rule} > 0 and below {HIGHEST:g}, got {str(value)[:40]!r}; pass it as "
            "it was printed, or leave it out"
        )
    return found


def digits(number: Printed) -> str:
    """The number, with as many digits as are sure; whole numbers in groups of three."""
    if number.value >= 1000:
        return f"{number.value:,.0f}"
    width = number.high - number.low
    places = 6 if width <= 0 else min(8, max(2, -math.floor(math.log10(width))))
    return f"{number.value:.{places}f}"
