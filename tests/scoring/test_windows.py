"""Windows and batches: every token is a target exactly once, in order, with enough context."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.data.document import Document
from eval.scoring.batch import batches, scored_logits
from eval.scoring.tokenized import concatenate, encode, first_tokens, join_documents, split
from eval.scoring.windows import cut, windows
from eval.tokenizers.byte_tokenizer import ByteTokenizer

BOS = 256


@st.composite
def documents(draw):
    """Documents of bytes, and the same ones cut into pieces."""
    texts = draw(st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=5))
    whole, pieces = [], []
    for i, raw in enumerate(texts):
        whole.append(Document(str(i), raw))
        cuts = sorted(draw(st.sets(st.integers(1, len(raw)), max_size=4)) | {0, len(raw)})
        for start, stop in pairwise(cuts):
            pieces.append(Document(str(i), raw[start:stop], begins=start == 0))
    return whole, pieces


def in_tokens(parts):
    return encode(parts, ByteTokenizer(BOS))


@given(documents(), st.integers(1, 20), st.data())
def test_every_token_is_scored_once_with_enough_context(parts, context, data):
    whole, pieces = parts
    stride = data.draw(st.integers(1, context))
    cover = list(windows(in_tokens(pieces), context, stride, BOS))
    assert [w.piece.raw for w in cover] == [
        w.piece.raw for w in windows(in_tokens(whole), context, stride, BOS)
    ]
    scored = [b"" for _ in whole]
    document = -1
    for window in cover:
        n_new = len(window.piece.tokens)
        if window.piece.is_context_start:
            document += 1
            assert window.piece.names == (str(document),)
            assert len(window.inputs) == n_new <= context
        else:
            assert n_new <= stride
            assert context - n_new >= context - stride
        before = [BOS, *scored[document]][-context:]  # what can be seen before the first target
        seen = [*before, *window.piece.tokens]
        assert window.inputs.tolist() == seen[:-1][-context:]
        assert window.piece.tokens.tolist() == list(window.piece.raw)
        assert window.piece.begins.tolist() == [window.piece.is_context_start] + [False] * (
            n_new - 1
        )
        scored[document] += window.piece.raw
    assert scored == [d.raw for d in whole]


@given(documents(), st.integers(1, 20), st.integers(1, 4))
def test_batches_hold_the_windows_in_order(parts, context, size):
    cover = list(windows(in_tokens(parts[1]), context, context, BOS))
    runs = list(batches(iter(cover), size))
    assert [len(batch.pieces) for batch in runs[:-1]] == [size] * (len(runs) - 1)
    assert [piece for batch in runs for piece in batch.pieces] == [w.piece for w in cover]
    for start, batch in zip(range(0, len(cover), size), runs, strict=True):
        assert batch.inputs.shape == batch.is_scored.shape
        logits = np.stack([batch.inputs, batch.inputs], axis=-1)  # names what was read last
        last = [
            w.inputs[len(w.inputs) - len(w.piece.tokens) :] for w in cover[start : start + size]
        ]
        np.testing.assert_array_equal(
            np.concatenate([*scored_logits(logits, batch.is_scored)])[:, 0], np.concatenate(last)
        )


@given(documents(), st.integers(1, 20), st.integers(1, 4), st.integers(1, 60))
def test_a_batch_of_several_windows_has_no_more_logits_than_there_is_room_for(
    parts, context, size, room
):
    cover = list(windows(in_tokens(parts[1]), context, max(1, context // 2), BOS))
    for keeps_rows in (False, True):
        runs = list(batches(iter(cover), size, room, keeps_rows=keeps_rows))
        assert [piece for batch in runs for piece in batch.pieces] == [w.piece for w in cover]
        for batch in runs:
            n_last = batch.inputs.shape[1] - batch.is_scored.any(axis=0).argmax()
            n_rows = len(batch.pieces) * (n_last if keeps_rows else batch.inputs.shape[1])
            assert len(batch.pieces) == 1 or (len(batch.pieces) <= size and n_rows <= room)


@given(documents(), st.integers(1, 20), st.integers(1, 9))
def test_the_parts_of_a_window_are_prefixes_of_it_that_end_with_their_targets(parts, context, room):
    cover = list(windows(in_tokens(parts[1]), context, max(1, context // 2), BOS))
    cutting = cut(iter(cover), room)
    for window in cover:
        raw, n_targets, n_inputs = b"", len(window.piece.tokens), len(window.inputs)
        while len(raw) < n_targets:
            part = next(cutting)
            assert part.piece.is_context_start == (window.piece.is_context_start and not raw)
            raw += part.piece.raw
            assert 1 <= len(part.piece.tokens) <= room
            stop = n_inputs - n_targets + len(raw)
            np.testing.assert_array_equal(part.inputs, window.inputs[:stop])
        assert raw == window.piece.raw
    assert not list(cutting)


@given(documents(), st.integers(1, 20), st.integers(1, 4))
def test_tensors_and_arrays_are_picked_alike(parts, context, size):
    import torch

    for batch in batches(windows(in_tokens(parts[1]), context, context, BOS), size):
        logits = np.random.default_rng(0).normal(size=(*batch.inputs.shape, 3))
        arrays = scored_logits(logits, batch.is_scored)
        tensors = scored_logits(torch.from_numpy(logits), batch.is_scored)
        for tensor, array in zip(tensors, arrays, strict=True):
            np.testing.assert_array_equal(tensor.numpy(), array)


@given(documents())
def test_joined_documents_are_one_stream(parts):
    whole, pieces = parts
    stream = list(join_documents(in_tokens(pieces), BOS))
    tokens = np.concatenate([piece.tokens for piece in stream]).tolist()
    expected = [t for document in whole for t in (BOS, *document.raw)][1:]
    assert tokens == expected
    assert sum(int(p.n_bytes.sum()) for p in stream) == sum(len(d.raw) for d in whole)
    begins = np.concatenate([piece.begins for piece in stream])
    assert begins.sum() == len(whole)
    assert [tokens[i] for i in np.flatnonzero(begins)[1:]] == [BOS] * (len(whole) - 1)
    assert [piece.is_context_start for piece in stream] == [True] + [False] * (len(stream) - 1)
    assert [name for piece in stream for name in piece.names] == [d.name for d in whole]


@given(documents(), st.integers(1, 100))
def test_a_limit_takes_the_first_tokens(parts, limit):
    whole, pieces = parts
    first = list(first_tokens(in_tokens(pieces), limit))
    everything = b"".join(document.raw for document in whole)
    assert b"".join(piece.raw for piece in first) == everything[:limit]
    assert all(len(piece.tokens) for piece in first)


@given(documents(), st.integers(0, 300))
def test_what_is_split_can_be_put_together(parts, n_tokens):
    pieces = list(in_tokens(parts[1]))
    one = pieces[0]
    for piece in pieces[1:]:
        one = concatenate(one, piece)
    head, rest = split(one, n_tokens)
    assert len(head.tokens) == min(n_tokens, len(one.tokens))
    again = concatenate(head, rest)
    for name in ("tokens", "n_bytes", "begins"):
        np.testing.assert_array_equal(getattr(again, name), getattr(one, name))
    assert (again.raw, again.names, again.offset) == (one.raw, one.names, one.offset)


@pytest.mark.parametrize("stride", [0, 9])
def test_refused_strides(stride):
    with pytest.raises(ValueError) as error:
        list(windows([], 8, stride, BOS))
    assert str(error.value) == (
        f"stride must be in 1..8 (the context), got {stride}; a longer one would skip tokens"
    )
