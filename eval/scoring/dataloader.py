"""BatchStream: the batches of a data set, made a few documents at a time."""

from collections.abc import Iterable, Iterator

from eval.config import ScoreConfig
from eval.data.base import Data
from eval.data.checked import CheckedData, Skipped
from eval.data.data_hash import DataHash
from eval.data.document import Document
from eval.scoring.batch import Batch, batches
from eval.scoring.encodable import encodable
from eval.scoring.tokenized import (
    ContextOnly,
    TokenizedPiece,
    encode,
    first_tokens,
    join_documents,
)
from eval.scoring.windows import WindowShape, cut, windows
from eval.tokenizers.base import Tokenizer


class BatchStream:
    """Batches of a data set in stream order; every iteration gives the same ones.

    Parameters
    ----------
    data : Data
        Documents.
    tokenizer : Tokenizer
        Encodes the documents.
    config : ScoreConfig
        Its `windows` and `limit` choose the tokens.
    shape : WindowShape
        Sizes of windows and batches, and the BOS.

    Attributes
    ----------
    context_only : ContextOnly
        Counts the tokens of the last iteration that are not scored, because no BOS stands before
        them.
    """

    def __init__(
        self, data: Data, tokenizer: Tokenizer, config: ScoreConfig, shape: WindowShape
    ) -> None:
        self._data, self._tokenizer = data, tokenizer
        self._config, self._shape = config, shape
        self._hash = DataHash()
        self.context_only = ContextOnly()

    @property
    def sha256(self) -> str:
        """Hash of the documents that the last iteration has read."""
        return self._hash.hexdigest()

    @property
    def skipped(self) -> Skipped:
        """The bad rows that the last iteration has left out."""
        return self._data.skipped if isinstance(self._data, CheckedData) else Skipped()

    def pieces(self) -> Iterator[TokenizedPiece]:
        """The tokens of the data set, read from the beginning."""
        self._hash, self.context_only = DataHash(), ContextOnly()
        pieces = encode(self._documents(), self._tokenizer, token_check=self._config.token_check)
        if self._config.windows == "stream":
            pieces = join_documents(pieces, self._shape.bos)
        pieces = self.context_only.remove(pieces, has_bos=self._shape.bos is not None)
        return pieces if self._config.limit is None else first_tokens(pieces, self._config.limit)

    def batches(self, pieces: Iterable[TokenizedPiece]) -> Iterator[Batch]:
        """Batches of the windows over `pieces`."""
        shape = self._shape
        cover = windows(pieces, shape.context, shape.stride, shape.bos)
        if shape.keeps_rows and shape.max_rows is not None:
            cover = cut(cover, shape.max_rows)
        return batches(cover, shape.batch_size, shape.max_rows, keeps_rows=shape.keeps_rows)

    def __iter__(self) -> Iterator[Batch]:
        return self.batches(self.pieces())

    def fraction_of(self, batch: Batch) -> float | None:
        """Share of the data up to the last target of a batch; None if the size is unknown."""
        return None if not self._data.size else batch.pieces[-1].offset / self._data.size

    def _documents(self) -> Iterator[Document]:
        for document in encodable(self._data, self._tokenizer):
            self._hash.update(document)
            yield document
