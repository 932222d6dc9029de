"""Score text with a language model and a score-first n-gram cache."""

from ngrammix.cache.evidence import Evidence
from ngrammix.cache.ngram_cache import NgramCache
from ngrammix.candidates.match_model import Matches, MatchModel
from ngrammix.mixer import Mixer
from ngrammix.prefetching import prefetch
from ngrammix.snapshot import SnapshotError
from ngrammix.token_scores import TokenScores

__all__ = [
    "Evidence",
    "MatchModel",
    "Matches",
    "Mixer",
    "NgramCache",
    "SnapshotError",
    "TokenScores",
    "prefetch",
]
