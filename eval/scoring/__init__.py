"""Scoring: from documents to tokens, windows, batches, scores and the result."""
