"""open_data: files, pipes, folders, data sets and token shards as one stream of documents."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from eval.config import AUTO, ERROR, FORMATS
from eval.data.base import Data
from eval.data.checked import CheckedData
from eval.data.concatenated import concatenate
from eval.data.file_data import COLUMN, FileData, refuse_column
from eval.data.folder import open_folder
from eval.data.hf_datasets import open_hub, open_object
from eval.data.repeats import refuse_repeats
from eval.data.saved import is_saved, open_saved
from eval.data.source import STDIN
from eval.data.sources import exists, is_data_set, is_tokens, list_sources, name_of
from eval.data.splits import refuse_split
from eval.data.token_files import TokenFiles

HUB_NAME = re.compile(r"(?P<name>\w[\w.-]*(?:/\w[\w.-]*)?)(?::(?P<config>\w[\w.-]*))?")


class Vocabulary(Protocol):
    """What a data set of token files needs of a tokenizer."""

    bos: int | None

    @property
    def vocab_size(self) -> int:
        """V."""


def open_data(
    data: Any,
    *,
    format: str = AUTO,  # noqa: A002  the name of the option
    column: str | None = None,
    split: str | None = None,
    bos: int | None = None,
    vocab_size: int | None = None,
    token_dtype: str | None = None,
    document_end: int | None = None,
    token_bytes: str | Sequence[str] | None = None,
    token_bytes_per: str | None = None,
    skip_empty: bool = False,
    on_bad_row: str = ERROR,
    download: bool = False,
) -> CheckedData:
    """One stream of documents from all these sources, read in constant memory.

    Parameters
    ----------
    data : name, data set, or a list of them
        A name is the path of a file, of a pipe or of a folder, a pattern such as ``dir/*.jsonl``,
        the name of a data set on the Hub (``org/name`` or ``org/name:config``), or ``-`` for
        standard input. A table has one document per row; any other file is one document of raw
        text. Files compressed by gzip, Zstandard, xz, bzip2 or lz4 are decompressed. Alternatively
        all names are token files: ``.bin`` shards and ``.npy`` arrays.

        A data set is a ``Dataset`` or ``IterableDataset`` of the library ``datasets``, a dictionary
        of them, `Documents`, or the bytes of one text.
    format : str
        What every file is: ``text``, ``bytes`` (a text that is not decompressed), ``jsonl``,
        ``json``, ``csv``, ``tsv``, ``parquet`` or ``arrow``. Default: what its first bytes and its
        name tell.
    column : str, optional
        The column of the text in tables and data sets, ``text`` by default. ``meta.text`` is the
        field ``text`` of the column ``meta``.
    split : str, optional
        The split of a data set with several splits, or rows of it: ``train[:100]``,
        ``train[10%:20%]``, ``train+test``.
    bos : int, optional
        The token that begins a document in token files.
    vocab_size : int, optional
        V. Token ids must be below it.
    token_dtype : str, optional
        Dtype of token files without a header, such as ``uint16``; all paths are then token files.
    document_end : int, optional
        The token that ends a document in token files; it is scored.
    token_bytes : str or sequence of str, optional
        A side-car file for each token file: the number of raw bytes of each token, 0 for `bos`.
        Or one file with the number of raw bytes of each of the V ids.
    token_bytes_per : str, optional
        ``token`` or ``id``: which of the two `token_bytes` is. Default: by its length.
    skip_empty : bool
        Skip empty documents. Otherwise an empty document is an error.
    on_bad_row : str
        ``skip``: leave out and count the rows of tables that cannot be read, and the texts that the
        tokenizer cannot encode. ``error``: raise.
    download : bool
        Allow data sets to be read from the Hub.

    Raises
    ------
    ValueError
        If a path does not exist or is named twice, a file is in the wrong format, or the options do
        not fit. Errors within the data are raised while iterating, with the file and the row.
    """
    if format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {format!r}; correct it")
    sources = list_sources(data)
    paths = [source for source in sources if isinstance(source, str)]
    refuse_repeats(paths)
    if has_tokens(sources, format, token_dtype):
        if len(paths) < len(sources) or not (token_dtype or all(map(is_tokens, paths))):
            raise ValueError(
                "data must be all text or all tokens, got both in "
                f"{', '.join(map(name_of, sources))}; score them in separate runs"
            )
        refuse_split(split, paths[0])
        refuse_column([], column, paths[0])
        sidecars = [token_bytes] if isinstance(token_bytes, str) else list(token_bytes or ())
        tokens = TokenFiles(
            paths,
            bos=bos,
            vocab_size=vocab_size,
            token_dtype=token_dtype,
            document_end=document_end,
            token_bytes=sidecars,
            token_bytes_per=token_bytes_per,
        )
        return CheckedData(tokens, skip_empty=skip_empty, on_bad_row=on_bad_row)
    for name, value in (("token_bytes", token_bytes), ("document_end", document_end)):
        if value is not None:
            raise ValueError(
                f"{name} goes with token files, got it with {name_of(sources[0])}; leave it out"
            )
    parts = [open_source(source, format, column, split, download=download) for source in sources]
    formats = [part.format for part in parts if isinstance(part, FileData)]
    if len(formats) == len(parts) and None not in formats:
        refuse_column([str(one) for one in formats], column, ", ".join(paths))
    return CheckedData(concatenate(parts), skip_empty=skip_empty, on_bad_row=on_bad_row)


def has_tokens(sources: Sequence[Any], format_: str = AUTO, token_dtype: str | None = None) -> bool:
    """Whether some of the sources are token files, by their names or because a dtype is given."""
    is_named = any(isinstance(source, str) and is_tokens(source) for source in sources)
    return token_dtype is not None or (format_ == AUTO and is_named)


def as_data(data: Any, tokens: Vocabulary) -> Data:
    """The data itself if it is a `Data`, else what `open_data` makes of it."""
    if isinstance(data, Data):
        return data
    return open_data(data, bos=tokens.bos, vocab_size=tokens.vocab_size)


def refuse_missing(source: str, *, download: bool) -> None:
    """Raise ValueError if no file of this path exists, and it is not to be downloaded."""
    if source == STDIN or exists(source) or (download and HUB_NAME.fullmatch(source)):
        return
    shown = source if len(source) <= 200 else f"{source[:200]}..."
    raise ValueError(
        f"data must be a file or a folder, got {shown}, which is missing; check the path, or "
        "pass --download if it is a data set of the Hugging Face Hub"
    )


def open_source(
    source: Any, option: str, column: str | None, split: str | None, *, download: bool
) -> Data:
    """The data set of one source; ValueError if it does not exist."""
    name = COLUMN if column is None else column
    if is_data_set(source):
        return open_object(source, name, split)
    if not isinstance(source, str):
        refuse_split(split, source.name)
        refuse_column([], column, source.name)
        opened: Data = source
        return opened
    if source != STDIN and exists(source) and Path(source).is_dir():
        if is_saved(Path(source)):
            return open_saved(source, name, split)
        return open_folder(source, column, split, option)
    refuse_missing(source, download=download)
    if source != STDIN and not exists(source) and (named := HUB_NAME.fullmatch(source)):
        return open_hub(named["name"], named["config"], name, split)
    refuse_split(split, "standard input" if source == STDIN else source)
    return FileData(source, column, option)
