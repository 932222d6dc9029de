"""choose_tokenizer: the tokenizer of a run, from what the user passes and the model has."""

from typing import Any

from eval.tokenizers.base import Tokenizer
from eval.tokenizers.bos import with_bos
from eval.tokenizers.byte_tokenizer import ByteTokenizer
from eval.tokenizers.load_tokenizer import load_tokenizer


def choose_tokenizer(model: Any, tokenizer: Any, bos: int | str | None) -> Tokenizer:
    """The tokenizer that is passed, else the model's own, else bytes.

    Parameters
    ----------
    model : Model or None
        Ids must be below its `vocab_size`.
    tokenizer : Tokenizer, path, object or None
        See `load_tokenizer`.
    bos : int, str or None
        See `with_bos`.
    """
    if tokenizer is None:
        tokenizer = ByteTokenizer() if model is None else model.tokenizer
    vocab_size = None if model is None else model.vocab_size
    return with_bos(load_tokenizer(tokenizer, vocab_size=vocab_size), bos)
