"""``ngrammix bench read``: how fast text becomes batches, by format and by tokenizer."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import fill
from time import process_time
from typing import Any

from eval.bench.harness import Bench, Figures, Table
from eval.bench.options import OPTIONS
from eval.bench.read_files import (
    READERS,
    SHARD,
    TimedTokenizer,
    files_for,
    load_timed_tokenizers,
    write_texts,
)
from eval.bench.rounds import environment, race
from eval.config import ScoreConfig
from eval.data.document import Document
from eval.data.open_data import open_data
from eval.data.text import read_documents, row_documents
from eval.scoring.dataloader import BatchStream
from eval.scoring.tokenized import encode
from eval.scoring.windows import WindowShape

CONTEXT, STRIDE, BATCH = 1024, 512, 8
FLOOR = 5.0  # MB of text a second, the least that reading should reach
WAYS = ("documents", "tokens", "batches", "library", "datasets")
# The library `tokenizers` reads this at every call: one thread.
ONE_THREAD = {"TOKENIZERS_PARALLELISM": "false"}


def measure(arguments: argparse.Namespace) -> Figures:
    """MB of text a second of processor time, by tokenizer, format and way."""
    document = load_text(arguments.data)
    raw = document.raw or b""
    tokenizers = load_timed_tokenizers(arguments.tokenizer)
    for timed in tokenizers:  # raises ValueError if a tokenizer loses bytes, before any measuring
        for _ in encode(row_documents(document.name, raw, 0), timed.tokenizer):
            pass
    cases: list[Figures] = []
    reasons = {}
    with TemporaryDirectory() as folder, environment(ONE_THREAD):
        texts = write_texts(raw, Path(folder))
        for timed in tokenizers:
            files, reason = files_for(timed, texts, Path(folder))
            if reason is not None:
                reasons[timed.name] = reason
            for suffix, path in files.items():
                case = {"tokenizer": timed.name, "format": suffix}
                ways = make_ways(path, suffix, timed, len(raw))
                cases.append(case | measure_ways(ways, len(raw), arguments.runs))
    slowest = min(case["megabytes_per_second_batches"] for case in cases)
    return {
        "data": document.name, "bytes": len(raw), "context": CONTEXT, "stride": STRIDE,
        "batch": BATCH, "floor_megabytes_per_second": FLOOR,
        "slowest_megabytes_per_second": slowest, "reaches_floor": slowest >= FLOOR,
        "left_out": reasons, "cases": cases,
    }  # fmt: skip


def load_text(path: str | None) -> Document:
    """The file, or the embedded text; ValueError unless it is UTF-8."""
    if path is None:
        from eval.demo.reference_text import reference_text

        return Document("the Python language reference", reference_text())
    (document,) = read_documents([path])
    raw = document.raw or b""
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"text must be UTF-8, as in JSON, got byte 0x{raw[error.start]:02x} at {error.start} "
            f"in {path} ({error.reason}); convert the file"
        ) from error
    return Document(Path(path).name, raw)


def measure_ways(ways: dict[str, Callable[[], int]], n_bytes: int, runs: int) -> Figures:
    """Tokens of the batches, and MB of text a second of each way; None for a way that is absent."""
    rates = race(ways, runs, clock=process_time).rates(n_bytes)
    figures: Figures = {
        f"megabytes_per_second_{way}": rates[way] / 1e6 if way in ways else None for way in WAYS
    }
    if "library" in ways:
        figures["library_ratio"] = rates["library"] / rates["batches"]
    return {"tokens": ways["tokens"](), **figures}


def make_ways(
    path: Path, suffix: str, timed: TimedTokenizer, n_bytes: int
) -> dict[str, Callable[[], int]]:
    """Ways to read a file: each stage with the stages before it, then the peers; see `WAYS`."""
    tokenizer, alone = timed.tokenizer, timed.alone
    data = open_data([str(path)], bos=tokenizer.bos, vocab_size=tokenizer.vocab_size)
    stream = BatchStream(
        data, tokenizer, ScoreConfig(), WindowShape(CONTEXT, STRIDE, tokenizer.bos or 0, BATCH)
    )
    ways = {
        "documents": lambda: sum(1 for _ in data),
        "tokens": lambda: sum(len(piece.tokens) for piece in encode(data, tokenizer)),
        "batches": lambda: drain(stream, n_bytes),
    }
    if suffix == SHARD:
        return ways
    texts = [(document.raw or b"").decode() for document in data]
    return ways | {
        "library": lambda: sum(len(alone([text])[0]) for text in texts),
        "datasets": lambda: through_datasets(path, READERS[suffix], alone),
    }


def drain(stream: BatchStream, n_bytes: int) -> int:
    """Tokens of all batches; RuntimeError unless they stand for `n_bytes`."""
    n_tokens = n_found = 0
    for batch in stream:
        n_tokens += len(batch.targets)
        n_found += sum(int(piece.n_bytes.sum()) for piece in batch.pieces)
    if n_found != n_bytes:
        raise RuntimeError(
            f"batches must hold all {n_bytes} bytes of the text, got {n_found}; "
            "this is a bug of ngrammix: please report it with the text"
        )
    return n_tokens


def through_datasets(path: Path, reader: str, alone: Callable[[list[str]], Sequence[Any]]) -> int:
    """Tokens of a file as `datasets` streams it; its reader of plain text drops line breaks."""
    import datasets

    rows = datasets.load_dataset(reader, data_files=str(path), split="train", streaming=True)
    tokenized = rows.map(
        lambda batch: {"ids": alone(batch["text"])}, batched=True, remove_columns=["text"]
    )
    return sum(len(row["ids"]) for row in tokenized)


def left_out(figures: Figures) -> list[Figures]:
    """A row for each tokenizer that does not read tables."""
    return [{"name": name, "reason": fill(why, 60)} for name, why in figures["left_out"].items()]


BENCH = Bench(
    options=OPTIONS["read"],
    measure=measure,
    report=(
        "MB of text a second on one core (processor time); windows of {context:,} tokens, "
        "{stride:,} of them new, {batch} in a batch. Library: the tokenizer's library alone makes "
        "ids of texts in memory; datasets: streams the file, and the library makes the ids.",
        Table("cases", {
            "tokenizer": "{tokenizer}", "format": "{format}",
            "documents": "{megabytes_per_second_documents:,.2f}",
            "+ tokens": "{megabytes_per_second_tokens:,.2f}",
            "+ batches": "{megabytes_per_second_batches:,.2f}",
            "library": "{megabytes_per_second_library:,.2f}",
            "datasets": "{megabytes_per_second_datasets:,.2f}",
            "library is": "{library_ratio:.2f} x",
        }),
        Table(left_out, {"tokenizer": "{name}", "why it reads the text alone": "{reason}"}),
        "The goal is {floor_megabytes_per_second:g} MB/s with batches; the slowest reaches "
        "{slowest_megabytes_per_second:.2f}",
    ),
)  # fmt: skip
