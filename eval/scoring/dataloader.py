"""BatchStream: from documents to the batches that go through the model, a few at a time."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from eval.config import ScoreConfig
from eval.data.base import Data
from eval.data.data_hash import DataHash
from eval.data.document import Document
from eval.models.base import Model
from eval.scoring.batch import Batch, batches
from eval.scoring.tokenized import TokenizedPiece, encode, first_tokens, joined
from eval.scoring.windows import check_stride, windows
from eval.tokenizers.base import Tokenizer

BLOCK = 1 << 16  # tokens of a "window" of the cache alone, which needs none


@dataclass(frozen=True)
class Shape:
    """How windows lie: context and stride in tokens, what stands before, how many at once."""

    context: int
    stride: int
    bos: int
    batch: int
    room: int | None = None


def make_shape(config: ScoreConfig, model: Model | None, tokenizer: Tokenizer) -> Shape:
    """The shape of the windows.

    Raises
    ------
    ValueError
        If context or stride is more than the model allows, the tokenizer has ids that the model
        has not, or no token to stand at a beginning.
    """
    if model is None:
        return Shape(BLOCK, BLOCK, 0, BLOCK, BLOCK)
    if tokenizer.vocab_size > model.vocab_size:
        raise ValueError(
            f"tokenizer must have at most the {model.vocab_size} tokens of {model.name}, got "
            f"{tokenizer.vocab_size} in {tokenizer.name}; is it another model's?"
        )
    context = model.context if config.context is None else config.context
    if context > model.context:
        raise ValueError(
            f"context must be at most the {model.context} tokens that {model.name} reads, got "
            f"{context}; leave it out for all of them"
        )
    stride = max(1, context // 2) if config.stride is None else config.stride
    if tokenizer.bos is None:
        raise ValueError(
            f"a document must begin with a token that is not scored, but {tokenizer.name} names "
            "none; give its id with --bos"
        )
    return Shape(context, check_stride(stride, context), tokenizer.bos, config.batch)


class BatchStream:
    """Batches of a data set in stream order; the same ones at every pass.

    Parameters
    ----------
    data : Data
        Documents.
    tokenizer : Tokenizer
        Spells them.
    config : ScoreConfig
        Says whether documents stand alone, and where to stop.
    shape : Shape
        Of the windows.
    """

    def __init__(self, data: Data, tokenizer: Tokenizer, config: ScoreConfig, shape: Shape) -> None:
        self._data, self._tokenizer = data, tokenizer
        self._config, self._shape = config, shape
        self._hash = DataHash()

    @property
    def sha256(self) -> str:
        """Hash of the documents that were read."""
        return self._hash.hexdigest()

    def pieces(self) -> Iterator[TokenizedPiece]:
        """The data in tokens, read anew."""
        self._hash = DataHash()
        pieces = encode(self._documents(), self._tokenizer)
        if self._config.windows == "stream":
            pieces = joined(pieces, self._shape.bos)
        return pieces if self._config.limit is None else first_tokens(pieces, self._config.limit)

    def batches(self, pieces: Iterable[TokenizedPiece]) -> Iterator[Batch]:
        """What goes through the model together."""
        shape = self._shape
        cover = windows(pieces, shape.context, shape.stride, shape.bos)
        return batches(cover, shape.batch, shape.room)

    def __iter__(self) -> Iterator[Batch]:
        return self.batches(self.pieces())

    def fraction(self, batch: Batch) -> float | None:
        """How much of the data was read when the batch was full, or None if nobody knows."""
        return None if not self._data.size else batch.new[-1].offset / self._data.size

    def _documents(self) -> Iterator[Document]:
        for document in self._data:
            self._hash.update(document)
            yield document
