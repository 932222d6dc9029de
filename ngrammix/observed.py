"""Observed: tokens that the cache has learned, with the evidence and the hints before each."""

from dataclasses import dataclass

from ngrammix.cache.evidence import Evidence
from ngrammix.cache.kneser_ney import log_target_probability
from ngrammix.cache.ngram_cache import NgramCache
from ngrammix.candidates.proposer import Hints
from ngrammix.types import Flags, Floats, Tokens


@dataclass(frozen=True, eq=False)
class Observed:
    """T tokens of the stream, and what the cache predicted before each of them.

    It depends on the tokens alone: it can be computed before the model's forward pass, or in
    another process.

    Attributes
    ----------
    position : int
        Position of the first token in the stream.
    tokens : (T,) int64
        The tokens.
    evidence : Evidence
        The cache's counts at each of the T positions, from the tokens before it.
    hints : Hints or None
        The candidates at each position; None if no expert uses them.
    """

    position: int
    tokens: Tokens
    evidence: Evidence
    hints: Hints | None

    def __len__(self) -> int:
        """Return T, the number of tokens."""
        return len(self.tokens)

    @property
    def hint_tokens(self) -> Tokens | None:
        """(T, M) int64: tokens whose model log-probabilities the mixer needs; -1 for none."""
        return None if self.hints is None else self.hints.tokens

    @property
    def is_repeat(self) -> Flags:
        """(T,) bool: whether the n-gram of `order` tokens that ends here was in the cache."""
        return self.evidence.is_repeat

    def nats_cache(self, vocab_size: int) -> Floats:
        """(T,) float64, nats: cost of each token under the cache alone."""
        return 0.0 - log_target_probability(self.evidence, vocab_size)


def observed_by(cache: NgramCache, tokens: Tokens) -> Observed:
    """The next tokens (T,) and what the cache alone predicted before each; it learns them."""
    position = cache.position
    return Observed(position, tokens, cache.observe(tokens), None)


def check_all_scored(n_scored: int, position: int) -> None:
    """Raise ValueError if tokens were observed but not scored."""
    if n_scored != position:
        raise ValueError(
            f"all observed tokens must be scored first, got {position - n_scored} unscored ones "
            f"from position {n_scored}; pass what observe returned to score_observed"
        )


def check_observed(observed: Observed, n_rows: int, next_position: int) -> None:
    """Raise ValueError unless `observed` is the next batch to score, with `n_rows` logprobs."""
    if observed.position != next_position:
        raise ValueError(
            f"observed batches must be scored once, in order: position {next_position} is "
            f"next, got a batch from position {observed.position}; score what observe returned "
            "in the order of the calls"
        )
    if n_rows != len(observed):
        raise ValueError(
            f"logprobs must have one row for each observed token, got {n_rows} rows for "
            f"{len(observed)} tokens from position {observed.position}; look up "
            "observed.tokens and observed.hint_tokens"
        )
