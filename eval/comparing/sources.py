"""Sources of logits and their tokens: a model that reads text, or saved arrays."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from eval.config import ScoreConfig
from eval.data.arrays import open_logits, refuse_shrunk
from eval.data.data_hash import tokens_sha256
from eval.data.open_data import as_data
from eval.data.token_formats import read_tokens
from eval.models.base import Model
from eval.models.tensors import little_endian
from eval.scoring.batch import Batch
from eval.scoring.checked import checked
from eval.scoring.conditions import run_conditions
from eval.scoring.dataloader import BatchStream
from eval.scoring.forward import scored_blocks
from eval.scoring.windows import make_window_shape
from eval.tokenizers.choose import choose_tokenizer
from eval.types import Floats, Tokens
from ngrammix.auditing.environment import versions
from ngrammix.logits import check_no_probabilities

BLOCK_LOGITS = 1 << 23  # logits of a file in memory at a time: 64 MB as float64


class LogitRows(NamedTuple):
    """Logits (N, V), array or tensor, their targets (N,) int64, and whether a document begins.

    Contexts of the cache do not extend over the beginning of a document.
    """

    logits: Any
    targets: Tokens
    begins_document: bool


class Source(Protocol):
    """Logits of T tokens in stream order."""

    @property
    def vocab_size(self) -> int:
        """V."""

    @property
    def document(self) -> Tokens:
        """(T,) int64: index of each token's document, ascending from 0."""

    @property
    def token_bytes(self) -> Floats | None:
        """(T,) float64: bytes of the raw text that each token stands for; None if unknown."""

    @property
    def prefill(self) -> Sequence[Tokens]:
        """Tokens that every cache learns before the first score."""

    def rows(self) -> Iterator[LogitRows]:
        """All logits, in stream order."""

    def conditions(self) -> dict[str, Any]:
        """Data and model for the signature; complete after all rows were read."""


class TextSource:
    """Logits of a model that reads documents window by window.

    Parameters
    ----------
    data : Data, or what `open_data` takes
        Documents; all of them are tokenized at once.
    model : Model
        Reads windows of its context length.
    config : ScoreConfig, optional
        Its `windows`, `context`, `stride` and `limit` choose the windows.
    tokenizer : Tokenizer, path or object, optional
        See `load_tokenizer`. Default: the model's own.

    Raises
    ------
    ValueError
        If a document cannot be decoded byte for byte, or the windows do not fit the model.
    """

    prefill: Sequence[Tokens] = ()

    def __init__(
        self,
        data: Any,
        model: Model,
        config: ScoreConfig | None = None,
        tokenizer: Any = None,
    ) -> None:
        self._config = config = ScoreConfig() if config is None else config
        self._tokenizer = tokenizer = choose_tokenizer(model, tokenizer, config.bos)
        self._shape = make_window_shape(config, model, tokenizer)
        self._data, self._model = as_data(data, tokenizer), model
        self._feed = BatchStream(self._data, tokenizer, config, self._shape)
        self.vocab_size = model.vocab_size
        self._pieces = list(self._feed.pieces())
        begins = np.concatenate([piece.begins for piece in self._pieces])
        self.document: Tokens = np.cumsum(begins) - 1
        n_bytes = np.concatenate([piece.n_bytes for piece in self._pieces])
        self.token_bytes: Floats = n_bytes.astype(np.float64)

    def rows(self) -> Iterator[LogitRows]:
        """All logits, one window at a time; those of a batch are computed together.

        ValueError if the model sees the future.
        """
        n_rows = 0
        batches = self._feed.batches(self._pieces)
        for batch in checked(batches, self._model, self._tokenizer, self._config, self._shape):
            for rows in window_rows(self._model, batch):
                if not self._config.allow_probabilities:
                    positions = n_rows + np.arange(len(rows.targets))
                    check_no_probabilities(rows.logits, positions)
                n_rows += len(rows.targets)
                yield rows
                del rows  # free its logits before the next are computed

    def conditions(self) -> dict[str, Any]:
        """Those of a score, without a mixer; and the hash of the documents."""
        read = self._model, self._tokenizer, self._data, self._config, self._shape
        conditions = run_conditions(*read) | {
            "data_sha256": self._feed.sha256,
            "rows_skipped": self._feed.skipped.count,
        }
        del conditions["mixer"]  # those of the comparison are compared
        return conditions


