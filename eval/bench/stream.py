"""The token stream of the benches of the cache and the mixer."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eval.data.document import Document
from eval.data.text import read_documents
from eval.data.token_formats import read_shard
from eval.models.load_model import load_demo
from ngrammix.cache.ngram_cache import NgramCache
from ngrammix.candidates.match_model import MatchModel

BLOCK = 1 << 17  # tokens of evidence at a time, for every peer alike


def load_tokens(path: str | None) -> tuple[str, NDArray[np.int64], int]:
    """(name, tokens (T,), V) of a shard, of another file's bytes, or of the embedded text."""
    if path is None:
        from eval.demo.reference_text import reference_text

        model = load_demo()
        document = Document("the Python language reference", reference_text())
        return document.name, model.tokenizer.encode(document)[0], model.vocab_size
    name = Path(path).name
    if path.endswith(".bin"):
        tokens = read_shard(Path(path)).astype(np.int64)
        return name, tokens, int(tokens.max()) + 1
    (document,) = read_documents([path])
    return name, np.frombuffer(document.raw or b"", np.uint8).astype(np.int64), 256


def observe(reader: NgramCache | MatchModel, tokens: NDArray[np.int64]) -> None:
    """Observe all tokens, a block at a time; the evidence is dropped."""
    for start in range(0, len(tokens), BLOCK):
        reader.observe(tokens[start : start + BLOCK])
