"""Audits of published log lines."""
