"""Data: each kind of file as one stream of documents."""
