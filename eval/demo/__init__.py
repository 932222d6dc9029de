"""The embedded demo: a small language model, its tokenizer and a reference text."""
