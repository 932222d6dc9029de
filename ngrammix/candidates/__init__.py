"""Candidates for the next token: the match model, and the hints of the cache's contexts."""
