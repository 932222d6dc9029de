"""What every bench shares: its stream of tokens, the clock, and where its result goes."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.data.arrays import read_shard
from eval.data.document import Document
from eval.data.text import read_documents
from eval.models.load_model import load_demo
from ngrammix.cache.ngram_cache import NgramCache
from ngrammix.candidates.match_model import MatchModel

BLOCK = 1 << 17  # tokens of evidence at a time, for every peer alike


def add_stream(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose the tokens and the order of the cache."""
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FILE",
        help="Parameter Golf token shard, *.bin, or any other file for its bytes (default: the "
        "embedded text in the demo's tokens)",
    )
    parser.add_argument("--order", type=int, default=7, metavar="N", help="default: %(default)s")


def at_least_one(arguments: argparse.Namespace, *options: str) -> None:
    """Raise ValueError unless each of these options is >= 1."""
    for option in options:
        if (value := getattr(arguments, option)) < 1:
            name = option.replace("_", "-")
            raise ValueError(f"--{name} must be >= 1, got {value}; leave it out for the default")


def load_tokens(path: Path | None) -> tuple[str, NDArray[np.int64], int]:
    """(name, tokens (T,), V) of a shard, of another file's bytes, or of the embedded text."""
    if path is not None and path.suffix == ".bin":
        tokens = read_shard(path).astype(np.int64)
        return path.name, tokens, int(tokens.max()) + 1
    if path is not None:
        (document,) = read_documents([str(path)])
        return path.name, np.frombuffer(document.raw or b"", np.uint8).astype(np.int64), 256
    from eval.demo.reference_text import reference_text

    model = load_demo()
    tokens, _ = model.tokenizer.encode(Document("the Python language reference", reference_text()))
    return "the Python language reference", tokens, model.vocab_size


def observe(reader: NgramCache | MatchModel, tokens: NDArray[np.int64]) -> None:
    """Observe all tokens, block by block; what was known is dropped."""
    for start in range(0, len(tokens), BLOCK):
        reader.observe(tokens[start : start + BLOCK])


def timed(work: Callable[[], object]) -> float:
    """Seconds of the work."""
    started = perf_counter()
    work()
    return perf_counter() - started


def deliver(
    result: dict[str, Any],
    arguments: argparse.Namespace,
    name: str,
    table: Callable[[dict[str, Any]], str],
) -> None:
    """Write the result as JSON to file `name` under --out; print it as JSON or as a table."""
    text = json.dumps(result, indent=2) + "\n"
    if arguments.out:
        (arguments.out / name).write_text(text, encoding="utf-8")
    print(text if arguments.json else table(result))  # noqa: T201
