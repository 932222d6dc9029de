"""The audits that need tokenizers, models, log lines and files."""
