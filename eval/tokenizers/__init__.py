"""Tokenizers of each format, with the number of raw bytes of every token."""
