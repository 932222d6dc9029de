"""Audits of the bytes that are charged to tokens."""
