"""load_tokenizer: the tokenizer that a path names, or that an object of another library is."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from eval.tokenizers.base import Tokenizer
from eval.tokenizers.byte_level import PATTERNS
from eval.tokenizers.byte_tokenizer import ByteTokenizer
from eval.tokenizers.files import (
    model_type,
    name_tokenizer,
    read_json_object,
    read_tokenizer_file,
)
from eval.tokenizers.huggingface import FastTokenizer
from eval.tokenizers.objects import tokenizer_of_object
from eval.tokenizers.sentencepiece import SentencePieceTokenizer
from eval.tokenizers.side_car import SideCarTokenizer
from eval.tokenizers.table_tokenizer import check_bos, fit_vocabulary
from eval.tokenizers.tiktoken_ranks import (
    MODEL_TYPES,
    is_ranks,
    published,
    read_ranks,
    reserved_tokens,
    spec_of_ranks,
)
from eval.tokenizers.vocab_merges import (
    added_tokens,
    pair_of,
    pattern_of_pair,
    read_merges,
    read_vocab,
    spec_of_pair,
)

NONE = "none"  # the ids of the data and their bytes, without a tokenizer
# Files of a folder, in the order in which they are looked for; the last two are refused.
NAMES = ("tokenizer.json", "tokenizer.model", "vocab.json", "encoder.json", "*.tiktoken",
         "tokenizer.pkl", "tokenizer.pickle")  # fmt: skip
NAMES_MODEL = re.compile(rb'"model"\s*:\s*\{')  # in a tokenizer.json; "model" may be a token
HEAD = 1 << 12  # bytes that show whether a file holds ranks
PICKLES = (".pkl", ".pickle", ".pt", ".pth")
SUFFIXES = (".json", ".model", ".tiktoken")


def load_tokenizer(
    source: Any,
    *,
    vocab_size: int | None = None,
    bos: int | None = None,
    pre_tokenizer: str | None = None,
) -> Tokenizer:
    """The tokenizer of a file, a folder or an object of another library.

    Parameters
    ----------
    source : path or object
        ``bytes``; ``none``, for data of tokens with the bytes of each; a Hugging Face ``.json``; a
        SentencePiece ``.model``; a tiktoken file; ``vocab.json`` with ``merges.txt`` beside it; or
        a folder with one of these. Objects: a `Tokenizer`, and those of the libraries tokenizers,
        transformers, sentencepiece and tiktoken.
    vocab_size : int, optional
        V of the model. The ids of the tokenizer must be below it; only added tokens may be beyond
        it, and a text that needs one is an error.
    bos : int, optional
        Token before each document. Default: the ``bos_id`` of a ``.model``; for other files, the
        bos token, else the eos token, in the ``tokenizer_config.json`` or ``config.json`` beside
        it; none for bytes.
    pre_tokenizer : str, optional
        How a tiktoken file or a ``vocab.json`` splits a text into words: ``gpt2``, ``cl100k``,
        ``o200k``, ``llama3`` or ``qwen``. Default: that of the type of model in the ``config.json``
        beside it, or of the published file that it is.

    Raises
    ------
    ValueError
        If the tokenizer is missing, damaged or a pickle, it is not known how it splits a text, or
        its vocabulary is larger than that of the model.
    """
    is_path = isinstance(source, str | Path)
    if is_path and str(source) == NONE:
        if vocab_size is None:
            raise ValueError("tokenizer none needs a model, got none; name the tokenizer")
        return SideCarTokenizer(vocab_size, bos)
    if is_path and str(source) == "bytes":
        tokenizer: Tokenizer = ByteTokenizer(bos)
    elif is_path:
        return load_file(find_file(Path(source)), vocab_size, bos, pre_tokenizer)
    else:
        tokenizer = tokenizer_of_object(source, bos)
    return tokenizer if vocab_size is None else fit_vocabulary(tokenizer, vocab_size)


def load_file(
    path: Path, vocab_size: int | None, bos: int | None, pre_tokenizer: str | None
) -> Tokenizer:
    """The tokenizer of a file; its content says which kind it is."""
    if pre_tokenizer is not None and pre_tokenizer not in PATTERNS:
        raise ValueError(
            f"pre_tokenizer must be one of {', '.join(PATTERNS)}, got {pre_tokenizer!r}; "
            "leave it out if the tokenizer has a tokenizer.json"
        )
    own_bos = None
    tokenizer: FastTokenizer | SentencePieceTokenizer
    if is_ranks(read_tokenizer_file(path, HEAD)):
        tokenizer, own_bos = load_ranks(path, pre_tokenizer)
    elif (pair := pair_of(path)) and not NAMES_MODEL.search(read_tokenizer_file(path)):
        tokenizer = load_pair(*pair, pre_tokenizer)
    elif pre_tokenizer is not None:
        raise ValueError(
            f"pre_tokenizer goes with a tiktoken file or a vocab.json, got {path}, which says "
            "itself how it splits a text; leave it out"
        )
    elif path.suffix == ".json":
        tokenizer = FastTokenizer(path)
    else:
        tokenizer = SentencePieceTokenizer(path)
        own_bos = tokenizer.bos
    fitted = tokenizer if vocab_size is None else fit_vocabulary(tokenizer, vocab_size)
    check_bos(bos, fitted.vocab_size, fitted.name)
    if bos is None and not isinstance(tokenizer, SentencePieceTokenizer):
        bos = find_bos(path.parent, fitted.vocab_size, tokenizer.token_id)
    fitted.bos = own_bos if bos is None else bos
    return fitted


def load_ranks(path: Path, pre_tokenizer: str | None) -> tuple[FastTokenizer, int | None]:
    """(tokenizer of a tiktoken file, the token that begins a document if the file is known)."""
    content = read_tokenizer_file(path)
    known, bos = published(content)
    pattern = pre_tokenizer or known or MODEL_TYPES.get(model_type(path.parent) or "")
    if pattern is None:
        raise ValueError(unknown_pattern(path))
    ranks = read_ranks(content, path)
    spec = spec_of_ranks(ranks, PATTERNS[pattern], reserved_tokens(ranks, pattern))
    name = name_tokenizer(path, content + pattern.encode())
    return FastTokenizer(spec, name=name, path=path), bos


def load_pair(vocab_path: Path, merges_path: Path, pre_tokenizer: str | None) -> FastTokenizer:
    """The tokenizer of ``vocab.json`` and ``merges.txt``."""
    vocab_content, merges_content = map(read_tokenizer_file, (vocab_path, merges_path))
    vocab = read_vocab(vocab_content, vocab_path)
    merges = read_merges(merges_content, vocab, merges_path)
    folder = vocab_path.parent
    pattern = pre_tokenizer or pattern_of_pair(vocab, folder)
    if pattern is None:
        raise ValueError(unknown_pattern(vocab_path))
    added = added_tokens(folder)
    content = vocab_content + merges_content + pattern.encode()
    if added.keys() - vocab.keys():  # they are ids of the vocabulary too
        content += json.dumps(added, sort_keys=True).encode()
    spec = spec_of_pair(vocab, merges, added, pattern, vocab_path)  # adds them to `vocab`
    return FastTokenizer(spec, name=name_tokenizer(vocab_path, content), path=vocab_path)


def unknown_pattern(path: Path) -> str:
    """Error text for a tokenizer file if the rule that splits a text into words is unknown."""
    model = model_type(path.parent)
    of = "" if model is None else f" of a model of type {model}"
    return (
        f"the rule that splits a text into words must be known, got none for {path}{of}; name it "
        f"with --pre-tokenizer ({', '.join(PATTERNS)}), or save the tokenizer as tokenizer.json"
    )


def find_file(path: Path) -> Path:
    """The file of the tokenizer at `path`, a file or a folder."""
    if path.is_dir():
        found = file_in(path)
        if found is None:
            raise ValueError(
                f"the folder must hold tokenizer.json, tokenizer.model or vocab.json, got none in "
                f"{path}; name the tokenizer's file with --tokenizer"
            )
        path = found
    refuse_pickle(path)
    if path.suffix not in SUFFIXES and pair_of(path) is None:
        raise ValueError(
            "tokenizer must be bytes, a .json, a .model, a .tiktoken or a folder, got "
            f"{path}; check the path"
        )
    return path


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds a tokenizer, or one as a pickle, which `find_file` refuses."""
    return file_in(folder) is not None


