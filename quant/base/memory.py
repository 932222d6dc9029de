"""Parse numbers of bytes: ints, or texts such as "2GiB"."""

import operator
import re
from typing import Any

MAX_BYTES = 2**62
UNITS = {"B": 1} | {
    f"{letter}{infix}B": base**power
    for base, infix in ((1000, ""), (1024, "I"))
    for power, letter in enumerate("KMGT", start=1)
}
SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,9})?) ?(B|[KMGT]I?B)")


def parse_bytes(value: Any, name: str) -> int:
    """Number of bytes of an int, or of a text such as ``"512 MB"`` or ``"2GiB"``.

    Raises
    ------
    ValueError
        Unless it is in 1..2**62 - 1.
    """
    size = value
    if isinstance(size, str) and (match := SIZE.fullmatch(size.strip().upper())):
        size = int(float(match[1]) * UNITS[match[2]])
    try:
        n_bytes = operator.index(size)
    except TypeError:
        n_bytes = 0
    if isinstance(size, bool) or not 0 < n_bytes < MAX_BYTES:
        raise ValueError(
            f"{name} must be a number of bytes > 0, got {value!r}; pass an int, or text such as "
            '"2GiB"'
        )
    return n_bytes
