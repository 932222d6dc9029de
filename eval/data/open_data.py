"""open_data: files, pipes, tables, data sets and token shards as one stream of documents."""

import re
from collections.abc import Sequence
from pathlib import Path

from eval.data.base import Data
from eval.data.concatenated import ConcatenatedData
from eval.data.hf_datasets import open_folder, open_streaming, refuse_split
from eval.data.jsonl import SUFFIXES, JsonLines
from eval.data.parquet import ParquetFile
from eval.data.text import TextFile
from eval.data.token_files import TokenFiles

TOKENS = (".bin", ".npy")
HUB_NAME = re.compile(r"(?P<name>\w[\w.-]*(?:/\w[\w.-]*)?)(?::(?P<config>\w[\w.-]*))?")


def open_data(
    paths: Sequence[str],
    *,
    column: str = "text",
    split: str | None = None,
    bos: int | None = None,
    vocab_size: int | None = None,
    token_bytes: str | Sequence[str] | None = None,
    skip_empty: bool = False,
    download: bool = False,
) -> Data:
    """One stream of documents from all these sources, read in constant memory.

    Parameters
    ----------
    paths : sequence of str
        Each is a table with one document per row (``.jsonl``, ``.jsonl.gz``, ``.jsonl.zst``,
        ``.parquet``), a folder with a Hugging Face data set, the name of a data set on the Hub
        (``org/name`` or ``org/name:config``), or any other file or ``-`` for standard input, which
        is one document of raw text. Alternatively all paths are token files: ``.bin`` shards and
        ``.npy`` arrays.
    column : str
        The column of the text in tables and data sets.
    split : str, optional
        The split of a data set with several splits.
    bos : int, optional
        The token that begins a document in token files.
    vocab_size : int, optional
        V. Token ids must be below it.
    token_bytes : str or sequence of str, optional
        A side-car file for each token file: the number of raw bytes of each token, 0 for `bos`.
    skip_empty : bool
        Skip empty documents. Otherwise an empty document is an error.
    download : bool
        Allow data sets to be read from the Hub.

    Raises
    ------
    ValueError
        If a path does not exist, a file is in the wrong format, or the options do not fit. Errors
        within the data are raised while iterating, with the file and the row.
    """
    if not paths:
        raise ValueError("data must be at least one name, got none; name a file")
    if all(map(is_tokens, paths)):
        sidecars = [token_bytes] if isinstance(token_bytes, str) else list(token_bytes or ())
        tokens = TokenFiles(paths, bos=bos, vocab_size=vocab_size, token_bytes=sidecars)
        return ConcatenatedData([tokens], skip_empty=skip_empty)
    if any(map(is_tokens, paths)):
        raise ValueError(
            "data must be all text or all tokens, got both in "
            f"{', '.join(paths)}; score them in separate runs"
        )
    if token_bytes is not None:
        raise ValueError(
            f"token bytes go with token files, got them with {paths[0]}; leave them out"
        )
    parts = [open_text(path, column, split, download=download) for path in paths]
    return ConcatenatedData(parts, skip_empty=skip_empty)


def is_tokens(path: str) -> bool:
    """Whether the path is that of a token file."""
    return path.endswith(TOKENS)


def open_text(path: str, column: str, split: str | None, *, download: bool) -> Data:
    """The data set of one path; ValueError if it does not exist."""
    if path == "-":
        return TextFile(path)
    if Path(path).is_dir():
        return open_folder(path, column, split)
    if not Path(path).exists():
        named = HUB_NAME.fullmatch(path)
        if download and named:
            return open_streaming(named["name"], named["config"], column, split)
        raise ValueError(
            f"data must be a file or a folder, got {path}, which is missing; check the path, or "
            "pass --download if it is a data set of the Hugging Face Hub"
        )
    refuse_split(split, path)
    if Path(path).is_file():
        with Path(path).open("rb"):  # a file without permission fails here, not during the run
            pass
    if path.endswith(SUFFIXES):
        return JsonLines(path, column)
    if path.endswith(".parquet"):
        return ParquetFile(path, column)
    return TextFile(path)
