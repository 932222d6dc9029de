"""Windows: every position scored exactly once, in order, with the context the stride allows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.score import BATCH, batches
from eval.windows import windows


@given(st.integers(1, 400), st.integers(1, 40), st.data())
def test_every_position_is_scored_once_with_enough_context(n_tokens, context, data):
    stride = data.draw(st.integers(1, context))
    cover = list(windows(n_tokens, context, stride))
    assert [i for w in cover for i in range(w.first, w.stop)] == list(range(n_tokens))
    for w in cover:
        assert 0 <= w.start <= w.first < w.stop <= w.start + context
        assert w.start == 0 or (
            w.first - w.start >= context - stride and w.stop - w.start == context
        )
    runs = list(batches(iter(cover)))
    assert [w for run in runs for w in run] == cover
    for run in runs:
        assert len(run) <= BATCH
        assert len({(w.stop - w.start, w.first - w.start) for w in run}) == 1


@pytest.mark.parametrize("stride", [0, 9])
def test_refused_strides(stride):
    with pytest.raises(ValueError) as error:
        list(windows(20, 8, stride))
    assert str(error.value) == (
        f"stride must be in 1..8 (the model's context), got {stride}; "
        "a longer one would skip tokens"
    )
