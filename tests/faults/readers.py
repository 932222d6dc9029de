"""What the watchdog calls: each opens a folder or file as a user would, and scores a short text."""

import math

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
