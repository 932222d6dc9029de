"""What the watchdog calls: each opens a folder or file as a user would, and scores a short text."""

import math

import numpy as np

from eval.data.document import Document
from eval.models.load_model import load_model
from eval.scoring.score import score
from eval.tokenizers.load_tokenizer import load_tokenizer

TEXT = b"the cat sat on the mat, and the dog sat on the cat"


def read_model(folder):
    """Load a model and score the text."""
    result = score(load_model(folder), [Document("text", TEXT)])
    assert math.isfinite(result.bpb), result.bpb
    return f"{result.model} {result.bpb:.6f}"


def read_tokenizer(path):
    """Load a tokenizer and encode the text."""
    tokenizer = load_tokenizer(path)
    tokens, n_bytes = tokenizer.encode(Document("text", TEXT))
    assert n_bytes.sum() == len(TEXT)
    assert tokenizer.decode_bytes(tokens)
    return f"{tokenizer.name} {len(tokens)}"


def read_ids(path):
    """Load a tokenizer and count the bytes of ids."""
    tokenizer = load_tokenizer(path)
    ids = np.arange(min(300, tokenizer.vocab_size))
    kept = [i for i in ids if tokenizer.decode_bytes(np.array([i]))]
    if kept:
        tokenizer.encode(Document("text", tokens=np.array(kept)))
    return tokenizer.name
