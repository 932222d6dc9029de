"""The planted scorers: one fault each, and the condition that it breaks.

Not planted, since by itself it breaks no condition: to count an earlier token several times, as
overlapping windows do. The probabilities still sum to 1 and know nothing of later tokens.
"""

from tests.auditing import (
    planted_causality,
    planted_models,
    planted_normalisation,
    planted_state,
)
from tests.auditing.registry import PLANTED, Planted

__all__ = ["PLANTED", "Planted"]

KINDS = (
    planted_causality,
    planted_normalisation,
    planted_state,
    planted_models,
)  # they register on import
