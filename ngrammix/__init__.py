"""Score text with a language model and a score-first n-gram cache."""

from ngrammix.cache.evidence import Evidence
from ngrammix.cache.ngram_cache import NgramCache
from ngrammix.candidates.match_model import Matches, MatchModel
from ngrammix.candidates.proposer import Hints
from ngrammix.logits import LogitsReader, ModelLogprobs, read_logits
from ngrammix.mixer import Mixer, TokenScores
from ngrammix.observed import Observed
from ngrammix.prefetching import prefetch
from ngrammix.snapshot import SnapshotError

__version__ = "0.1.0"

__all__ = [
    "Evidence",
    "Hints",
    "LogitsReader",
    "MatchModel",
    "Matches",
    "Mixer",
    "ModelLogprobs",
    "NgramCache",
    "Observed",
    "SnapshotError",
    "TokenScores",
    "__version__",
    "prefetch",
    "read_logits",
]