def file_in(folder: Path) -> Path | None:
    """The first of `NAMES` in a folder, or None."""
    files = (file for name in NAMES for file in sorted(folder.glob(name)))
    return next(filter(Path.is_file, files), None)


def refuse_pickle(path: Path) -> None:
    """Raise ValueError for a pickled tokenizer, such as nanochat's, and say how to go on."""
    if path.suffix in PICKLES and path.is_file():
        raise ValueError(
            f"tokenizer must not be a pickle, which can run code, got {path}; load it yourself "
            "where you trust it, and write eval.load_tokenizer(pickle.load(file)).save("
            "'tokenizer.json')"
        )


def find_bos(
    folder: Path, vocab_size: int, token_id: Callable[[str], int | None] | None = None
) -> int | None:
    """Id of the bos token in the configuration files of the folder, else of eos, else None.

    `token_id` gives the id of a token as it is written; without it, ids alone are read.
    """
    texts = read_json_object(folder / "special_tokens_map.json")
    texts |= read_json_object(folder / "tokenizer_config.json")
    model = read_json_object(folder / "config.json")
    added = added_tokens(folder)
    for kind in ("bos", "eos"):
        token = texts.get(f"{kind}_token")
        token = token.get("content") if isinstance(token, dict) else token
        named = None
        if isinstance(token, str):
            named = added.get(token) if token_id is None else token_id(token)
        for i in (named, model.get(f"{kind}_token_id")):
            i = i[0] if isinstance(i, list) and i else i
            if type(i) is int and 0 <= i < vocab_size:
                return i
    return None