class SavedSource:
    """Logits of some model in a file, and the tokens that they predict.

    For the cache the tokens are one stream, without document boundaries. The file of logits is
    memory-mapped and read once, block by block.

    Parameters
    ----------
    logits : path
        ``.npy`` (T, V) float16, float32 or float64, unnormalised: row t predicts token t.
    tokens : path
        ``.npy`` (T,) of integers, or a Parameter Golf shard ``.bin``.
    n_bytes : int >= 1, optional
        Raw bytes of all tokens. Every token counts as the same share of them.
    bos : int, optional
        The token that begins a document; used for the standard errors only.
    prefill : paths
        Files of tokens that every cache learns before the first score.
    allow_probabilities : bool
        Take rows that are >= 0 and sum to 1 for logits.

    Raises
    ------
    ValueError
        If a file has the wrong format, or the arguments do not fit each other.
    """

    def __init__(
        self,
        logits: str | Path,
        tokens: str | Path,
        *,
        n_bytes: int | None = None,
        bos: int | None = None,
        prefill: Sequence[str | Path] = (),
        allow_probabilities: bool = False,
    ) -> None:
        self._logits = open_logits(logits)
        self._allow_probabilities = allow_probabilities
        n_rows, self.vocab_size = self._logits.shape
        self._targets = read_tokens(tokens, self.vocab_size)
        if len(self._targets) != n_rows:
            raise ValueError(
                f"tokens must be as many as the rows of logits, got {len(self._targets)} in "
                f"{tokens} for {n_rows} in {logits}; row t holds the logits of token t"
            )
        if n_bytes is not None and n_bytes < 1:
            raise ValueError(f"bytes must be >= 1, got {n_bytes}; it is the size of the raw text")
        self.token_bytes = None if n_bytes is None else np.full(n_rows, n_bytes / n_rows)
        self.document = document_index(self._targets, bos)
        self.prefill = [read_tokens(path, self.vocab_size) for path in prefill]
        self._names, self._bos = f"{logits}, {tokens}", bos
        self._digest = hashlib.sha256()

    def rows(self) -> Iterator[LogitRows]:
        """All logits, a block of rows at a time."""
        self._digest = hashlib.sha256()
        step = max(1, BLOCK_LOGITS // self.vocab_size)
        for start in range(0, len(self._targets), step):
            refuse_shrunk(self._logits)
            logits = np.ascontiguousarray(self._logits[start : start + step])
            self._digest.update(little_endian(logits).data)
            if not self._allow_probabilities:
                check_no_probabilities(logits, start + np.arange(len(logits)))
            yield LogitRows(logits, self._targets[start : start + step], begins_document=False)

    def conditions(self) -> dict[str, Any]:
        """Names of the files; hashes of tokens and logits."""
        return {
            "data": self._names,
            "data_sha256": tokens_sha256(self._targets),
            "model": f"logits-{self._digest.hexdigest()[:8]}",
            "bos": self._bos,
            "allow_probabilities": self._allow_probabilities,
            "versions": versions(),
        }


def window_rows(model: Model, batch: Batch) -> Iterator[LogitRows]:
    """The logits of each window of a batch; freed when the iteration ends."""
    pieces = iter(batch.pieces)
    for logits in scored_blocks(model, batch.inputs, batch.is_scored):
        start = 0
        while start < len(logits):
            piece = next(pieces)
            stop = start + len(piece.tokens)
            yield LogitRows(logits[start:stop], piece.tokens, piece.is_context_start)
            start = stop


def document_index(tokens: Tokens, bos: int | None) -> Tokens:
    """(T,) int64: index of each token's document; each `bos` begins one, None: one document.

    Tokens before the first `bos` are a document of their own. ValueError if `bos` does not occur.
    """
    if bos is None:
        return np.zeros(len(tokens), np.int64)
    begins = tokens == bos
    if not begins.any():
        raise ValueError(
            f"bos must be a token that begins documents, got {bos}, which does not occur; "
            "leave it out"
        )
    document: Tokens = np.cumsum(begins) - begins[0]
    return document
