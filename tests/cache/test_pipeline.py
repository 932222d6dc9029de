"""How the tokens of a call are cut into chunks, for one thread and for two."""

from hypothesis import given
from hypothesis import strategies as st

from ngrammix.cache.pipeline import END_FRACTION, chunk_sizes, pipeline_chunk_sizes

lengths, max_sizes = st.integers(0, 1000), st.integers(1, 64)


@given(lengths, max_sizes)
def test_the_chunks_of_one_thread_are_full_but_the_last(n_tokens, max_size):
    sizes = list(chunk_sizes(n_tokens, max_size))
    assert sum(sizes) == n_tokens
    assert all(n == max_size for n in sizes[:-1])
    assert all(1 <= n <= max_size for n in sizes)


@given(lengths, max_sizes)
def test_the_chunks_of_two_threads_are_shorter_at_the_ends(n_tokens, max_size):
    sizes = list(pipeline_chunk_sizes(n_tokens, max_size))
    min_size = max(1, max_size // END_FRACTION)
    assert sum(sizes) == n_tokens
    assert all(1 <= n <= max_size for n in sizes)
    assert all(n <= min_size for n in (*sizes[:1], *sizes[-1:]))
    assert all(n >= min_size for n in sizes[:-1])
