"""Table of the warnings about overlaps that real text sets off, though each token is scored once.

    python tools/overlap_alarms.py ../shared/data          # all loops over all text, two minutes

Each text is read as bytes and as tokens, by loops that cut it in every usual way.
"""

import argparse
import lzma
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ngrammix.candidates.match_model import MatchModel
from ngrammix.overlaps import OverlapWarning, OverlapWatch, row_sizes
from ngrammix.types import Tokens

MAX_TOKENS = 1 << 19
Call = tuple[int, int, tuple[int, ...], bool]  # begin, end, shape of the targets, a new document
KINDS = {
    "logs": "logs/*.log", "code": "code/*", "books": "books/*", "Chinese": "chinese/*",
    "wikitext": "wikitext2/*", "canterbury": "canterbury/*", "web": "fineweb/*.jsonl",
}  # fmt: skip


def windows(tokens: Tokens, width: int, n_rows: int = 1, *, is_flat: bool = False) -> list[Call]:
    """Consecutive windows, `n_rows` in a call."""
    step = width * n_rows
    shape: tuple[int, ...] = (step,) if is_flat else (n_rows, width)
    calls: list[Call] = [
        (i, i + step, shape, False) for i in range(0, len(tokens) - step + 1, step)
    ]
    rest = len(tokens) % step
    return calls + ([(len(tokens) - rest, len(tokens), (rest,), False)] if rest else [])


def sliding(tokens: Tokens, width: int, stride: int) -> list[Call]:
    """Sliding windows of which only the new targets are scored."""
    calls: list[Call] = [(0, min(width, len(tokens)), (min(width, len(tokens)),), False)]
    while calls[-1][1] < len(tokens):
        begin = calls[-1][1]
        end = min(begin + stride, len(tokens))
        calls.append((begin, end, (end - begin,), False))
    return calls


def lines(tokens: Tokens, *, is_document: bool) -> list[Call]:
    """Each line is a call, or a document."""
    newline = np.bincount(tokens).argmax() if not (tokens == 10).any() else 10
    ends = [*(np.flatnonzero(tokens == newline) + 1).tolist(), len(tokens)]
    return [
        (begin, end, (end - begin,), is_document)
        for begin, end in zip([0, *ends], ends, strict=False)
        if end > begin
    ]


LOOPS: dict[str, Callable[[Tokens], list[Call]]] = {
    "windows of 64": lambda t: windows(t, 64),
    "windows of 128": lambda t: windows(t, 128),
    "windows of 256": lambda t: windows(t, 256),
    "windows of 1,024": lambda t: windows(t, 1024),
    "12 windows of 1,024 a call": lambda t: windows(t, 1024, 12),
    "32 windows of 64 a call": lambda t: windows(t, 64, 32),
    "12 windows of 256, flat": lambda t: windows(t, 256, 12, is_flat=True),
    "32 windows of 64, flat": lambda t: windows(t, 64, 32, is_flat=True),
    "windows of 1,024 by 64": lambda t: sliding(t, 1024, 64),
    "windows of 256 by 32": lambda t: sliding(t, 256, 32),
    "lines": lambda t: lines(t, is_document=False),
    "lines as documents": lambda t: lines(t, is_document=True),
    "one call": lambda t: [(0, len(t), (len(t),), False)],
}


def warning_of(tokens: Tokens, calls: list[Call]) -> str | None:
    """The warning that these calls set off, or None."""
    matches = MatchModel(vocab_size=int(tokens.max()) + 1)
    watch = OverlapWatch(matches, is_on=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", OverlapWarning)
        for begin, end, shape, is_document in calls:
            if is_document:
                matches.boundary()
                watch.boundary(begin)
            matches.learn(tokens[begin:end])
            watch.note(begin, row_sizes(shape, np.arange(end - begin)), is_flat=len(shape) < 2)
    return str(caught[0].message) if caught else None


def texts(folder: Path) -> Iterator[tuple[str, str, Tokens]]:
    """(kind, tokenizer, tokens) of each text as bytes, and of tokenized ones."""
    gpt2 = gpt2_tokenizer(folder / "tokenizers")
    for kind, pattern in KINDS.items():
        for path in sorted(folder.glob(pattern)):
            raw = path.read_bytes()
            yield kind, "bytes", np.frombuffer(raw[:MAX_TOKENS], np.uint8).astype(np.int64)
            if kind not in ("canterbury", "wikitext"):
                ids = gpt2.encode(raw[: 4 * MAX_TOKENS].decode("utf-8", "ignore")).ids
                yield kind, "GPT-2", np.array(ids[:MAX_TOKENS])
    for path in sorted(folder.glob("fineweb/*tok*")):
        raw = path.read_bytes()
        shard = lzma.decompress(raw) if path.suffix == ".xz" else raw[1024:]
        name = "sp4096" if "4096" in path.name else "sp1024"
        yield "web", name, np.frombuffer(shard, "<u2")[:MAX_TOKENS].astype(np.int64)


def gpt2_tokenizer(folder: Path) -> Any:
    """GPT-2's byte-level BPE."""
    from tokenizers import ByteLevelBPETokenizer

    return ByteLevelBPETokenizer.from_file(
        str(folder / "gpt2_vocab.json"), str(folder / "gpt2_merges.txt")
    )


def main() -> None:
    """Print the number of warnings of each kind of text, and each warning."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    n_runs: Counter[tuple[str, str]] = Counter()
    n_tokens: Counter[tuple[str, str]] = Counter()
    n_warnings: Counter[tuple[str, str]] = Counter()
    for kind, tokenizer, tokens in texts(folder):
        key = kind, tokenizer
        n_tokens[key] += len(tokens)
        for name, cut in LOOPS.items():
            n_runs[key] += 1
            if (text := warning_of(tokens, cut(tokens))) is not None:
                n_warnings[key] += 1
                print(f"{kind}, {tokenizer}, {name}: {text}", flush=True)
    print("| text | tokens are | tokens | evaluations | warnings |\n|---|---|---|---|---|")
    for key in sorted(n_runs):
        print(f"| {key[0]} | {key[1]} | {n_tokens[key]:,} | {n_runs[key]} | {n_warnings[key]} |")


if __name__ == "__main__":
    main()
