"""Laws of the proposer: at every order, the votes of the specification in plain Python."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngrammix import NgramCache
from ngrammix.candidates import proposer
from ngrammix.candidates.proposer import Proposer
from ngrammix.reference.cache import ReferenceCache
from ngrammix.reference.hints import ReferenceHints

pytestmark = pytest.mark.kernels

N_TOKENS, SURPRISE = 70, 40


@st.composite
def streams(draw):
    """Tokens (T,) that repeat themselves, with one surprise: contexts of every length come back."""
    period = draw(st.lists(st.integers(0, 2), min_size=1, max_size=30))
    tokens = np.resize(period, N_TOKENS)
    tokens[SURPRISE] = 3
    return tokens


@pytest.mark.parametrize("chunk_size", [7, N_TOKENS])
@given(st.integers(1, 64), streams())
def test_the_votes_are_those_of_the_reference(chunk_size, order, tokens):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(proposer, "CHUNK_SIZE", chunk_size)
        evidence = NgramCache(vocab_size=4, order=order).observe(tokens)
        hints = Proposer(4, order, None).observe(tokens, evidence)
    cache, reference = ReferenceCache(4, order), ReferenceHints(order)
    pairs = set()
    for t, token in enumerate(tokens.tolist()):
        votes = reference.votes(cache)
        cells = hints.vote_cells[t, : hints.n_votes[t]].tolist()
        voted = hints.tokens[t, hints.vote_hints[t, : hints.n_votes[t]]]
        assert voted.tolist() == [vote.token for vote in votes]
        pairs |= {(c, v.source, v.confidence) for c, v in zip(cells, votes, strict=True)}
        cache.learn(token)
        reference.learn(token)
    # One cell for each source and confidence, and none for two of them.
    assert len(pairs) == len({cell for cell, _, _ in pairs}) == len({pair[1:] for pair in pairs})
