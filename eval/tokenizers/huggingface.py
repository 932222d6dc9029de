"""FastTokenizer: a tokenizer.json of Hugging Face, with the exact bytes of every token."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from eval.tokenizers.byte_level import BYTE_OF
from eval.tokenizers.byte_table import ByteTable
from eval.tokenizers.files import name_tokenizer, parse_json, read_tokenizer_file
from eval.tokenizers.table_tokenizer import TableTokenizer

MAX_VOCAB = 1 << 24
SPACES = ("\u2581", " ")  # as a normalizer writes them


class FastTokenizer(TableTokenizer):
    """A tokenizer of the library ``tokenizers``.

    The bytes of each token follow from the decoder of the file: byte-level letters, a mark for the
    space, bytes such as ``<0x0A>``, or the token as it is written. Every text is checked: the bytes
    of its tokens must be its raw bytes.

    The ids are those of the library, with one exception. A tokenizer that puts a space before texts
    without one puts it before every text here; otherwise a text with a leading space would lose it.
    Truncation, padding and dropout are switched off.

    Parameters
    ----------
    source : path, tokenizers.Tokenizer or dict
        The file, a loaded tokenizer, or the contents of a file.
    bos : int, optional
        Token before each document.
    name : str, optional
        Name in the signature. Default: that of the file or its folder, with 8 hex digits of its
        hash.

    Raises
    ------
    ValueError
        If the file is missing or is not a tokenizer.json, or `bos` is not in the vocabulary.
    """

    def __init__(self, source: Any, *, bos: int | None = None, name: str | None = None) -> None:
        if isinstance(source, str | Path):
            path, content = Path(source), read_tokenizer_file(Path(source))
        else:
            path = Path("tokenizer")
            text = json.dumps(source) if isinstance(source, dict) else source.to_str()
            content = text.encode()
            name = name or name_tokenizer(Path("tokenizers.json"), content)
        spec = parse(content, path)
        # The library's tokenizer puts no space before a text, so that it can encode later pieces.
        # `_ids` puts it before the first piece.
        self._puts_space = remove_prefix_space(spec)
        self._tokenizer, vocab = build(spec, path)
        table = byte_table(spec, vocab, self._puts_space)
        super().__init__(name or name_tokenizer(path, content), table, bos)

    def token_id(self, token: str) -> int | None:
        """Id of a token as written in the vocabulary, or None."""
        i: int | None = self._tokenizer.token_to_id(token)
        return i

    def save(self, path: str | Path) -> None:
        """Write a ``tokenizer.json``; ValueError if the tokenizer puts a space before a text."""
        if self._puts_space:
            raise ValueError(
                f"a tokenizer that puts a space before a text is saved by its own library, got "
                f"{self.name}; call save_pretrained"
            )
        self._tokenizer.save(str(path))

    def _ids(self, text: str, begins: bool) -> list[int]:
        if begins and self._puts_space:
            text = " " + text
        # Without offsets: 1.5 times as many texts a second, and the table needs none.
        encoding = self._tokenizer.encode_batch_fast([text], add_special_tokens=False)[0]
        ids: list[int] = encoding.ids
        return ids

    def _decode(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=False)
        return text


def parse(content: bytes, path: Path) -> dict[str, Any]:
    """The JSON object of a tokenizer.json, without truncation, padding and dropout."""
    spec = parse_json(content, "tokenizer", path)
    if not isinstance(spec, dict) or not isinstance(spec.get("model"), dict):
        raise ValueError(
            f"tokenizer must be a Hugging Face tokenizer.json, got {path}, which names no model; "
            "save it with PreTrainedTokenizerFast.save_pretrained"
        )
    spec |= {"truncation": None, "padding": None}
    spec["model"] |= {"dropout": None} if "dropout" in spec["model"] else {}
    return spec


def build(spec: dict[str, Any], path: Path) -> tuple[Any, dict[str, int]]:
    """(tokenizer of the library, its vocabulary); special tokens in a text are encoded as text."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(json.dumps(spec))
    except Exception as error:  # the library raises plain Exception
        raise ValueError(
            f"tokenizer must be a Hugging Face tokenizer.json, got {path} ({error}); "
            "save it with PreTrainedTokenizerFast.save_pretrained"
        ) from error
    vocab: dict[str, int] = tokenizer.get_vocab()
    if (highest := max(vocab.values(), default=-1)) not in range(MAX_VOCAB):
        raise ValueError(
            f"tokenizer must have ids in [0, {MAX_VOCAB}), got {highest} in {path}; download it "
            "again"
        )
    tokenizer.encode_special_tokens = True
    return tokenizer, vocab


