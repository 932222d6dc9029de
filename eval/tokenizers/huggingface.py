"""FastTokenizer: a tokenizer.json of Hugging Face, with the exact bytes of each of its tokens."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from eval.tokenizers.byte_table import ByteTable
from eval.tokenizers.files import name_tokenizer, read_tokenizer_file
from eval.tokenizers.table_tokenizer import TableTokenizer

MAX_VOCAB = 1 << 24
BLANKS = ("\u2581", " ")


class FastTokenizer(TableTokenizer):
    """A tokenizer of the library ``tokenizers``.

    Its decoder says what each token spells: byte-level letters, a mark for the blank, bytes such
    as ``<0x0A>``, or the token as it is written. That is exact where the tokens, so decoded, are
    the text, and every text is checked.

    Ids are those of the library, but for a text that begins with a blank where the tokenizer puts
    one before each text that has none: that text gets its blank too, lest it lose its own.
    Truncation, padding and dropout are switched off.

    Parameters
    ----------
    source : path or tokenizers.Tokenizer
        The file, or what was read from one.
    bos : int, optional
        Token that stands before a document.
    name : str, optional
        For the signature. Default: of the file or its folder, with 8 digits of its hash.

    Raises
    ------
    ValueError
        If the file is missing or is no tokenizer.json, or `bos` is not in the vocabulary.
    """

    def __init__(self, source: Any, *, bos: int | None = None, name: str | None = None) -> None:
        if isinstance(source, str | Path):
            path, content = Path(source), read_tokenizer_file(Path(source))
        else:
            path, content = Path("tokenizer"), source.to_str().encode()
            name = name or name_tokenizer(Path("tokenizers.json"), content)
        spec = parse(content, path)
        # One tokenizer that puts nothing before a text serves the pieces that go on, and, given
        # the blank, those that begin.
        self._puts_blank = take_blank(spec)
        self._tokenizer = build(spec, path)
        table = byte_table(spec, self._tokenizer.get_vocab(), self._puts_blank)
        super().__init__(name or name_tokenizer(path, content), table, bos)

    def token_id(self, token: str) -> int | None:
        """Id of a token as the vocabulary writes it, or None."""
        found: int | None = self._tokenizer.token_to_id(token)
        return found

    def _ids(self, text: str, begins: bool) -> list[int]:
        if begins and self._puts_blank:
            text = " " + text
        # Without offsets: half as long again per second, and the table is exact.
        encoding = self._tokenizer.encode_batch_fast([text], add_special_tokens=False)[0]
        ids: list[int] = encoding.ids
        return ids

    def _decode(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=False)
        return text


def parse(content: bytes, path: Path) -> dict[str, Any]:
    """The JSON object of a tokenizer.json, without truncation, padding and dropout."""
    try:
        spec = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"tokenizer must be JSON, got {path} ({error}); is it cut short?"
        ) from error
    if not isinstance(spec, dict) or not isinstance(spec.get("model"), dict):
        raise ValueError(
            f"tokenizer must be a Hugging Face tokenizer.json, got {path}, which names no model; "
            "save it with PreTrainedTokenizerFast.save_pretrained"
        )
    spec |= {"truncation": None, "padding": None}
    spec["model"] |= {"dropout": None} if "dropout" in spec["model"] else {}
    return spec


def build(spec: dict[str, Any], path: Path) -> Any:
    """The library's tokenizer; text that looks like a special token is text to it."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(json.dumps(spec))
    except Exception as error:  # the library raises no other kind
        raise ValueError(
            f"tokenizer must be a Hugging Face tokenizer.json, got {path} ({error}); "
            "save it with PreTrainedTokenizerFast.save_pretrained"
        ) from error
    if (highest := max(tokenizer.get_vocab().values(), default=-1)) not in range(MAX_VOCAB):
        raise ValueError(
            f"tokenizer must have ids in [0, {MAX_VOCAB}), got {highest} in {path}; is it damaged?"
        )
    tokenizer.encode_special_tokens = True
    return tokenizer


def take_blank(spec: dict[str, Any]) -> bool:
    """Whether the tokenizer puts a blank before a text; from now on it does not."""
    found = False
    kept = []
    for step in steps(spec, "normalizer", "normalizers"):
        if step["type"] == "Prepend" and step["prepend"] in BLANKS:
            found = True
        else:
            kept.append(step)
    spec["normalizer"] = {"type": "Sequence", "normalizers": kept} if kept else None
    for step in steps(spec, "pre_tokenizer", "pretokenizers"):
        if step["type"] == "Metaspace":
            # Files of old have add_prefix_space; without either, the library puts one.
            scheme = step.pop("prepend_scheme", "always")
            found |= scheme != "never" and step.pop("add_prefix_space", True)
            step["prepend_scheme"] = "never"
        elif step["type"] == "ByteLevel":
            found |= step.get("add_prefix_space", True)
            step["add_prefix_space"] = False
    return found


def steps(spec: dict[str, Any], part: str, plural: str) -> list[dict[str, Any]]:
    """The steps of a part of the tokenizer, those of sequences in their place."""
    step = spec.get(part)
    if not isinstance(step, dict):
        return []
    if step.get("type") != "Sequence":
        return [step]
    return [inner for item in step[plural] for inner in steps({part: item}, part, plural)]


def byte_table(spec: dict[str, Any], vocab: dict[str, int], puts_blank: bool) -> ByteTable:
    """What each token spells under the tokenizer's decoder; ids that are missing are unknown."""
    size = max(vocab.values()) + 1
    spelling, unknown = [b""] * size, np.ones(size, bool)
    decoder = steps(spec, "decoder", "decoders")
    for token, i in vocab.items():
        spelling[i], unknown[i] = bytes_of_token(token, decoder), False
    boundary = np.zeros(size, bool)
    for added in spec.get("added_tokens") or ():
        i = added["id"]
        boundary[i] = added["special"]
        spelling[i] = b"" if added["special"] else added["content"].encode()
    model = spec["model"]
    for unk in (vocab.get(model.get("unk_token") or ""), model.get("unk_id")):
        if unk is not None:
            spelling[unk], unknown[unk] = b"", True
    blank = np.array([puts_blank and token.startswith(b" ") for token in spelling])
    return ByteTable(spelling, boundary=boundary, unknown=unknown, blank=blank)


def bytes_of_token(token: str, decoder: list[dict[str, Any]]) -> bytes:
    """Bytes of one token of the vocabulary; steps that act on a whole text are left out."""
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


def byte_letters() -> dict[str, int]:
    """The byte that each letter of a byte-level vocabulary stands for.

    Bytes that print are themselves in Latin-1; the others follow from U+0100 on, in order.
    """
    prints = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in prints]
    letters = {chr(byte): byte for byte in prints}
    return letters | {chr(0x100 + n): byte for n, byte in enumerate(others)}


BYTE_OF = byte_letters()
