"""with_bos: a tokenizer with another token before each document, or without one."""

from copy import copy

from eval.tokenizers.base import Tokenizer
from eval.tokenizers.byte_tokenizer import ByteTokenizer

BOS_NONE = "none"  # --bos: the first token of each document is context only


def with_bos(tokenizer: Tokenizer, bos: int | str | None) -> Tokenizer:
    """The tokenizer with this BOS token, which is a condition of its own beside the name.

    Parameters
    ----------
    tokenizer : Tokenizer
        It is not changed.
    bos : int, str or None
        An id; a token as it is written, such as ``<s>``; ``none``: no BOS; None: its own.

    Raises
    ------
    ValueError
        If the tokenizer has no such token.
    """
    if bos is None or bos == (BOS_NONE if tokenizer.bos is None else tokenizer.bos):
        return tokenizer
    i = None if bos == BOS_NONE else token_id(tokenizer, bos, "bos")
    changed = copy(tokenizer)
    changed.bos = i
    if isinstance(changed, ByteTokenizer) and i is not None:
        changed.vocab_size = max(changed.vocab_size, i + 1)
    return changed


def token_id(tokenizer: Tokenizer, token: int | str, option: str) -> int:
    """Id of a token, given as its id or as it is written; ValueError if there is none."""
    if isinstance(token, int):
        return token
    find = getattr(tokenizer, "token_id", None)
    i = None if find is None else find(token)
    if i is None:
        raise ValueError(
            f"{option} must be an id or a token of {tokenizer.name}, got {token!r}; pass the id "
            "of the token"
        )
    return int(i)
