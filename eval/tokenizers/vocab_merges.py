"""Tokenizers of two files, ``vocab.json`` and ``merges.txt``, as a specification."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eval.tokenizers.byte_level import BYTE_OF, PATTERNS, byte_level_spec
from eval.tokenizers.files import MAX_VOCAB, model_type, parse_json, read_json_object

# The other file, by the end of the name of one: gpt2_vocab.json lies beside gpt2_merges.txt.
PAIRS = {"vocab.json": "merges.txt", "encoder.json": "vocab.bpe"}
GPT2 = ("gpt2", "gpt_neo", "gptj", "opt", "roberta", "bart", "codegen", "phi")
QWEN2 = ("qwen2", "qwen2_moe", "qwen3", "qwen3_moe")
MODEL_TYPES = dict.fromkeys(GPT2, "gpt2") | dict.fromkeys(QWEN2, "qwen")
CLASSES = {"GPT2Tokenizer": "gpt2", "RobertaTokenizer": "gpt2", "BartTokenizer": "gpt2",
           "CodeGenTokenizer": "gpt2", "Qwen2Tokenizer": "qwen"}  # fmt: skip
GPT2_IDS = {"Ġt": 256, "Ġgazed": 50_255, "<|endoftext|>": 50_256}  # its first and last tokens
WORD_END = "</w>"  # of tokens in which a word ends, as CLIP and GPT-1 write them


def pair_of(path: Path) -> tuple[Path, Path] | None:
    """(vocabulary, merges) if `path` is one of the two by its name, else None."""
    for vocab, merges in PAIRS.items():
        for name in (vocab, merges):
            if path.name.endswith(name):
                stem = path.name.removesuffix(name)
                return path.with_name(stem + vocab), path.with_name(stem + merges)
    return None


def read_vocab(content: bytes, path: Path) -> dict[str, int]:
    """Id of each token of a ``vocab.json``; ValueError for other content."""
    vocab = parse_json(content, "vocab.json", path)
    is_table = isinstance(vocab, dict) and all(map(is_id, vocab.values()))
    if not is_table or not vocab or len(set(vocab.values())) != len(vocab):
        raise ValueError(
            f"vocab.json must be an object of tokens with an id in [0, {MAX_VOCAB}) each, got "
            f"{path}; download it again"
        )
    return dict(vocab)


def read_merges(content: bytes, vocab: Mapping[str, int], path: Path) -> list[tuple[str, str]]:
    """The merges in their order; ValueError for a line that is none, or leads to no token."""
    try:
        lines = content.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"merges must be UTF-8, got {path} ({error}); download it again"
        ) from error
    merges = []
    for number, line in enumerate(lines, start=1):
        line = line.removesuffix("\r")
        if not line or (number == 1 and line.startswith("#version")):
            continue
        a, _, b = line.partition(" ")
        if not (a in vocab and b in vocab and a + b in vocab):
            raise ValueError(
                f"a merge must be two tokens whose union is a token, got {line[:40]!r} in "
                f"{path}:{number}; take the vocab.json and merges.txt of one tokenizer"
            )
        merges.append((a, b))
    return merges


def spec_of_pair(
    vocab: dict[str, int],
    merges: list[tuple[str, str]],
    added: Mapping[str, int],
    pattern: str,
    path: Path,
) -> dict[str, Any]:
    """The contents of a tokenizer.json; ValueError if the vocabulary is not byte-level.

    A token that is neither a byte nor a merge is special: no text is encoded to it.
    """
    made = {a + b for a, b in merges}
    special = {token for token in vocab if token not in made and token not in BYTE_OF}
    if missing := sum(letter not in vocab for letter in BYTE_OF):
        raise ValueError(
            f"vocab.json must hold the letters of all 256 bytes, got all but {missing} in {path}; "
            "take a tokenizer with byte-level BPE, as GPT-2 has"
        )
    if any(token.endswith(WORD_END) for token in made):
        raise ValueError(
            f"vocab.json must be of byte-level BPE, got tokens that end in {WORD_END} in {path}, "
            "which lose the spaces of a text; take another tokenizer"
        )
    vocab |= added
    if len(set(vocab.values())) != len(vocab):
        raise ValueError(
            f"added tokens must have ids of their own, got one that is taken beside {path}; take "
            "the files of one tokenizer"
        )
    return byte_level_spec(
        vocab,
        merges,
        special | added.keys(),
        PATTERNS[pattern],
        whole_words=False,
        normalizer="NFC" if pattern == "qwen" else None,
    )


def pattern_of_pair(vocab: Mapping[str, int], folder: Path) -> str | None:
    """Name of the pattern, by the model's type, the tokenizer's class, or GPT-2's vocabulary."""
    if (model := model_type(folder)) is not None:
        return MODEL_TYPES.get(model)
    named = read_json_object(folder / "tokenizer_config.json").get("tokenizer_class")
    if named is not None:
        return CLASSES.get(str(named).removesuffix("Fast"))
    return "gpt2" if GPT2_IDS.items() <= vocab.items() else None


def added_tokens(folder: Path) -> dict[str, int]:
    """Id of each token in ``added_tokens.json`` and ``tokenizer_config.json``, if they exist."""
    added = read_json_object(folder / "added_tokens.json")
    known = read_json_object(folder / "tokenizer_config.json").get("added_tokens_decoder")
    for i, token in known.items() if isinstance(known, dict) else ():
        if (
            re.fullmatch("[0-9]{1,8}", i)
            and isinstance(token, dict)
            and isinstance(token.get("content"), str)
        ):
            added[token["content"]] = int(i)
    return {token: i for token, i in added.items() if is_id(i)}


def is_id(value: object) -> bool:
    """Whether a value of JSON can be the id of a token."""
    return type(value) is int and 0 <= value < MAX_VOCAB