def remove_prefix_space(spec: dict[str, Any]) -> bool:
    """Edit the specification so that no space is put before a text; True if one was."""
    puts_space = False
    normalizers = []
    for step in steps(spec, "normalizer", "normalizers"):
        if step["type"] == "Prepend" and step["prepend"] in SPACES:
            puts_space = True
        else:
            normalizers.append(step)
    spec["normalizer"] = {"type": "Sequence", "normalizers": normalizers} if normalizers else None
    for step in steps(spec, "pre_tokenizer", "pretokenizers"):
        if step["type"] == "Metaspace":
            # Old files have add_prefix_space; without both keys the library puts a space.
            scheme = step.pop("prepend_scheme", "always")
            puts_space |= scheme != "never" and step.pop("add_prefix_space", True)
            step["prepend_scheme"] = "never"
        elif step["type"] == "ByteLevel":
            puts_space |= step.get("add_prefix_space", True)
            step["add_prefix_space"] = False
    return puts_space


def steps(spec: dict[str, Any], part: str, plural: str) -> list[dict[str, Any]]:
    """The steps of one part of the tokenizer in order; nested sequences are flattened."""
    step = spec.get(part)
    if not isinstance(step, dict):
        return []
    if step.get("type") != "Sequence":
        return [step]
    return [inner for item in step[plural] for inner in steps({part: item}, part, plural)]


def byte_table(spec: dict[str, Any], vocab: dict[str, int], puts_space: bool) -> ByteTable:
    """The bytes of each token under the decoder of the file; unused ids are unknown."""
    size = max(vocab.values()) + 1
    token_bytes, unknown = [b""] * size, np.ones(size, bool)
    decoder = steps(spec, "decoder", "decoders")
    for token, i in vocab.items():
        token_bytes[i], unknown[i] = bytes_of_token(token, decoder), False
    boundary, is_added = np.zeros((2, size), bool)
    for added in spec.get("added_tokens") or ():
        i = added["id"]
        boundary[i], is_added[i] = added["special"], True
        token_bytes[i] = b"" if added["special"] else added["content"].encode()
    model = spec["model"]
    for unk in (vocab.get(model.get("unk_token") or ""), model.get("unk_id")):
        if unk is not None:
            token_bytes[unk], unknown[unk] = b"", True
    space = np.array([puts_space and token.startswith(b" ") for token in token_bytes])
    return ByteTable(
        token_bytes, boundary=boundary, unknown=unknown, space=space, added=is_added | unknown
    )


def bytes_of_token(token: str, decoder: list[dict[str, Any]]) -> bytes:
    """Bytes of one token of the vocabulary; decoder steps on whole texts are skipped."""
    for step in decoder:
        if step["type"] == "ByteLevel":
            if all(letter in BYTE_OF for letter in token):
                return bytes(BYTE_OF[letter] for letter in token)
        elif step["type"] == "Metaspace":
            token = token.replace(step["replacement"], " ")
        elif step["type"] == "Replace" and "String" in step["pattern"]:
            token = token.replace(step["pattern"]["String"], step["content"])
        elif step["type"] == "ByteFallback" and len(token) == 6 and token[:3] == "<0x":
            return bytes.fromhex(token[3:5])
    return token.encode()
