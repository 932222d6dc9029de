"""Tokenizers: text into tokens whose raw bytes are known exactly.

A model's factory names its tokenizer, so the one that needs no file stands here too.
"""

from eval.tokenizers.byte_tokenizer import ByteTokenizer

__all__ = ["ByteTokenizer"]
