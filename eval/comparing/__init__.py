"""Comparison of mixers: sources of logits, published rules, results."""
