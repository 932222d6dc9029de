"""Tokenizers of each kind, and the bytes that their tokens spell."""
