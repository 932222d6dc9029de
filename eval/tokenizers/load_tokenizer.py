"""What turns documents into tokens whose bytes are known, and which kinds there are."""

import json
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from eval.data.document import Document
from eval.tokenizers.base import check_side_car
from eval.tokenizers.byte_checks import location
from eval.tokenizers.huggingface import FastTokenizer
from eval.tokenizers.sentencepiece import SentencePieceTokenizer
from ngrammix.checks import as_tokens

MAX_CONFIG = 1 << 24  # bytes

Tokens = NDArray[np.int64]


class Tokenizer(Protocol):
    """What the workbench asks of a tokenizer."""

    @property
    def name(self) -> str:
        """Name for the signature, with a hash of its file."""

    @property
    def vocab_size(self) -> int:
        """One more than the highest id."""

    bos: int | None  # token that stands before a document; None where nothing does

    def encode(self, document: Document) -> tuple[Tokens, Tokens]:
        """(tokens, bytes of each token), both (T,) int64, of a document or its next piece.

        Raw text is encoded without special tokens; of a document of tokens the bytes are counted,
        or taken from it. ValueError if they cannot be accounted for exactly.
        """

    def decode_bytes(self, tokens: Tokens) -> bytes:
        """What these ids (T,) spell inside a text; those that mark something spell nothing."""


class ByteTokenizer:
    """Each byte is the token of its value; any bytes can be spelled.

    Parameters
    ----------
    bos : int >= 0, optional
        Token that stands before a document: 256, say, or one of the bytes.
    """

    name = "bytes"

    def __init__(self, bos: int | None = None) -> None:
        if bos is not None and bos < 0:
            raise ValueError(f"bos must be >= 0, got {bos}; 256 is the first that is no byte")
        self.bos = bos
        self.vocab_size = 256 if bos is None else max(256, bos + 1)

    def encode(self, document: Document) -> tuple[Tokens, Tokens]:
        """(tokens, ones), both (T,) int64; a token that is no byte spells nothing."""
        if document.tokens is None:
            tokens = np.frombuffer(document.raw or b"", np.uint8).astype(np.int64)
            return tokens, np.ones_like(tokens)
        tokens = as_tokens(document.tokens, self.vocab_size, f"tokens of {location(document)}")
        if document.token_bytes is not None:
            return tokens, check_side_car(document)
        return tokens, (tokens < 256).astype(np.int64)

    def decode_bytes(self, tokens: Tokens) -> bytes:
        """The bytes of tokens (T,)."""
        return tokens[tokens < 256].astype(np.uint8).tobytes()


class SideCarTokenizer:
    """No tokenizer: only documents of tokens, and the data say how many bytes each one has.

    Parameters
    ----------
    vocab_size : int
        V.
    bos : int, optional
        Token that stands before a document.
    """

    name = "none"

    def __init__(self, vocab_size: int, bos: int | None = None) -> None:
        self.vocab_size, self.bos = vocab_size, bos

    def encode(self, document: Document) -> tuple[Tokens, Tokens]:
        """(tokens, bytes of each token), both (T,) int64; ValueError if the data lack either."""
        if document.tokens is None:
            raise ValueError(
                f"text needs a tokenizer, got none for {location(document)}; "
                "name one with --tokenizer"
            )
        tokens = as_tokens(document.tokens, self.vocab_size, f"tokens of {location(document)}")
        if document.token_bytes is None:
            raise ValueError(
                f"the bytes of tokens must be known, got none for {location(document)}; "
                "name the tokenizer with --tokenizer, or the bytes of each token with --token-bytes"
            )
        return tokens, check_side_car(document)

    def decode_bytes(self, tokens: Tokens) -> bytes:
        """Nothing: nobody knows."""
        return b""


def load_tokenizer(
    path: str | Path, *, vocab_size: int | None = None, bos: int | None = None
) -> Tokenizer:
    """The tokenizer of a file or folder, or of ``bytes``.

    Parameters
    ----------
    path : str or path
        ``bytes``; a SentencePiece ``.model``; a Hugging Face ``.json``; or a folder with
        ``tokenizer.json``, or else ``tokenizer.model``.
    vocab_size : int, optional
        V of the model: the tokenizer's ids must be below.
    bos : int, optional
        Token that stands before a document. Default: the ``bos_id`` of a ``.model``; beside a
        ``.json``, what ``tokenizer_config.json`` or ``config.json`` say of the beginning of a
        text, else of its end; nothing for bytes.

    Raises
    ------
    ValueError
        If there is no such tokenizer, it is damaged, or its vocabulary is not the model's.
    """
    tokenizer: Tokenizer
    if str(path) == "bytes":
        tokenizer = ByteTokenizer(bos)
    else:
        file = find_file(Path(path))
        if file.suffix == ".model":
            tokenizer = SentencePieceTokenizer(file, bos=bos)
        else:
            tokenizer = fast = FastTokenizer(file, bos=bos)
            if bos is None:
                fast.bos = find_bos(file.parent, fast)
    if vocab_size is not None:
        check_vocabulary(tokenizer, vocab_size)
    return tokenizer


def check_vocabulary(tokenizer: Tokenizer, vocab_size: int) -> None:
    """Raise ValueError if the tokenizer has ids that the model, of `vocab_size`, lacks."""
    if tokenizer.vocab_size > vocab_size:
        raise ValueError(
            f"tokenizer must have at most the model's {vocab_size} tokens, got "
            f"{tokenizer.vocab_size} in {tokenizer.name}: the wrong vocabulary; name the one that "
            "the model was trained with"
        )


def find_file(path: Path) -> Path:
    """File of the tokenizer that `path` names, itself or as its folder."""
    if path.is_dir():
        for name in ("tokenizer.json", "tokenizer.model"):
            if (path / name).is_file():
                return path / name
        raise ValueError(
            f"the folder must hold tokenizer.json or tokenizer.model, got neither in {path}; "
            "name the tokenizer's file with --tokenizer"
        )
    if path.suffix not in (".json", ".model"):
        raise ValueError(
            f"tokenizer must be bytes, a .json, a .model or a folder, got {path}; check the path"
        )
    return path


def find_bos(folder: Path, tokenizer: FastTokenizer) -> int | None:
    """Id of the token before a document: what the folder's files call bos, else eos, else None."""
    texts, model = (read_config(folder / f"{name}.json") for name in ("tokenizer_config", "config"))
    for kind in ("bos", "eos"):
        token = texts.get(f"{kind}_token")
        token = token.get("content") if isinstance(token, dict) else token
        found = tokenizer.token_id(token) if isinstance(token, str) else None
        for i in (found, model.get(f"{kind}_token_id")):
            i = i[0] if isinstance(i, list) and i else i
            if isinstance(i, int) and 0 <= i < tokenizer.vocab_size:
                return i
    return None


def read_config(path: Path) -> dict[str, Any]:
    """JSON object of a file, empty where there is none; ValueError if it holds anything else."""
    if not path.is_file():
        return {}
    try:
        if path.stat().st_size > MAX_CONFIG:
            raise ValueError(f"more than {MAX_CONFIG} bytes")
        config = json.loads(path.read_bytes())
        if not isinstance(config, dict):
            raise ValueError("no object")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} must hold a JSON object ({error}); is it damaged?") from error
    return config
