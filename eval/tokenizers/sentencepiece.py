"""SentencePieceTokenizer: a .model file, with the exact bytes of each of its pieces."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from eval.data.document import Document
from eval.tokenizers.byte_checks import check_raw_bytes, location
from eval.tokenizers.byte_table import ByteTable
from eval.tokenizers.files import name_tokenizer, read_tokenizer_file
from eval.tokenizers.table_tokenizer import TableTokenizer
from eval.types import Tokens

MARK = "\u2581"  # of the blank
# A message of protocol buffers goes on where another is appended: normalizer_spec (field 3) with
# add_dummy_prefix and remove_extra_whitespaces (3 and 4) false.
KEEP_BLANKS = bytes([0x1A, 4, 0x18, 0, 0x20, 0])


class SentencePieceTokenizer(TableTokenizer):
    """A tokenizer of the library ``sentencepiece``.

    Control pieces spell nothing and are boundaries; bytes are one byte; in all others the mark
    U+2581 is a blank, which counts unless it begins the piece after a boundary. Text that the
    model normalises (line ends, doubled blanks, NFKC) is refused: its bytes would be lost.

    Parameters
    ----------
    path : path
        The ``.model`` file. The token before a document is its ``bos_id``.
    bos : int, optional
        Another token before a document.

    Raises
    ------
    ValueError
        If the library or the file is missing, or the file is no model.
    """

    def __init__(self, path: str | Path, *, bos: int | None = None) -> None:
        path = Path(path)
        content = read_tokenizer_file(path)
        self._begins, self._goes_on = load(content, path), load(content + KEEP_BLANKS, path)
        pieces = range(self._begins.vocab_size())
        # decode drops the blank at the beginning unless the model keeps text as it is.
        marked = [i for i in pieces if self._begins.id_to_piece(i).startswith(MARK)]
        drops = bool(marked) and not self._begins.decode(marked[-1:]).startswith(" ")
        self._merges_blanks = 2 * MARK not in self._begins.normalize("a  a")
        self._lacks_blank = self._begins.piece_to_id(MARK) == self._begins.unk_id()
        if bos is None and self._begins.bos_id() >= 0:
            bos = self._begins.bos_id()
        super().__init__(name_tokenizer(path, content), byte_table(self._begins, drops), bos)

    def _ids(self, text: str, begins: bool) -> list[int]:
        ids: list[int] = (self._begins if begins else self._goes_on).encode(text)
        return ids

    def _decode(self, ids: list[int]) -> str:
        text: str = self._begins.decode(ids)
        return text

    def _encode_text(self, document: Document) -> tuple[Tokens, Tokens]:
        raw = document.raw or b""
        if not document.begins and self._merges_blanks and b"  " in raw:
            # As at the beginning of a document, where the model itself would have merged them.
            check_raw_bytes(re.sub(b" +", b" ", raw), document)
        return super()._encode_text(document)

    def _check_decoding(self, tokens: Tokens, document: Document) -> None:
        if self._lacks_blank and MARK.encode() in self._table.decode_bytes(tokens):
            raise ValueError(
                f"tokens must spell a blank as one byte, got U+2581 in three in "
                f"{location(document)}: "
                "the model has no piece for a blank; give the bytes of each token with "
                "--token-bytes"
            )
        super()._check_decoding(tokens, document)


def load(content: bytes, path: Path) -> Any:
    """The library's processor of a model; ValueError if there is no library, or no model."""
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError as error:
        raise ValueError(
            f"{path} needs the library sentencepiece, which is missing; "
            "pip install 'ngrammix[sentencepiece]'"
        ) from error
    try:
        return SentencePieceProcessor(model_proto=content)
    except RuntimeError as error:
        raise ValueError(
            f"tokenizer must be a SentencePiece model, got {path}; is it cut short?"
        ) from error


def byte_table(processor: Any, drops: bool) -> ByteTable:
    """What each piece spells; `drops`: the blank that begins one is none after a boundary."""
    size = processor.vocab_size()
    spelling = [b""] * size
    boundary, unknown, blank = np.zeros((3, size), bool)
    for i in range(size):
        piece = processor.id_to_piece(i)
        unknown[i] = processor.is_unknown(i)
        boundary[i] = unknown[i] or processor.is_control(i) or processor.is_unused(i)
        if processor.is_byte(i):
            spelling[i] = bytes.fromhex(piece[3:5])
        elif not boundary[i]:
            spelling[i] = piece.replace(MARK, " ").encode()
            blank[i] = drops and piece.startswith(MARK)
    return ByteTable(spelling, boundary=boundary, unknown=unknown, blank=blank)
