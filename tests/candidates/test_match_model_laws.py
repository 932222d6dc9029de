"""Laws of the match model, held against the reference on streams that repeat themselves."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngrammix import MatchModel, SnapshotError
from ngrammix.candidates import match_model as match
from ngrammix.reference import ReferenceMatch

pytestmark = pytest.mark.kernels

VOCAB_SIZE = 4
WINDOW = 2048


@pytest.fixture(autouse=True, scope="module", params=[3, 1 << 14], ids=["chunks of 3", "whole"])
def chunk(request):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(match, "CHUNK_SIZE", request.param)
        yield


@st.composite
def streams(draw):
    """Tokens with copies of what came before."""
    tokens = draw(st.lists(st.integers(0, VOCAB_SIZE - 1), min_size=1, max_size=30))
    for _ in range(draw(st.integers(0, 5))):
        start = draw(st.integers(0, len(tokens) - 1))
        tokens += tokens[start : start + draw(st.integers(1, 50))]
        tokens.append(draw(st.integers(0, VOCAB_SIZE - 1)))
    return tokens


settings = st.fixed_dictionaries({"min_length": st.integers(1, 8), "table_bits": st.integers(4, 8)})


def rows(matches):
    return list(zip(*(column.tolist() for column in (
        matches.length, matches.hint, matches.distance)), strict=True))  # fmt: skip


@given(st.lists(streams(), min_size=1, max_size=3), settings)
def test_observe_equals_the_reference(documents, chosen):
    fast = MatchModel(vocab_size=VOCAB_SIZE, window=WINDOW, **chosen)
    slow = ReferenceMatch(window=WINDOW, **chosen)
    for document in documents:
        matches = fast.observe(document)
        assert len(matches) == len(document)
        for row, token in zip(rows(matches), document, strict=True):
            assert row == slow.match()
            slow.learn(token)
        assert rows(fast.peek()) == [slow.match()]
        fast.boundary()
        slow.boundary()


def test_tokens_that_left_the_window_are_never_matched(rng):
    """A ring that is written over: against the reference, which keeps every token."""
    fast = MatchModel(vocab_size=VOCAB_SIZE, window=WINDOW, min_length=6, table_bits=12)
    slow = ReferenceMatch(window=WINDOW, min_length=6, table_bits=12)
    tokens = rng.integers(0, VOCAB_SIZE, 3 * WINDOW)
    for distance in (WINDOW - 40, WINDOW - 1, WINDOW, WINDOW + 1, WINDOW + 40):
        at = 2 * WINDOW + distance // 2
        tokens[at : at + 60] = tokens[at - distance : at - distance + 60]
        matches = fast.observe(tokens)
        for row, token in zip(rows(matches), tokens.tolist(), strict=True):
            assert row == slow.match()
            slow.learn(token)
        assert 0 < matches.distance.max() < WINDOW


@given(streams(), settings, st.data())
def test_the_target_and_the_future_never_change_the_past(tokens, chosen, data):
    t = data.draw(st.integers(0, len(tokens) - 1))
    other = tokens[:t] + [(token + 1) % VOCAB_SIZE for token in tokens[t:]]
    one, two = (
        rows(MatchModel(vocab_size=VOCAB_SIZE, **chosen).observe(x)) for x in (tokens, other)
    )
    assert one[: t + 1] == two[: t + 1]


@given(streams(), settings, st.data())
def test_a_match_is_a_match(tokens, chosen, data):
    """What is said holds in the stream itself, whatever the hash did."""
    matches = MatchModel(vocab_size=VOCAB_SIZE, **chosen).observe(tokens)
    for t, (length, hint, distance) in enumerate(rows(matches)):
        if length > 0:
            assert length >= chosen["min_length"]
            assert tokens[t - length : t] == tokens[t - distance - length : t - distance]
            assert tokens[t - distance] == hint


@given(streams(), settings, st.data())
def test_pieces_and_a_resumed_stream_give_the_same_bits(tmp_path_factory, tokens, chosen, data):
    cuts = sorted(data.draw(st.sets(st.integers(1, len(tokens)))) | {0, len(tokens)})
    whole, pieces = (
        MatchModel(vocab_size=VOCAB_SIZE, **chosen),
        MatchModel(vocab_size=VOCAB_SIZE, **chosen),
    )
    path = tmp_path_factory.getbasetemp() / "matches"
    parts = []
    for start, stop in pairwise(cuts):
        parts += rows(pieces.observe(tokens[start:stop]))
        pieces.save(path)
        pieces = MatchModel.load(path)
    assert parts == rows(whole.observe(tokens))
    learned = MatchModel(vocab_size=VOCAB_SIZE, **chosen)
    learned.learn(tokens)
    assert rows(learned.peek()) == rows(pieces.peek())
    assert repr(learned) == repr(pieces)
    assert learned.nbytes == pieces.nbytes


def test_a_long_match_grows_beyond_what_is_compared_at_its_beginning():
    tokens = np.random.default_rng(0).integers(0, 1000, 5000)
    model = MatchModel(vocab_size=1000, window=1 << 14)
    model.learn(tokens)
    assert model.observe(tokens).length[-1] == 4999
    assert model.observe(tokens[-2:]).length.tolist() == [5000, 0]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    model = MatchModel(vocab_size=VOCAB_SIZE, min_length=2, table_bits=4, window=WINDOW)
    model.learn([0, 1, 2, 0, 1])
    path = tmp_path_factory.mktemp("match") / "good"
    model.save(path)
    return path


@given(st.data())
def test_any_damage_to_a_saved_model_is_refused(saved, data):
    whole = saved.read_bytes()
    i = data.draw(st.integers(0, len(whole) - 1))
    damaged = whole[:i] + bytes([whole[i] ^ (1 << i % 8)]) + whole[i + 1 :]
    path = saved.with_name("damaged")
    path.write_bytes(data.draw(st.sampled_from([damaged, whole[:i], whole + b"\0"])))
    with pytest.raises(SnapshotError):
        MatchModel.load(path)


@pytest.mark.parametrize(
    ("name", "change", "text"),
    [
        ("history", lambda a: a[:-1], "has the wrong shape or dtype"),
        ("history", lambda a: a.astype(np.int64) - 9, "has the wrong shape or dtype"),
        ("slots", lambda a: a.astype(np.int64) - 9, "has the wrong shape or dtype"),
        ("state", lambda a: a.astype(np.uint32), "has the wrong shape or dtype"),
        ("history", lambda a: a + 4, "a token or a slot is out of range"),
        ("slots", lambda a: a + 6, "a token or a slot is out of range"),
        ("state", lambda a: a + np.array([5, 0, 0]), "the match has an invalid position or length"),
        ("state", lambda a: a + np.array([0, 9, 0]), "the match has an invalid position or length"),
        ("position", lambda n: -1, "position must be an integer in 0..1073741824, got -1"),
        ("window", lambda n: 3000, "window must be a power of two, got 3000; round it to 2048"),
        ("vocab", lambda n: 1, "'vocab', 'vocab_size'"),
    ],
)
def test_a_forged_model_is_refused(saved, name, change, text):
    from ngrammix import snapshot

    values, arrays = snapshot.read(saved)
    part = arrays if name in arrays else values
    part[name] = change(part.get(name))
    path = saved.with_name("forged")
    snapshot.write(path, values, arrays)
    with pytest.raises(SnapshotError) as error:
        MatchModel.load(path)
    assert str(error.value).startswith(f"{path} is damaged: ")
    assert text in str(error.value)


@pytest.mark.parametrize(
    ("argument", "value", "text"),
    [
        ("min_length", 0, "min_length must be an integer in 1..1024, got 0; "
                          "leave it out for the default"),
        ("min_length", 2.0, "min_length must be an integer in 1..1024, got 2.0; "
                            "leave it out for the default"),
        ("table_bits", 31, "table_bits must be an integer in 4..30, got 31; "
                           "leave it out for the default"),
        ("window", 1024, "window must be an integer in 2048..1073741824, got 1024; "
                         "leave it out for the default"),
        ("window", 5000, "window must be a power of two, got 5000; round it to 4096 or 8192"),
    ],
)  # fmt: skip
def test_the_texts_of_errors(argument, value, text):
    with pytest.raises(ValueError) as error:
        MatchModel(vocab_size=VOCAB_SIZE, **{argument: value})
    assert str(error.value) == text
    model = MatchModel(vocab_size=VOCAB_SIZE)
    with pytest.raises(ValueError, match=r"tokens must be in \[0, 4\), got 4 at position 1"):
        model.observe([0, 4])
    assert model.position == 0
