"""The cache alone as a text predictor: it reads a file byte by byte and guesses what comes next.

python examples/predict_text.py notes.txt "The "
"""

import sys
from pathlib import Path

import numpy as np

from ngrammix import NgramCache


def accuracy(cache: NgramCache, text: np.ndarray) -> float:
    """Share of the bytes that the longest context's most frequent follower foretold."""
    evidence = cache.observe(text)  # what was known before each byte; then they are learned
    longest = np.maximum(evidence.matched_order - 1, 0)
    guesses = evidence.hint[longest, np.arange(len(text))]
    return float((guesses == text)[evidence.matched_order > 0].mean())


def complete(cache: NgramCache, prompt: bytes, n_bytes: int) -> bytes:
    """The prompt and the likeliest next bytes, one at a time; the cache does not learn them."""
    for _ in range(n_bytes):
        context = np.frombuffer(prompt, np.uint8)
        prompt += bytes([int(cache.distribution(context).argmax())])
    return prompt


def main(path: str, prompt: str) -> None:
    text = np.frombuffer(Path(path).read_bytes(), np.uint8)
    cache = NgramCache(vocab_size=256, order=9)
    print(f"{accuracy(cache, text):.1%} of the bytes foretold in one pass over {len(text):,}")
    print(complete(cache, prompt.encode(), 60).decode(errors="replace"))


if __name__ == "__main__":
    main(*sys.argv[1:])
