"""Parse numbers of bytes: ints, or texts such as "2GiB"."""

import operator
import re
from decimal import Decimal
from typing import Any

MAX_BYTES = 2**62
# As GNU programs read them: K and KiB count by 1024, KB by 1000.
UNITS = {"": 1, "B": 1} | {
    f"{letter}{end}": base**power
    for base, end in ((1000, "B"), (1024, "IB"), (1024, ""))
    for power, letter in enumerate("KMGT", start=1)
}
SIZE = re.compile(r"(\d{1,19}(?:\.\d{1,9})?) ?(B?|[KMGT](?:I?B)?)")


def parse_bytes(value: Any, name: str) -> int:
    """Number of bytes of an int, or of a text such as ``"512 MB"`` or ``"2GiB"``.

    ``2G`` and ``2GiB`` are 2 * 1024**3 bytes, ``2GB`` are 2 * 1000**3.

    Raises
    ------
    ValueError
        Unless it is in 1..2**62 - 1.
    """
    size = value
    if isinstance(size, str) and (match := SIZE.fullmatch(size.strip().upper())):
        size = int(Decimal(match[1]) * UNITS[match[2]])
    try:
        n_bytes = operator.index(size)
    except TypeError:
        n_bytes = 0
    if isinstance(size, bool) or not 0 < n_bytes < MAX_BYTES:
        raise ValueError(
            f"{name} must be a number of bytes > 0, got {value!r}; pass an int, or text such as "
            '"2GiB" (2G: the same; 2GB: by 1000)'
        )
    return n_bytes
