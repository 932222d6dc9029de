"""FastTokenizer: a tokenizer.json of Hugging Face, with the exact bytes of every token."""

import json
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from eval.tokenizers.byte_level import BYTE_OF
from eval.tokenizers.byte_table import ByteTable
from eval.tokenizers.files import MAX_VOCAB, name_tokenizer, read_tokenizer_file
from eval.tokenizers.library_calls import silent, tokenizer_call
from eval.tokenizers.table_tokenizer import TableTokenizer

CHECK = "check that its file is complete, or save it with PreTrainedTokenizerFast.save_pretrained"
BYTE = re.compile("<0x([0-9A-Fa-f]{2})>")  # a token of one byte
FEW, IDS_A_TOKEN = 1 << 20, 4  # ids that any tokenizer may have, and ids for each of its tokens
MAX_GROWTH, MAX_STEPS = 64, 256
STEPS = ("normalizer", "pre_tokenizer", "decoder")
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
    path : Path, optional
        Where the contents come from, for error texts.

    Raises
    ------
    ValueError
        If the file is missing or is not a tokenizer.json, or `bos` is not in the vocabulary.
    """

    def __init__(
        self,
        source: Any,
        *,
        bos: int | None = None,
        name: str | None = None,
        path: Path | None = None,
    ) -> None:
        if isinstance(source, str | Path):
            path, content = Path(source), read_tokenizer_file(Path(source))
        else:
            path = Path("tokenizer") if path is None else path
            text = json.dumps(source) if isinstance(source, dict) else source.to_str()
            content = text.encode()
            name = name or name_tokenizer(Path("tokenizers.json"), content)
        # The library's tokenizer puts no space before a text, so that it can encode later pieces.
        # `ids` puts it before the first piece.
        self._tokenizer, spec, self._puts_space = build(content, path)
        table = byte_table(self._tokenizer, spec, self._puts_space, path)
        super().__init__(name or name_tokenizer(path, content), table, bos)

    def token_id(self, token: str) -> int | None:
        """Id of a token as written in the vocabulary, or None."""
        with self._call():
            i: int | None = self._tokenizer.token_to_id(token)
            return i

    def piece(self, i: int) -> str | None:
        """A token as written in the vocabulary; None for an id without a token."""
        with self._call():
            piece: str | None = self._tokenizer.id_to_token(i)
            return piece

    def save(self, path: str | Path) -> None:
        """Write a ``tokenizer.json``; ValueError if the tokenizer puts a space before a text."""
        if self._puts_space:
            raise ValueError(
                f"a tokenizer that puts a space before a text is saved by its own library, got "
                f"{self.name}; call save_pretrained"
            )
        self._tokenizer.save(str(path))

    def ids(self, text: str, begins: bool) -> list[int]:
        """Ids of a text as the library encodes it, without any check."""
        if begins and self._puts_space:
            text = " " + text
        # Without offsets: 1.5 times as many texts a second, and the table needs none.
        with self._call():
            encoding = self._tokenizer.encode_batch_fast([text], add_special_tokens=False)[0]
            ids: list[int] = encoding.ids
            return ids

    def decode(self, ids: list[int]) -> str:
        """The text of ids as the library decodes it."""
        with self._call():
            text: str = self._tokenizer.decode(ids, skip_special_tokens=False)
            return text

    def _call(self) -> AbstractContextManager[None]:
        return tokenizer_call(f"a text must be encoded, got an error of {self.name}", CHECK)


def build(content: bytes, path: Path) -> tuple[Any, dict[str, Any], bool]:
    """(tokenizer of the library, its specification, whether it puts a space before a text).

    The library reads the content first, so that what it refuses goes no further. The tokenizer
    itself puts no space, and neither cuts, fills nor varies a text. Special tokens in a text are
    encoded as text.
    """
    from tokenizers import Tokenizer

    rule = f"tokenizer must be a Hugging Face tokenizer.json, got {path}"
    with tokenizer_call(rule, CHECK), silent():
        text = content.decode("utf-8")
        tokenizer = Tokenizer.from_str(text)
        spec: dict[str, Any] = json.loads(text)
        # The steps as the library understands them, with the settings that old files leave out.
        small = {"type": "WordLevel", "vocab": {}, "unk_token": ""}
        parts = {name: spec.get(name) for name in STEPS} | {"version": "1.0", "model": small}
        understood = json.loads(Tokenizer.from_str(json.dumps(parts)).to_str())
    spec |= {name: understood[name] for name in STEPS}
    for name, plural in (("normalizer", "normalizers"), ("decoder", "decoders")):
        check_growth(steps(spec, name, plural), f"the {name} of {path}")
    puts_space = remove_prefix_space(spec)
    if puts_space:
        tokenizer = Tokenizer.from_str(json.dumps(spec))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if getattr(tokenizer.model, "dropout", None) is not None:
        tokenizer.model.dropout = None
    tokenizer.encode_special_tokens = True
    return tokenizer, spec, puts_space


def check_growth(parts: list[dict[str, Any]], where: str) -> None:
    """Raise ValueError if steps are many, or may make a text many times as long."""
    growth = prod(max(1, len(step["content"])) for step in parts if step["type"] == "Replace")
    if len(parts) > MAX_STEPS or growth > MAX_GROWTH:
        times = growth if growth <= MAX_GROWTH else f"more than {MAX_GROWTH}"
        raise ValueError(
            f"a text must become at most {MAX_GROWTH} times as long, by at most {MAX_STEPS} steps, "
            f"got {times} times and {len(parts)} steps in {where}; download it again"
        )


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
            puts_space |= step["prepend_scheme"] != "never"
            step["prepend_scheme"] = "never"
        elif step["type"] == "ByteLevel":
            puts_space |= step["add_prefix_space"]
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


def byte_table(tokenizer: Any, spec: dict[str, Any], puts_space: bool, path: Path) -> ByteTable:
    """The bytes of each token under the decoder of the file; unused ids are unknown."""
    vocab: dict[str, int] = tokenizer.get_vocab()
    limit = min(MAX_VOCAB, max(FEW, IDS_A_TOKEN * len(vocab)))
    if (highest := max(vocab.values(), default=-1)) not in range(limit):
        raise ValueError(
            f"tokenizer must have ids in [0, {limit}), got {highest} in {path}; download it again"
        )
    size = highest + 1
    token_bytes, unknown = [b""] * size, np.ones(size, bool)
    decoder = steps(spec, "decoder", "decoders")
    for token, i in vocab.items():
        token_bytes[i], unknown[i] = bytes_of_token(token, decoder), False
    boundary, is_added = np.zeros((2, size), bool)
    for i, added in tokenizer.get_added_tokens_decoder().items():
        boundary[i], is_added[i] = added.special, True
        token_bytes[i] = b"" if added.special else added.content.encode()
    for unk in unknown_ids(spec["model"], vocab):
        token_bytes[unk], unknown[unk] = b"", True
    space = np.array([puts_space and token.startswith(b" ") for token in token_bytes])
    return ByteTable(
        token_bytes, boundary=boundary, unknown=unknown, space=space, added=is_added | unknown
    )


def unknown_ids(model: Mapping[str, Any], vocab: Mapping[str, int]) -> set[int]:
    """Ids of the tokens that replace what is not in the vocabulary."""
    token, i = model.get("unk_token"), model.get("unk_id")
    ids = {vocab.get(token) if isinstance(token, str) else None, i if type(i) is int else None}
    return {i for i in ids if i is not None and 0 <= i <= max(vocab.values())}


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
        elif step["type"] == "ByteFallback" and (byte := BYTE.fullmatch(token)):
            return bytes.fromhex(byte[1])
    return token.encode()
