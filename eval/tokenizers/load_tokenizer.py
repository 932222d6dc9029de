"""load_tokenizer: the tokenizer that a path names."""

from pathlib import Path

from eval.tokenizers.base import Tokenizer, check_vocabulary
from eval.tokenizers.byte_tokenizer import ByteTokenizer
from eval.tokenizers.files import read_json_object
from eval.tokenizers.huggingface import FastTokenizer
from eval.tokenizers.sentencepiece import SentencePieceTokenizer


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
    texts = read_json_object(folder / "tokenizer_config.json")
    model = read_json_object(folder / "config.json")
    for kind in ("bos", "eos"):
        token = texts.get(f"{kind}_token")
        token = token.get("content") if isinstance(token, dict) else token
        found = tokenizer.token_id(token) if isinstance(token, str) else None
        for i in (found, model.get(f"{kind}_token_id")):
            i = i[0] if isinstance(i, list) and i else i
            if isinstance(i, int) and 0 <= i < tokenizer.vocab_size:
                return i
    return None
