"""Copied and novel: a few lines of plain Python are the judge, whatever the cuts."""

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.scoring.copied import CopiedTracker


def repeats(documents, n):
    """Whether the n-gram that ends at each token stands earlier in the stream."""
    seen, flags = set(), []
    for document in documents:
        for end in range(1, len(document) + 1):
            ngram = tuple(document[max(0, end - n) : end])
            flags.append(len(ngram) == n and ngram in seen)
            seen.add(ngram)
    return flags


def copied(documents, n):
    """Whether each token lies in such an n-gram of its document."""
    ends = iter(repeats(documents, n))
    flags = []
    for document in documents:
        inside = [False] * len(document)
        for end in range(len(document)):
            if next(ends):
                inside[end - n + 1 : end + 1] = [True] * n
        flags += inside
    return flags


@st.composite
def streams(draw):
    documents = draw(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=12), max_size=6))
    cuts = draw(st.lists(st.integers(0, sum(map(len, documents))), max_size=8))
    return documents, sorted(cuts)


@given(streams(), st.integers(1, 6), st.booleans())
def test_it_is_the_plain_loops(stream, n, resumed):
    documents, cuts = stream
    is_repeat = np.array(repeats(documents, n), np.bool_)
    begins = np.array([i == 0 for document in documents for i in range(len(document))], np.bool_)
    columns = np.arange(2 * len(begins)).reshape(2, -1)
    tracker, flags, decided = CopiedTracker(n, 2), [], []
    bounds = [0, *cuts, len(begins)]
    for start, stop in pairwise(bounds):
        piece = slice(start, stop)
        done = tracker.update(columns[:, piece], is_repeat[piece], begins[piece])
        flags += done[0].tolist()
        decided.append(done[1])
        assert stop - n < len(flags) <= stop
        if resumed:
            state = json.loads(json.dumps(tracker.state_dict()))
            tracker = CopiedTracker(n, 2)
            tracker.load_state_dict(state)
    rest = tracker.remaining()
    assert flags + rest[0].tolist() == copied(documents, n)
    np.testing.assert_array_equal(np.hstack([*decided, rest[1]]), columns)


def add(tracker, is_repeat, begins):
    none = np.empty((0, len(is_repeat)), np.int64)
    return tracker.update(none, np.array(is_repeat, bool), np.array(begins, bool))[0].tolist()


def test_the_whole_ngram_is_copied_and_not_what_stands_beside_it():
    is_repeat = repeats([[7, 1, 2, 3, 8, 1, 2, 3, 9]], 3)
    decided = add(CopiedTracker(3, 0), [*is_repeat, False, False], [True] + [False] * 10)
    assert decided == [False] * 5 + [True] * 3 + [False]


def test_single_tokens_do_not_wait():
    assert add(CopiedTracker(1, 0), [False, True], [True, False]) == [False, True]


def test_a_token_waits_for_the_ngrams_end():
    tracker = CopiedTracker(3, 0)
    assert add(tracker, [False, False], [True, False]) == []
    assert add(tracker, [True], [False]) == [True]
    assert tracker.remaining()[0].tolist() == [True, True]
    assert add(tracker, [False, False], [False, False]) == [True, True]


@pytest.mark.parametrize("length", [2, 5])
def test_a_document_that_ends_settles_its_tokens(length):
    tracker = CopiedTracker(length, 0)
    assert add(tracker, [False], [True]) == []
    assert add(tracker, [False], [True]) == [False]
    assert tracker.remaining()[0].tolist() == [False]
