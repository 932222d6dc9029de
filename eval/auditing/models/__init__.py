"""Audits of language models by their logits."""
