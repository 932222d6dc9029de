"""Laws of the cache, held against the reference on random streams over tiny vocabularies."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngrammix import NgramCache
from ngrammix.cache import pipeline
from ngrammix.reference import ReferenceCache

pytestmark = pytest.mark.kernels

FIELDS = ["followers", "n_distinct", "target_count", "hint", "hint_count", "age", "discounts"]
AGE = FIELDS.index("age")
VOCAB_SIZE = 4


@st.composite
def documents(draw, min_size=1):
    """(order, documents): few distinct tokens, so that contexts come back."""
    order = draw(st.integers(1, 8))
    tokens = st.lists(st.integers(0, VOCAB_SIZE - 1), min_size=min_size, max_size=40)
    return order, draw(st.lists(tokens, min_size=1, max_size=3))


@pytest.fixture(
    params=[3, 8192], ids=["chunks of 3", "chunks of 8192"], autouse=True, scope="module"
)
def chunk_size(request):
    """Walk few tokens at a time too: then every table stays as small as its content allows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "CHUNK_SIZE", request.param)
        yield


def columns(evidence, i):
    """The evidence of one position, column by column, k = 0..order - 1."""
    return [getattr(evidence, field)[:, i].tolist() for field in FIELDS]


@given(documents())
def test_observe_equals_the_reference_bit_for_bit(case):
    order, docs = case
    fast, slow = NgramCache(vocab_size=VOCAB_SIZE, order=order), ReferenceCache(VOCAB_SIZE, order)
    for doc in docs:
        evidence = fast.observe(doc)
        for i, token in enumerate(doc):
            expected = slow.evidence(token)
            assert columns(evidence, i) == [list(column) for column in zip(*expected, strict=True)]
            slow.learn(token)
        fast.check()
        fast.boundary()
        slow.boundary()
    assert len(fast) == len(slow.rows())
    assert fast.position == slow.position


@given(documents(), st.data())
def test_pieces_give_the_same_bits_as_the_whole(case, data):
    order, (doc, *_) = case
    cuts = sorted(data.draw(st.sets(st.integers(1, len(doc)))) | {0, len(doc)})
    cut = data.draw(st.sampled_from(cuts[1:]))
    whole, pieces, learned = (NgramCache(vocab_size=VOCAB_SIZE, order=order) for _ in range(3))
    shared = NgramCache(vocab_size=VOCAB_SIZE, order=order, n_threads=2)
    evidence = whole.observe(doc)
    np.testing.assert_array_equal(shared.observe(doc)._columns, evidence._columns)
    parts = [pieces.observe(doc[start:stop]) for start, stop in pairwise(cuts)]
    learned.learn(doc[:cut])
    if cut < len(doc):
        tail = learned.observe(doc[cut:])
        assert [columns(tail, i) for i in range(len(tail))] == [
            columns(evidence, i) for i in range(cut, len(doc))
        ]
    np.testing.assert_array_equal(
        np.concatenate([part._columns for part in parts], axis=1), evidence._columns
    )
    for one, other in [(whole, pieces), (whole, learned), (whole, shared)]:
        np.testing.assert_array_equal(one.distribution(), other.distribution())
        assert len(one) == len(other)


@given(documents(), st.data())
def test_the_target_and_the_future_never_change_the_past(case, data):
    order, (doc, *_) = case
    t = data.draw(st.integers(0, len(doc) - 1))
    tail = st.lists(st.integers(0, VOCAB_SIZE - 1), min_size=len(doc) - t, max_size=len(doc) - t)
    other = doc[:t] + data.draw(tail)
    a = NgramCache(vocab_size=VOCAB_SIZE, order=order).observe(doc)
    b = NgramCache(vocab_size=VOCAB_SIZE, order=order).observe(other)
    for i in range(t + 1):
        seen_a, seen_b = columns(a, i), columns(b, i)
        if i == t:  # the only column that may depend on x_t
            seen_a[2] = seen_b[2] = None
        assert seen_a == seen_b


@given(documents())
def test_updates_one_by_one_leave_what_learning_the_stream_leaves(case):
    order, docs = case
    streamed, updated = (
        NgramCache(vocab_size=VOCAB_SIZE, order=order),
        NgramCache(vocab_size=VOCAB_SIZE, order=order),
    )
    for doc in docs:
        streamed.learn(doc)
        streamed.boundary()
        for i, token in enumerate(doc):
            updated.update(doc[:i], token)
    updated.check()
    for one, other in zip(*(columns_of(c, docs[0] * 2) for c in (streamed, updated)), strict=True):
        del one[AGE], other[AGE]  # an update takes no time
        assert one == other


