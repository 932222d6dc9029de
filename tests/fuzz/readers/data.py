"""Readers of data: texts, tables, token files, compressed files, saved data sets, splits."""

import random
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from tests.fuzz.reader import (
    NAME,
    Reader,
    mutate_bytes,
    mutate_json,
    mutate_part,
    mutate_rows,
    write,
    write_parts,
)
from tests.fuzz.verdict import WrongError

MAX_DOCUMENTS = 20_000  # that are read of an input
VOCAB_SIZE = 1000


def read_data(data: bytes, folder: Path, suffix: str, **options: Any) -> None:
    """Every document of a file is read; rows that cannot be are left out, with a reason."""
    path = write(folder, data, suffix)
    read_documents(path, **options)


def read_documents(path: Path, **options: Any) -> bytes:
    """The text of all documents of a file."""
    from eval import open_data

    documents = open_data(str(path), skip_empty=True, on_bad_row="skip", **options)
    parts = [document.raw or b"" for document in islice(documents, MAX_DOCUMENTS)]
    if (first := documents.skipped.first) is not None and NAME not in first:
        raise WrongError(f"the reason why a row is left out: {first[:200]!r}")
    return b"".join(parts)


def read_text(data: bytes, folder: Path, **options: Any) -> None:
    """A text is read byte for byte."""
    if read_documents(write(folder, data, ".txt"), **options) != data:
        raise WrongError("other bytes than those of the file")


def read_tokens(data: bytes, folder: Path, suffix: str, **options: Any) -> None:
    """Token ids are below V."""
    from eval import open_data

    path = write(folder, data, suffix)
    documents = open_data(str(path), vocab_size=VOCAB_SIZE, skip_empty=True, bos=0, **options)
    for document in islice(documents, MAX_DOCUMENTS):
        tokens = document.tokens
        if (
            tokens is not None
            and len(tokens)
            and not 0 <= tokens.min() <= tokens.max() < VOCAB_SIZE
        ):
            raise WrongError("a token id that is none")


def read_side_car(data: bytes, folder: Path) -> None:
    """The bytes of tokens, from a file beside them; a table of all ids or a number a token."""
    tokens = folder / "tokens.bin"
    tokens.write_bytes(bytes((i % 7, 0)[i % 2] for i in range(120)))
    kind = "id" if data[:1] < b"\x80" else "token"
    path = write(folder, data[1:], ".npy" if kind == "id" else ".bin")
    from eval import open_data

    documents = open_data(
        str(tokens), vocab_size=60 if kind == "id" else VOCAB_SIZE, token_dtype="uint16",
        token_bytes=str(path), token_bytes_per=kind, skip_empty=True,
    )  # fmt: skip
    for document in islice(documents, MAX_DOCUMENTS):
        if document.token_bytes is None or (document.token_bytes < 0).any():
            raise WrongError("tokens without bytes")


def read_logits(data: bytes, folder: Path) -> None:
    """Saved logits are a matrix of floats."""
    from eval.data.arrays import open_logits

    if open_logits(write(folder, data, ".npy")).ndim != 2:
        raise WrongError("no matrix")


def read_saved(data: bytes, folder: Path) -> None:
    """A data set of ``save_to_disk``: state.json, dataset_info.json, and its Arrow file."""
    names = ("state.json", "dataset_info.json", "data-00000-of-00001.arrow")
    write_parts(data, folder / NAME, names)
    read_documents(folder / NAME)


def read_card(data: bytes, folder: Path) -> None:
    """The README.md of a folder of data, which may say what its splits are."""
    (folder / NAME).mkdir(exist_ok=True)
    for name in ("train.jsonl", "test.jsonl"):
        (folder / NAME / name).write_bytes(b'{"text": "one"}\n')
    (folder / NAME / "README.md").write_bytes(data)
    from eval import open_data

    list(open_data(str(folder / NAME), split="train"))


def read_split(data: bytes, folder: Path) -> None:
    """The rows that a request names are rows of the splits."""
    from eval.data.splits import choose_rows

    sizes = {"train": 100, "test": 10}
    text = data.decode("utf-8", "surrogateescape")
    for rows in choose_rows([*sizes], text, NAME, sizes.__getitem__):
        if rows.split not in sizes or min(rows.start, rows.stop) < 0:
            raise WrongError(f"rows {rows}")


def table(suffix: str, mutate: Callable[[bytes, random.Random], bytes] | None = None) -> Reader:
    """The reader of a table whose file has this suffix."""
    return Reader(partial(read_data, suffix=suffix), mutate)


READERS = {
    "text": Reader(partial(read_text, format="text")),
    "bytes": Reader(partial(read_text, format="bytes")),
    "any": Reader(partial(read_data, suffix="")),
    "jsonl": table(".jsonl", mutate_rows),
    "json": table(".json", mutate_json),
    "csv": table(".csv"),
    "tsv": table(".tsv"),
    "parquet": table(".parquet"),
    "arrow": table(".arrow"),
    "gzip": table(".jsonl.gz"),
    "zstd": table(".jsonl.zst"),
    "xz": table(".jsonl.xz"),
    "bzip2": table(".jsonl.bz2"),
    "lz4": table(".jsonl.lz4"),
    "npy": Reader(partial(read_tokens, suffix=".npy")),
    "bin": Reader(partial(read_tokens, suffix=".bin")),
    "plain-ids": Reader(partial(read_tokens, suffix=".bin", token_dtype="uint16")),
    "side-car": Reader(read_side_car, named=None),
    "logits": Reader(read_logits),
    "saved-data-set": Reader(
        read_saved, partial(mutate_part, mutators=(mutate_json, mutate_json, mutate_bytes))
    ),
    "data-card": Reader(read_card),
    "split": Reader(read_split),
}
