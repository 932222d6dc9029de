"""``ngrammix bench read``: how fast text becomes batches, by format and by tokenizer."""

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from textwrap import wrap
from time import process_time
from typing import Any

from tqdm import tqdm

from eval.bench.harness import at_least_one, deliver
from eval.bench.read_files import (
    READERS,
    SHARD,
    TimedTokenizer,
    files_for,
    load_timed_tokenizers,
    write_texts,
)
from eval.config import ScoreConfig
from eval.data.document import Document
from eval.data.open_data import open_data
from eval.data.text import read_documents, row_documents
from eval.scoring.dataloader import BatchStream
from eval.scoring.tokenized import encode
from eval.scoring.windows import WindowShape
from eval.tables import align, make_folder

CONTEXT, STRIDE, BATCH = 1024, 512, 8
FLOOR = 5.0  # MB of text a second that all of it together is asked for
SWITCH = "TOKENIZERS_PARALLELISM"
BATCHES = "batches"
WAYS = {  # what is measured, as the table calls it
    "documents": "documents",
    "tokens": "+ tokens",
    BATCHES: "+ batches",
    "library": "library",
    "datasets": "datasets",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this bench."""
    parser.add_argument(
        "--data", metavar="FILE", help="UTF-8 text of any kind (default: the embedded text)"
    )
    parser.add_argument(
        "--tokenizer",
        nargs="+",
        default=[],
        metavar="T",
        help="tokenizer.json or SentencePiece .model, beside raw bytes and the demo's",
    )
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="default: %(default)s")


def run(arguments: argparse.Namespace) -> None:
    """Measure, print the table or JSON, and write JSON under --out."""
    at_least_one(arguments, "runs")
    make_folder(arguments.out)
    document = load_text(arguments.data)
    tokenizers = load_timed_tokenizers(arguments.tokenizer)
    check_lossless(document, tokenizers)
    with TemporaryDirectory() as folder, one_thread():
        cases, left_out = measure(document.raw or b"", tokenizers, Path(folder), arguments.runs)
    slowest = min(cases, key=lambda case: case[key(BATCHES)])
    result = {
        "data": document.name,
        "bytes": len(document.raw or b""),
        "context": CONTEXT,
        "stride": STRIDE,
        "batch": BATCH,
        "runs": arguments.runs,
        "floor_megabytes_per_second": FLOOR,
        "slowest_megabytes_per_second": slowest[key(BATCHES)],
        "reaches_floor": slowest[key(BATCHES)] >= FLOOR,
        "left_out": left_out,
        "cases": cases,
    }
    deliver(result, arguments, "read.json", table)


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


def check_lossless(document: Document, tokenizers: Sequence[TimedTokenizer]) -> None:
    """Raise ValueError if a tokenizer loses bytes of the text, before anything is measured."""
    for timed in tokenizers:
        for _ in encode(row_documents(document.name, document.raw or b"", 0), timed.tokenizer):
            pass


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold the library ``tokenizers``, which asks at every call, to the thread that calls it."""
    before = os.environ.get(SWITCH)
    os.environ[SWITCH] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ[SWITCH]
        else:
            os.environ[SWITCH] = before


def measure(
    raw: bytes, tokenizers: Sequence[TimedTokenizer], folder: Path, runs: int
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """(MB of text a second of CPU time by tokenizer, format and way; why tables were left out).

    A warm-up, then the ways take turns, `runs` times; medians.
    """
    texts = write_texts(raw, folder)
    cases, left_out = [], {}
    for timed in tokenizers:
        files, why = files_for(timed, texts, folder)
        if why is not None:
            left_out[timed.name] = why
        for suffix, path in files.items():
            ways = make_ways(path, suffix, timed, len(raw))
            n_tokens = {name: way() for name, way in ways.items()}[BATCHES]
            seconds: dict[str, list[float]] = {name: [] for name in ways}
            label = f"{timed.name} {suffix}"
            for _ in tqdm(range(runs), desc=label, delay=2, disable=None):
                for name, way in ways.items():
                    started = process_time()
                    way()
                    seconds[name].append(process_time() - started)
            rates = {
                key(name): len(raw) / 1e6 / median(seconds[name]) if name in ways else None
                for name in WAYS
            }
            cases.append({"tokenizer": timed.name, "format": suffix, "tokens": n_tokens} | rates)
    return cases, left_out


def make_ways(
    path: Path, suffix: str, timed: TimedTokenizer, n_bytes: int
) -> dict[str, Callable[[], int]]:
    """What is done to a file: each stage with those before it, then the peers; see `WAYS`."""
    tokenizer, alone = timed.tokenizer, timed.alone
    data = open_data([str(path)], bos=tokenizer.bos, vocab_size=tokenizer.vocab_size)
    shape = WindowShape(CONTEXT, STRIDE, tokenizer.bos or 0, BATCH)
    feed = BatchStream(data, tokenizer, ScoreConfig(), shape)
    ways = {
        "documents": lambda: sum(1 for _ in data),
        "tokens": lambda: sum(len(piece.tokens) for piece in encode(data, tokenizer)),
        BATCHES: lambda: drain(feed, n_bytes),
    }
    if suffix == SHARD:
        return ways
    texts = [(document.raw or b"").decode() for document in data]
    return ways | {
        "library": lambda: sum(len(alone([text])[0]) for text in texts),
        "datasets": lambda: through_datasets(path, READERS[suffix], alone),
    }


def drain(feed: BatchStream, n_bytes: int) -> int:
    """Tokens of all batches; RuntimeError unless they stand for `n_bytes`."""
    n_tokens = n_found = 0
    for batch in feed:
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
    decoded = rows.map(
        lambda batch: {"ids": alone(batch["text"])}, batched=True, remove_columns=["text"]
    )
    return sum(len(row["ids"]) for row in decoded)


def key(way: str) -> str:
    """JSON key of a way's speed."""
    return f"megabytes_per_second_{way}"


def table(result: dict[str, Any]) -> str:
    """Text of the result."""
    lines = [
        f"{result['data']}, {result['bytes']:,} bytes: MB of text a second on one core (CPU time),",
        f"medians of {result['runs']}; windows of {result['context']:,} tokens, "
        f"{result['stride']:,} of them new, {result['batch']} in a batch.",
        "library: the tokenizer's, alone, makes ids of texts that lie ready;",
        "datasets: streams the file and has the library make ids",
        "",
    ]
    cases = result["cases"]
    rows = [("tokenizer", "format", *WAYS.values(), "library is")]
    names = [case["tokenizer"] for case in cases]
    for i, case in enumerate(cases):
        name = "" if i and names[i - 1] == names[i] else short(names[i])
        speeds = [case[key(way)] for way in WAYS]
        library = case[key("library")]
        ratio = "-" if library is None else f"{library / case[key(BATCHES)]:.2f} x"
        shown = ["-" if speed is None else f"{speed:,.2f}" for speed in speeds]
        rows.append((name, case["format"], *shown, ratio))
    lines += align(rows, n_left=2)
    for name, why in result["left_out"].items():
        lines += ["", *wrap(f"{name} reads the text alone, no tables: {why}", 100)]
    slow = [case for case in cases if case[key(BATCHES)] < result["floor_megabytes_per_second"]]
    lines += [
        "",
        f"asked: at least {result['floor_megabytes_per_second']:g} MB/s with batches; "
        f"{len(cases) - len(slow)} of {len(cases)} are as fast, the slowest "
        f"{result['slowest_megabytes_per_second']:.2f}",
    ]
    return "\n".join(lines)


def short(name: str) -> str:
    """At most 22 characters of a name."""
    return name if len(name) <= 22 else f"{name[:19]}..."
