"""Tokenizers of each kind, and the bytes of their tokens."""
