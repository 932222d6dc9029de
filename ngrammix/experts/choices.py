"""The experts that can be combined, by name; imports no kernel, so that a parser may use it."""

from itertools import product

ALL = "tilt+gate+guard"
CHOICES = [  # all combinations but the empty one
    "+".join(filter(None, (tilt, gate, guard)))
    for guard, tilt, gate in product(("guard", "switch", ""), ("tilt", ""), ("gate", ""))
][:-1]


def check_experts(experts: object) -> str:
    """Return `experts`, or raise ValueError unless it is one of `CHOICES`."""
    if experts not in CHOICES:
        raise ValueError(
            f"experts must name tilt, gate, and guard or switch, in this order, got {experts!r}; "
            f'leave it out for "{ALL}"'
        )
    return str(experts)
