"""Score text with a language model and a score-first n-gram cache.

The names below are imported when they are first used, so ``import ngrammix`` loads nothing else.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ngrammix.auditing.assert_legal import assert_legal
    from ngrammix.auditing.black_box import audit
    from ngrammix.auditing.replay import replay
    from ngrammix.auditing.report import AuditReport
    from ngrammix.cache.evidence import Evidence
    from ngrammix.cache.ngram_cache import NgramCache
    from ngrammix.candidates.match_model import Matches, MatchModel
    from ngrammix.candidates.proposer import Hints
    from ngrammix.logits import LogitsReader, read_logits
    from ngrammix.mixer import Mixer
    from ngrammix.model_logprobs import ModelLogprobs
    from ngrammix.observed import Observed
    from ngrammix.overlaps import OverlapWarning
    from ngrammix.prefetching import prefetch
    from ngrammix.rank_mixer import RankMixer
    from ngrammix.shifts import ShiftWarning
    from ngrammix.snapshot import SnapshotError
    from ngrammix.token_scores import TokenScores

from ngrammix.version import __version__

__all__ = [
    "AuditReport",
    "Evidence",
    "Hints",
    "LogitsReader",
    "MatchModel",
    "Matches",
    "Mixer",
    "ModelLogprobs",
    "NgramCache",
    "Observed",
    "OverlapWarning",
    "RankMixer",
    "ShiftWarning",
    "SnapshotError",
    "TokenScores",
    "__version__",
    "assert_legal",
    "audit",
    "prefetch",
    "read_logits",
    "replay",
]

_MODULES = {
    "assert_legal": "ngrammix.auditing.assert_legal",
    "audit": "ngrammix.auditing.black_box",
    "AuditReport": "ngrammix.auditing.report",
    "Evidence": "ngrammix.cache.evidence",
    "Hints": "ngrammix.candidates.proposer",
    "LogitsReader": "ngrammix.logits",
    "Matches": "ngrammix.candidates.match_model",
    "MatchModel": "ngrammix.candidates.match_model",
    "Mixer": "ngrammix.mixer",
    "ModelLogprobs": "ngrammix.model_logprobs",
    "NgramCache": "ngrammix.cache.ngram_cache",
    "Observed": "ngrammix.observed",
    "OverlapWarning": "ngrammix.overlaps",
    "prefetch": "ngrammix.prefetching",
    "RankMixer": "ngrammix.rank_mixer",
    "read_logits": "ngrammix.logits",
    "replay": "ngrammix.auditing.replay",
    "ShiftWarning": "ngrammix.shifts",
    "SnapshotError": "ngrammix.snapshot",
    "TokenScores": "ngrammix.token_scores",
}


def __getattr__(name: str) -> Any:
    """The public object `name`, from the module that defines it."""
    if name not in _MODULES:
        raise AttributeError(f"module 'ngrammix' has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value  # found without this function the next time
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
