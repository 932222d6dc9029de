"""The demo model as the workbench sees it: lossless tokens, causal logits, clear refusals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.data import Document
from eval.demo import model as demo
from eval.models import decode_utf8, load_demo


@settings(max_examples=40)
@given(st.text(min_size=1, max_size=60))
def test_any_utf8_text_is_spelled_byte_for_byte(text):
    raw = text.encode("utf-8")
    model = load_demo()
    tokens, n_bytes = model.encode(Document("x", raw))
    assert n_bytes.sum() == len(raw)
    assert (tokens != model.bos).all()
    assert model.tokenizer.decode(tokens.tolist(), skip_special_tokens=False) == text


def test_the_beginning_of_a_document_cannot_be_spelled_by_the_text():
    model = load_demo()
    name = model.tokenizer.id_to_token(model.bos)
    tokens, n_bytes = model.encode(Document("x", name.encode()))
    assert (tokens != model.bos).all()
    assert n_bytes.sum() == len(name)


def test_logits_never_see_the_token_they_predict(rng):
    model = load_demo()
    tokens = rng.integers(1, model.vocab_size, (2, 20))
    changed = tokens.copy()
    changed[:, 11:] = rng.integers(1, model.vocab_size, (2, 9))
    a, b = model.logits(tokens), model.logits(changed)
    assert a.shape == (2, 20, model.vocab_size)
    np.testing.assert_array_equal(a[:, :11].numpy(), b[:, :11].numpy())
    assert not np.allclose(a[:, 11].numpy(), b[:, 11].numpy())


def test_the_first_byte_that_is_not_utf8_is_named():
    with pytest.raises(ValueError) as error:
        decode_utf8(Document("data.bin", b"good \xff\xfe bad"))
    assert str(error.value) == (
        "text must be UTF-8 for this model, got byte 0xff at 5 in data.bin (invalid start byte); "
        "convert the file, or score its raw bytes with --model none"
    )


def test_a_demo_without_its_files_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(demo, "WEIGHTS_PATH", tmp_path / "weights.safetensors")
    with pytest.raises(ValueError) as error:
        load_demo.__wrapped__()
    assert str(error.value) == (
        "the demo needs weights.safetensors, which is missing; install ngrammix anew"
    )


def test_the_weights_are_small():
    assert demo.WEIGHTS_PATH.stat().st_size <= 1_500_000
