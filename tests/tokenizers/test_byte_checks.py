"""Bits per byte: the denominator is the raw text or there is no score."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.data.document import Document
from eval.tokenizers.byte_checks import (
    bits,
    bits_per_byte,
    check_decoding,
    check_raw_bytes,
    check_token_bytes,
    first_difference,
)


def test_a_uniform_byte_model_costs_exactly_eight_bits():
    n_bytes = 1000
    assert bits_per_byte(n_bytes * math.log(256), n_bytes) == pytest.approx(8.0, rel=1e-15)
    assert bits(math.log(2)) == 1.0


@pytest.mark.parametrize("n_bytes", [[1, 1, 2], [1, 1]])
def test_token_bytes_that_are_not_the_text_are_refused(n_bytes):
    document = Document("letter.txt", b"abc")
    check_token_bytes(np.array([1, 2]), document)
    with pytest.raises(ValueError) as error:
        check_token_bytes(np.array(n_bytes), document)
    assert str(error.value) == (
        f"token bytes must sum to the raw bytes, got {sum(n_bytes)} for 3 in letter.txt; the "
        "tokenizer does not encode this text losslessly"
    )


@given(st.binary(max_size=8), st.binary(max_size=8), st.binary(max_size=8))
def test_the_first_difference_is_the_length_of_the_common_beginning(common, a, b):
    at = first_difference(common + a, common + b)
    assert (common + a)[:at] == (common + b)[:at]
    assert (common + a)[at : at + 1] != (common + b)[at : at + 1] or common + a == common + b


@given(st.binary(max_size=20), st.binary(max_size=20))
def test_only_the_raw_bytes_themselves_pass(decoded, raw):
    if decoded == raw:
        check_raw_bytes(decoded, Document("x", raw))
    else:
        with pytest.raises(ValueError, match=r"^tokens must decode to the raw bytes, got "):
            check_raw_bytes(decoded, Document("x", raw))


@pytest.mark.parametrize(
    ("decoded", "raw", "what", "cause"),
    [
        (" one", "one", "4 for 3 in x, b' one' for b'one' at byte 0",
         "the space before the text is counted twice, or lost"),
        ("a\ufffd", b"a\xe9", "4 for 2 in x, b'\\xef\\xbf\\xbd' for b'\\xe9' at byte 1",
         "U+FFFD replaces bytes that are not UTF-8"),
        ("a\ufffdb", "aéb", "5 for 4 in x, b'\\xef\\xbf\\xbdb' for b'\\xc3\\xa9b' at byte 1",
         "U+FFFD replaces bytes that are not UTF-8"),
        ("a\u2581b", "a b", "5 for 3 in x, b'\\xe2\\x96\\x81b' for b' b' at byte 1",
         "U+2581 replaces a space: the tokenizer has no token for a space"),
        ("a b c", "a b\nc", "5 for 5 in x, b' c' for b'\\nc' at byte 3",
         "white space is dropped, merged or replaced"),
        ("the end", "The End", "7 for 7 in x, b'the end' for b'The End' at byte 0",
         "upper case becomes lower case"),
        ("fi ne", "ﬁ\nne", "5 for 6 in x, b'fi ne' for b'\\xef\\xac\\x81\\nne' at byte 0",
         "Unicode normalisation such as NFKC"),
        ("fin", "ﬁN", "3 for 4 in x, b'fin' for b'\\xef\\xac\\x81N' at byte 0",
         "upper case becomes lower case, with Unicode normalisation"),
        ("ac", "abc", "2 for 3 in x, b'c' for b'bc' at byte 1", "bytes are lost"),
        ("abc", "abd", "3 for 3 in x, b'c' for b'd' at byte 2", "the text is rewritten"),
    ],
)  # fmt: skip
def test_the_error_says_where_and_why(decoded, raw, what, cause):
    raw = raw if isinstance(raw, bytes) else raw.encode()
    with pytest.raises(ValueError) as error:
        check_raw_bytes(decoded.encode(), Document("x", raw))
    assert str(error.value) == (
        f"tokens must decode to the raw bytes, got {what} ({cause}); take a tokenizer that loses "
        "nothing, or score the raw bytes with --model none"
    )


def test_a_later_piece_is_named_as_one():
    with pytest.raises(ValueError, match=r" in a later piece of x, b'b' for b'c' at byte 1 "):
        check_raw_bytes(b"ab", Document("x", b"ac", begins=False))


@given(st.text(max_size=20))
def test_what_is_decoded_alike_passes_with_or_without_its_first_blank(text):
    document = Document("x", tokens=np.array([1]))
    for blank in ("", " "):
        check_decoding(blank.encode() + text.encode(), text, document)
    with pytest.raises(ValueError):
        check_decoding(text.encode() + b"!", text, document)


def test_broken_utf8_is_compared_but_for_what_stands_for_it():
    document = Document("val.bin:3", tokens=np.array([1]))
    check_decoding(b"a\xf0\x9f\x98b", "a\ufffd\ufffd\ufffdb", document)
    with pytest.raises(ValueError) as error:
        check_decoding(b"a\xf0\x9f\x98b", "a\ufffdc", document)
    assert str(error.value) == (
        "token bytes must be what the tokenizer decodes, got 2 bytes for 2 in val.bin:3, b'b' for "
        "b'c' at byte 1 (the text is rewritten); give the bytes of each token with --token-bytes"
    )
