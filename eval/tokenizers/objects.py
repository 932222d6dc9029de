"""Tokenizer objects of other libraries, and of users."""

import re
from pathlib import Path
from typing import Any

from eval.tokenizers.base import Tokenizer
from eval.tokenizers.files import name_tokenizer
from eval.tokenizers.huggingface import FastTokenizer
from eval.tokenizers.sentencepiece import SentencePieceTokenizer
from eval.tokenizers.tiktoken_ranks import bos_of_names, check_ranks, spec_of_ranks

OURS = ("encode", "decode_bytes", "vocab_size", "name", "bos")
# {1,3}+ is possessive in tiktoken and a repetition elsewhere. Where an alternative ends, a
# possessive quantifier matches what a greedy one does.
POSSESSIVE = re.compile(r"(\{\d+(?:,\d*)?\})\+(?=[|)]|$)")
PROBE = (
    "It's 1,234,567 o'clock: THEY'LL say\tso.\r\n\r\n  def f(x):\n    return x/2  # \u00e9t\u00e9 "
    "\u4f60\u597d \U0001f600!!\n\n\n\u0661\u0662\u0663\u0664 https://a.b/c?d=e_f "
)


def tokenizer_of_object(source: Any, bos: int | None = None) -> Tokenizer:
    """The object as a `Tokenizer`.

    Parameters
    ----------
    source : object
        A `Tokenizer`; ``tokenizers.Tokenizer``; a tokenizer of transformers that is built on
        tokenizers or sentencepiece; ``SentencePieceProcessor``; ``tiktoken.Encoding``.
    bos : int, optional
        Token before each document. Default: that of the object, else its eos token.

    Raises
    ------
    ValueError
        If the object is something else, or its tokens cannot be reproduced.
    """
    if hasattr(source, "to_str"):  # of the library tokenizers
        return FastTokenizer(source, bos=bos)
    if hasattr(source, "backend_tokenizer"):  # of transformers
        return FastTokenizer(source.backend_tokenizer, bos=choose_bos(source, bos))
    if hasattr(source, "sp_model"):
        return SentencePieceTokenizer(source.sp_model, bos=choose_bos(source, bos))
    if hasattr(source, "serialized_model_proto"):
        return SentencePieceTokenizer(source, bos=bos)
    if hasattr(source, "_mergeable_ranks"):
        return of_encoding(source, bos)
    missing = [name for name in OURS if not hasattr(source, name)]
    if missing:
        raise ValueError(
            "tokenizer must be a path, or an object of tokenizers, transformers, sentencepiece or "
            f"tiktoken, got {type(source).__name__}, which has no {', '.join(missing)}; pass one "
            "of these"
        )
    tokenizer: Tokenizer = source
    return tokenizer


def choose_bos(source: Any, bos: int | None) -> int | None:
    """`bos`, else the bos or eos token of a tokenizer of transformers, else None."""
    for i in (bos, source.bos_token_id, source.eos_token_id):
        if i is not None:
            return int(i)
    return None


def of_encoding(encoding: Any, bos: int | None) -> FastTokenizer:
    """The tokenizer of a ``tiktoken.Encoding``; ValueError if it encodes a probe differently."""
    ranks, special = encoding._mergeable_ranks, encoding._special_tokens
    check_ranks(ranks, len(ranks), encoding.name)
    pattern = POSSESSIVE.sub(r"\1", encoding._pat_str)
    spec = spec_of_ranks(ranks, pattern, special)
    digest = name_tokenizer(Path(f"{encoding.name}.tiktoken"), str(spec).encode())
    tokenizer = FastTokenizer(spec, bos=bos_of_names(special) if bos is None else bos, name=digest)
    if tokenizer.ids(PROBE, begins=True) != encoding.encode_ordinary(PROBE):
        raise ValueError(
            f"the tokens of an encoding must be reproduced, got others for {encoding.name}; save "
            "it as a tokenizer.json with transformers"
        )
    return tokenizer
