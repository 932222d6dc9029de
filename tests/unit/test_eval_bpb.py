"""Bits per byte: the denominator is the raw text or there is no score."""

import math

import numpy as np
import pytest

from eval.bpb import bits, bits_per_byte, check_token_bytes
from eval.data import Document


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
        "tokenizer does not spell this text losslessly"
    )
