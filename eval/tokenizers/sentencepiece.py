"""SentencePieceTokenizer: a .model file, with the exact bytes of every token."""

import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from eval.data.document import Document
from eval.tokenizers.byte_checks import MARK, check_raw_bytes, location
from eval.tokenizers.byte_table import ByteTable
from eval.tokenizers.files import name_tokenizer, read_tokenizer_file
from eval.tokenizers.library_calls import tokenizer_call
from eval.tokenizers.table_tokenizer import TableTokenizer
from eval.types import Tokens

# Appended to a protocol buffer, this message overrides its normalizer_spec (field 3):
# add_dummy_prefix and remove_extra_whitespaces (3 and 4) become false.
CHECK = "check that it is complete"
KEEP_SPACES = bytes([0x1A, 4, 0x18, 0, 0x20, 0])


class SentencePieceTokenizer(TableTokenizer):
    """A tokenizer of the library ``sentencepiece``.

    Control tokens have no bytes and are boundaries; byte tokens have one byte; in all others the
    mark U+2581 is a space, which is part of the text except at the start of the token after a
    boundary. Text that the model would normalize (line ends, repeated spaces, NFKC) is refused,
    because its bytes would be lost.

    Parameters
    ----------
    source : path or SentencePieceProcessor
        The ``.model`` file, or a loaded processor.
    bos : int, optional
        Token before each document. Default: the ``bos_id`` of the file.

    Raises
    ------
    ValueError
        If the library or the file is missing, or the file is not a model.
    """

    def __init__(self, source: Any, *, bos: int | None = None) -> None:
        if isinstance(source, str | Path):
            path, content = Path(source), read_tokenizer_file(Path(source))
        else:
            path, content = Path("sentencepiece.model"), source.serialized_model_proto()
        make = find_processor(path)
        with tokenizer_call(f"tokenizer must be a SentencePiece model, got {path}", CHECK):
            self._first = make(model_proto=content)
            self._later = make(model_proto=content + KEEP_SPACES)
            pieces = [self._first.id_to_piece(i) for i in range(self._first.vocab_size())]
            # decode drops a leading space, unless the model does not normalize.
            marked = [i for i, piece in enumerate(pieces) if piece.startswith(MARK)]
            drops = bool(marked) and not self._first.decode(marked[-1:]).startswith(" ")
            self._merges_spaces = 2 * MARK not in self._first.normalize("a  a")
            self._lacks_space = self._first.piece_to_id(MARK) == self._first.unk_id()
            if bos is None and self._first.bos_id() >= 0:
                bos = self._first.bos_id()
        table = byte_table(self._first, pieces, drops, path)
        super().__init__(name_tokenizer(path, content), table, bos)

    def token_id(self, token: str) -> int | None:
        """Id of a piece as written in the vocabulary, or None."""
        with self._call():
            i: int = self._first.piece_to_id(token)
            return i if self._first.id_to_piece(i) == token else None

    def piece(self, i: int) -> str | None:
        """A token as written in the vocabulary."""
        with self._call():
            piece: str = self._first.id_to_piece(i)
            return piece

    def ids(self, text: str, begins: bool) -> list[int]:
        """Ids of a text as the library encodes it, without any check."""
        with self._call():
            # A later piece is encoded without normalization; spaces would be merged, though.
            is_first = begins or (self._merges_spaces and "  " in text)
            ids: list[int] = (self._first if is_first else self._later).encode(text)
            return ids

    def decode(self, ids: list[int]) -> str:
        """The text of ids as the library decodes it."""
        with self._call():
            text: str = self._first.decode(ids)
            return text

    def _call(self) -> AbstractContextManager[None]:
        return tokenizer_call(f"a text must be encoded, got an error of {self.name}", CHECK)

    def _encode_text(self, document: Document) -> tuple[Tokens, Tokens]:
        raw = document.raw or b""
        if not document.begins and self._merges_spaces and b"  " in raw:
            # A later piece is encoded without normalization; the first one merges spaces.
            check_raw_bytes(re.sub(b" +", b" ", raw), document)
        return super()._encode_text(document)

    def _check_decoding(self, tokens: Tokens, document: Document) -> None:
        if self._lacks_space and MARK.encode() in self.table.decode_bytes(tokens):
            raise ValueError(
                f"a space must be one byte, got U+2581 of three bytes in {location(document)}: the "
                "model has no token for a space; give the bytes of each token with --token-bytes"
            )
        super()._check_decoding(tokens, document)


def find_processor(path: Path) -> Any:
    """The class of the library that reads the file; ValueError if the library is missing."""
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError as error:
        raise ValueError(
            f"{path} needs the library sentencepiece, which is missing; "
            "pip install 'ngrammix[sentencepiece]'"
        ) from error
    return SentencePieceProcessor


def byte_table(processor: Any, pieces: list[str], drops: bool, path: Path) -> ByteTable:
    """The bytes of each token; `drops`: a leading space after a boundary is not text."""
    size = len(pieces)
    token_bytes = [b""] * size
    boundary, unknown, space = np.zeros((3, size), bool)
    for i, piece in enumerate(pieces):
        unknown[i] = processor.is_unknown(i)
        boundary[i] = unknown[i] or processor.is_control(i) or processor.is_unused(i)
        if processor.is_byte(i):
            token_bytes[i] = byte_of(piece, path)
        elif not boundary[i]:
            token_bytes[i] = piece.replace(MARK, " ").encode()
            space[i] = drops and piece.startswith(MARK)
    return ByteTable(
        token_bytes, boundary=boundary, unknown=unknown, space=space, added=boundary.copy()
    )


def byte_of(piece: str, path: Path) -> bytes:
    """The byte of a piece such as ``<0x0A>``; ValueError for another one."""
    if not re.fullmatch("<0x[0-9A-F]{2}>", piece):
        raise ValueError(
            f"a piece for a byte must be <0x00> to <0xFF>, got {piece[:40]!r} in {path}; {CHECK}"
        )
    return bytes.fromhex(piece[3:5])
