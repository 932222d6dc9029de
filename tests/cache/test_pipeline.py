"""How a call is cut into chunks, for one thread and for the relay of two."""

from hypothesis import given
from hypothesis import strategies as st

from ngrammix.cache import chunk
from ngrammix.cache import pipeline as relay

lengths, largest = st.integers(0, 1000), st.integers(1, 64)


@given(lengths, largest)
def test_the_chunks_of_one_thread_are_full_but_the_last(n_tokens, size):
    sizes = list(chunk.sizes(n_tokens, size))
    assert sum(sizes) == n_tokens
    assert all(n == size for n in sizes[:-1])
    assert all(1 <= n <= size for n in sizes)


@given(lengths, largest)
def test_the_chunks_of_a_relay_are_shorter_at_the_ends(n_tokens, size):
    sizes = list(relay.sizes(n_tokens, size))
    shortest = max(1, size // relay.SHORTER)
    assert sum(sizes) == n_tokens
    assert all(1 <= n <= size for n in sizes)
    assert all(n <= shortest for n in (*sizes[:1], *sizes[-1:]))
    assert all(n >= shortest for n in sizes[:-1])
