"""Readers of models and tokenizers: their files, without building a network."""

import json
import random
from functools import cache, partial
from pathlib import Path

import numpy as np

from tests.fuzz.reader import (
    CUT,
    Reader,
    json_reader,
    mutate_bytes,
    mutate_json,
    mutate_part,
    write,
    write_parts,
)
from tests.fuzz.verdict import WrongError

TEXT = "It was  the best\nof times, it was the w\u00f6rst of times; 1234 \u4f60\u597d"
MAX_LINE = 300  # bytes of a text that a tokenizer encodes


def check_tokenizer(path: Path, **options: str) -> None:
    """A tokenizer that loads encodes a text to all of its bytes, or says that it cannot."""
    from eval import Document, load_tokenizer

    tokenizer = load_tokenizer(path, **options)
    raw = TEXT.encode()
    try:
        tokens, n_bytes = tokenizer.encode(Document(path.name, raw))
    except ValueError:
        return  # of the text: it names the document
    if n_bytes.sum() != len(raw) or (len(tokens) and tokens.max() >= tokenizer.vocab_size):
        raise WrongError("the tokens are not the text")


def read_tokenizer_json(data: bytes, folder: Path) -> None:
    """A tokenizer.json."""
    check_tokenizer(write(folder, data, ".json"))


def read_sentencepiece(data: bytes, folder: Path) -> None:
    """A model of SentencePiece."""
    check_tokenizer(write(folder, data, ".model"))


def read_tiktoken(data: bytes, folder: Path) -> None:
    """Ranks of tiktoken."""
    check_tokenizer(write(folder, data, ".tiktoken"), pre_tokenizer="gpt2")


def read_pair(data: bytes, folder: Path) -> None:
    """vocab.json and merges.txt, in one input."""
    vocab, _, merges = data.partition(CUT)
    (folder / "fuzzed-merges.txt").write_bytes(merges)
    path = folder / "fuzzed-vocab.json"
    path.write_bytes(vocab)
    check_tokenizer(path, pre_tokenizer="gpt2")


def read_beside(data: bytes, folder: Path) -> None:
    """What may lie beside a tokenizer: three files of JSON, in one input."""
    folder = folder / "fuzzed"
    names = ("tokenizer_config.json", "special_tokens_map.json", "config.json")
    write_parts(data, folder, names)
    (folder / "tokenizer.json").write_bytes(byte_tokenizer())
    check_tokenizer(folder)


def mutate_pair(data: bytes, rng: random.Random) -> bytes:
    """The vocabulary or the merges are mutated."""
    vocab, cut, merges = data.partition(CUT)
    if rng.random() < 0.5:
        return mutate_json(vocab, rng) + cut + merges
    return vocab + cut + mutate_bytes(merges, rng)


@cache
def byte_tokenizer() -> bytes:
    """A small tokenizer.json."""
    return (Path(__file__).parents[1] / "seeds/tokenizer-json/bytes").read_bytes()


def read_config(data: bytes, folder: Path) -> None:
    """The config.json of a model, as it is read before the weights are."""
    from eval.models.hf_config import find_limit, read_config
    from eval.models.size_limits import check_settings
    from eval.models.weight_files import check_config

    folder = folder / "fuzzed"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_bytes(data)
    check_settings(check_config(folder), str(folder))
    find_limit(read_config(folder, str(folder), trust_remote_code=False))


def read_index(data: bytes, folder: Path) -> None:
    """The index of the weight files of a model; the files are the same in every run."""
    from eval.models.weight_files import find_weights

    folder = folder / "fuzzed"
    folder.mkdir(exist_ok=True)
    for name, content in shards().items():
        (folder / name).write_bytes(content)
    (folder / "model.safetensors.index.json").write_bytes(data)
    if {path.parent for path in find_weights(folder).paths} != {folder}:
        raise WrongError("a file outside the folder")


@cache
def shards() -> dict[str, bytes]:
    """Two weight files by name."""
    from safetensors.numpy import save

    names = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    return {name: save({name[10]: np.ones(3, np.float32)}) for name in names}


def read_weights(data: bytes, folder: Path) -> None:
    """A weight file: the header of safetensors in JSON, then its tensors."""
    from eval.models.weight_files import find_weights

    folder = folder / "fuzzed"
    folder.mkdir(exist_ok=True)
    header, _, body = data.partition(CUT)
    content = len(header).to_bytes(8, "little") + header + body
    (folder / "model.safetensors").write_bytes(content)
    files = find_weights(folder)
    if json.loads(header).keys() - {"__metadata__"} != files.tensors().keys():
        raise WrongError("other tensors than those of the header")


READERS = {
    "tokenizer-json": json_reader(read_tokenizer_json),
    "sentencepiece": Reader(read_sentencepiece),
    "tiktoken": Reader(read_tiktoken),
    "vocab-merges": Reader(read_pair, mutate_pair),
    "tokenizer-config": Reader(read_beside, partial(mutate_part, mutators=[mutate_json] * 3)),
    "model-config": json_reader(read_config),
    "weight-index": json_reader(read_index),
    "weight-file": json_reader(read_weights),
}
