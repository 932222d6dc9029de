"""The order of the cache where none is named: raw bytes gain from longer n-grams than tokens do.

Only the cache alone gains reliably: docs/decisions.md has the figures beside a model.
"""

from eval.tokenizers.byte_tokenizer import ByteTokenizer

ORDER, ORDER_OF_BYTES_ALONE = 7, 24


def order_for(order: int | None, tokenizer_alone: object = None) -> int:
    """`order`, or by default 24 for the cache alone on raw bytes, and 7 otherwise.

    tokenizer_alone: the tokenizer, if there is no model.
    """
    if order is not None:
        return order
    return ORDER_OF_BYTES_ALONE if isinstance(tokenizer_alone, ByteTokenizer) else ORDER
