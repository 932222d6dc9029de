"""Score text with a language model and a score-first n-gram cache."""

from ngrammix.cache import NgramCache
from ngrammix.evidence import Evidence
from ngrammix.mixer import Mixer, Trace
from ngrammix.snapshot import SnapshotError

__all__ = ["Evidence", "Mixer", "NgramCache", "SnapshotError", "Trace"]
