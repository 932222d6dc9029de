"""The honest scorers: none may be accused."""

from tests.auditing import honest_counts, honest_models
from tests.auditing.registry import HONEST, Honest

__all__ = ["HONEST", "Honest"]

KINDS = (honest_counts, honest_models)  # they register on import
