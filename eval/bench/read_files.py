"""Files of one text in every format, and the tokenizers that ``bench read`` compares."""

import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eval.data.cuts import pieces
from eval.data.open_data import open_data
from eval.data.token_formats import HEADER, SHARDS
from eval.models.load_model import load_demo
from eval.scoring.tokenized import encode
from eval.tokenizers.base import Tokenizer
from eval.tokenizers.byte_tokenizer import ByteTokenizer
from eval.tokenizers.load_tokenizer import find_file, load_tokenizer

ROW = 1 << 12  # bytes of a row of a table: about a web page
READERS = {".txt": "text", ".jsonl": "json", ".jsonl.zst": "json", ".parquet": "parquet"}
SHARD = ".bin"
SHARD_IDS = 1 << 16  # a shard's tokens are uint16


@dataclass(frozen=True)
class TimedTokenizer:
    """A tokenizer of the workbench, and its library.

    Attributes
    ----------
    name : str
        In the table.
    tokenizer : Tokenizer
        Returns ids and the bytes of each, and checks that no byte is lost.
    alone : callable
        The library: from a list of texts to the ids of each.
    """

    name: str
    tokenizer: Tokenizer
    alone: Callable[[list[str]], Sequence[Any]]


def load_timed_tokenizers(paths: Iterable[str]) -> list[TimedTokenizer]:
    """Raw bytes, the tokenizer of the demo, and those of the paths; ValueError if invalid."""
    from eval.demo.model import TOKENIZER_PATH

    return [
        TimedTokenizer("bytes", ByteTokenizer(256), bytes_alone),
        TimedTokenizer("demo", load_demo().tokenizer, library_of(TOKENIZER_PATH)),
        *(load_timed_tokenizer(path) for path in paths),
    ]


def load_timed_tokenizer(path: str) -> TimedTokenizer:
    """The tokenizer of a file or folder."""
    tokenizer = load_tokenizer(path)
    alone = bytes_alone if path == "bytes" else library_of(find_file(Path(path)))
    return TimedTokenizer(tokenizer.name, tokenizer, alone)


def bytes_alone(texts: list[str]) -> list[Any]:
    """The bytes of each text."""
    return [np.frombuffer(text.encode(), np.uint8) for text in texts]


def library_of(path: Path) -> Callable[[list[str]], Sequence[Any]]:
    """Function from texts to ids: the library that reads this tokenizer file, in one thread."""
    if path.suffix == ".model":
        from sentencepiece import SentencePieceProcessor

        processor = SentencePieceProcessor(model_file=str(path))
        return lambda texts: processor.encode(texts, num_threads=1)
    from tokenizers import Tokenizer as HubTokenizer

    library = HubTokenizer.from_file(str(path))
    return lambda texts: [
        one.ids for one in library.encode_batch_fast(texts, add_special_tokens=False)
    ]


def write_texts(raw: bytes, folder: Path) -> dict[str, Path]:
    """The text as a file of each format; tables have it in rows."""
    import pyarrow
    import zstandard
    from pyarrow import parquet

    rows = [piece.decode() for piece in pieces([raw], ROW)]
    lines = "".join(json.dumps({"text": row}) + "\n" for row in rows).encode()
    files = {suffix: folder / f"text{suffix}" for suffix in READERS}
    files[".txt"].write_bytes(raw)
    files[".jsonl"].write_bytes(lines)
    files[".jsonl.zst"].write_bytes(zstandard.ZstdCompressor().compress(lines))
    parquet.write_table(pyarrow.table({"text": rows}), files[".parquet"])
    return files


def write_shard(rows: Path, tokenizer: Tokenizer, folder: Path) -> dict[str, Path]:
    """A token shard of the rows of a table; none if the tokenizer does not fit the format.

    Ids must be below 65,536, and a document must begin with a token. ValueError if the tokens do
    not decode to the rows.
    """
    parts: list[Any] = []
    for piece in encode(open_data([str(rows)]), tokenizer):
        parts += [[tokenizer.bos], piece.tokens] if piece.is_context_start else [piece.tokens]
    if tokenizer.bos is None or tokenizer.vocab_size > SHARD_IDS:
        return {}
    tokens = np.concatenate(parts).astype("<u2")
    header = np.zeros(HEADER, "<i4")
    header[:3] = 20240520, SHARDS[20240520][0], len(tokens)
    path = folder / f"text{SHARD}"
    path.write_bytes(header.tobytes() + tokens.tobytes())
    return {SHARD: path}


def files_for(
    timed: TimedTokenizer, texts: dict[str, Path], folder: Path
) -> tuple[dict[str, Path], str | None]:
    """(files that the tokenizer encodes without loss, why it cannot encode the rows of tables).

    Some models drop the space at the start or end of a row, but encode the whole text without loss.
    """
    try:
        return texts | write_shard(texts[".jsonl"], timed.tokenizer, folder), None
    except ValueError as error:
        return {".txt": texts[".txt"]}, str(error).replace(f"{folder}{os.sep}", "")