def columns_of(cache, tokens):
    evidence = cache.observe(tokens)
    return [columns(evidence, i) for i in range(len(tokens))]


contexts = st.lists(st.integers(0, VOCAB_SIZE - 1), max_size=10)


@given(st.integers(1, 8), st.lists(st.tuples(contexts, st.integers(0, VOCAB_SIZE - 1))), contexts)
def test_free_updates_equal_the_reference_and_sum_to_one(order, updates, context):
    fast, slow = NgramCache(vocab_size=VOCAB_SIZE, order=order), ReferenceCache(VOCAB_SIZE, order)
    for before, token in updates:
        fast.update(before, token)
        slow.update(before, token)
    fast.check()
    for discount in (None, 0.6):
        q = fast.distribution(context, discount=discount)
        d = None if discount is None else float(np.float32(discount))
        np.testing.assert_allclose(q, slow.distribution(context, d), rtol=1e-12)
        assert abs(q.sum() - 1) < 1e-12
        assert (q > 0).all()
    logs = [fast.log_prob(context, token) for token in range(VOCAB_SIZE)]
    np.testing.assert_array_equal(logs, np.log(fast.distribution(context)))
    ngrams = {
        tuple(walked[i : i + n])
        for before, token in updates
        for walked in [(*before[len(before) - min(len(before), order - 1) :], token)]
        for n in range(1, order + 1)
        for i in range(len(walked) - n + 1)
    }
    assert len(fast) == len(ngrams)


@given(documents(), contexts)
def test_a_question_changes_nothing(case, context):
    order, (doc, *_) = case
    asked, silent = (
        NgramCache(vocab_size=VOCAB_SIZE, order=order),
        NgramCache(vocab_size=VOCAB_SIZE, order=order),
    )
    for token in doc:
        asked.distribution(context)
        asked.log_prob(context, 0)
        asked.peek()
        repr(asked)
        assert columns(asked.observe([token]), 0) == columns(silent.observe([token]), 0)
    assert len(asked) == len(silent)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("observe"), st.lists(st.integers(0, VOCAB_SIZE - 1), min_size=1)),
        st.tuples(st.just("learn"), st.lists(st.integers(0, VOCAB_SIZE - 1), min_size=1)),
        st.tuples(st.just("update"), contexts),
        st.tuples(st.just("boundary"), st.none()),
    ),
    max_size=12,
)


@given(st.integers(1, 6), steps)
def test_any_interplay_of_calls_equals_the_reference(order, steps):
    fast, slow = NgramCache(vocab_size=VOCAB_SIZE, order=order), ReferenceCache(VOCAB_SIZE, order)
    for verb, tokens in steps:
        ahead = columns(fast.peek(), 0)
        assert ahead == [list(column) for column in zip(*slow.evidence(None), strict=True)]
        if verb == "boundary":
            fast.boundary()
            slow.boundary()
        elif verb == "update":
            fast.update(tokens, len(tokens) % VOCAB_SIZE)
            slow.update(tokens, len(tokens) % VOCAB_SIZE)
        else:
            evidence = getattr(fast, verb)(tokens)
            for i, token in enumerate(tokens):
                if verb == "observe":
                    expected = zip(*slow.evidence(token), strict=True)
                    assert columns(evidence, i) == [list(column) for column in expected]
                slow.learn(token)
        assert len(fast) == len(slow.rows())
    fast.check()


@pytest.mark.parametrize("n_first", [1, 2, 3, 4])
@pytest.mark.parametrize("n_each", [1, 2, 3, 4])
def test_updates_fill_every_table_to_the_brim(n_first, n_each):
    """Room is made for each n-gram exactly when it is needed (run with bounds checks too)."""
    cache = NgramCache(vocab_size=1000, order=4)
    fresh = iter(range(1000))
    sizes = [n_first] + [n_each] * 100
    for size in sizes:
        *context, token = [next(fresh) for _ in range(size)]
        cache.update(context, token)
    cache.check()
    assert len(cache) == sum(size * (size + 1) // 2 for size in sizes)


@given(documents())
def test_peek_is_the_evidence_of_the_token_to_come(case):
    order, (doc, *_) = case
    cache = NgramCache(vocab_size=VOCAB_SIZE, order=order)
    for token in doc:
        ahead, evidence = columns(cache.peek(), 0), columns(cache.observe([token]), 0)
        ahead[2] = evidence[2] = None
        assert ahead == evidence
