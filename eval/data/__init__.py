"""Data sets: every supported format as a stream of documents."""
