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
    """The tokenizer of a file or folder, or ``bytes``.

    Parameters
    ----------
    path : str or path
        ``bytes``; a SentencePiece ``.model``; a Hugging Face ``.json``; or a folder with
        ``tokenizer.json``, or else ``tokenizer.model``.
    vocab_size : int, optional
        V of the model. The ids of the tokenizer must be below it.
    bos : int, optional
        Token before each document. Default: the ``bos_id`` of a ``.model``; for a ``.json``, the
        bos token, else the eos token, in the ``tokenizer_config.json`` or ``config.json`` beside
        it; none for bytes.

    Raises
    ------
    ValueError
        If the tokenizer is missing or damaged, or its vocabulary is larger than that of the model.
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
    """The file of the tokenizer at `path`, a file or a folder."""
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
    """Id of the bos token in the configuration files of the folder, else of eos, else None."""
    texts = read_json_object(folder / "tokenizer_config.json")
    model = read_json_object(folder / "config.json")
    for kind in ("bos", "eos"):
        token = texts.get(f"{kind}_token")
        token = token.get("content") if isinstance(token, dict) else token
        named = tokenizer.token_id(token) if isinstance(token, str) else None
        for i in (named, model.get(f"{kind}_token_id")):
            i = i[0] if isinstance(i, list) and i else i
            if isinstance(i, int) and 0 <= i < tokenizer.vocab_size:
                return i
    return None
