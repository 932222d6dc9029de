"""Readers of quant: quantized files, containers, packed codes, recipes."""

import json
from pathlib import Path

import numpy as np

from tests.fuzz.reader import CUT, Reader, json_reader, write
from tests.fuzz.verdict import WrongError

MAX_BYTES = 1 << 20  # that a file may need


def signed_container(pieces: bytes) -> bytes:
    """A container with a right checksum."""
    from quant.io.container import digest

    return pieces + digest(pieces)


def file_of(data: bytes) -> bytes:
    """A quantized file of an input: the header of safetensors in JSON, then its arrays.

    The records of the metadata may be JSON values instead of a text.
    """
    from quant.io.container import MAGIC, PIECE, START, VERSION

    header, _, body = data.partition(CUT)
    try:
        content = json.loads(header)
        metadata = content["__metadata__"]
        for key, value in metadata.items():
            if not isinstance(value, str):
                metadata[key] = json.dumps(value)
        header = json.dumps(content).encode()
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        pass
    raw = len(header).to_bytes(8, "little") + header + body
    start = START.pack(MAGIC, VERSION, 1) + PIECE.pack(0, 1, len(raw), len(raw))
    return signed_container(start + raw)


def read_file(data: bytes, folder: Path) -> None:
    """A file that loads is decoded, and loads again as it was saved."""
    from quant.base.config import QuantizedTensor
    from quant.io.file import load, save

    tensors = load(write(folder, file_of(data)), MAX_BYTES)
    for tensor in tensors.values():
        if isinstance(tensor, QuantizedTensor):
            tensor.dequantize()
    save(folder / "again", tensors, codec="none")
    again = load(folder / "again")
    if list(again) != list(tensors) or any(
        isinstance(one, np.ndarray) and one.tobytes() != again[name].tobytes()
        for name, one in tensors.items()
    ):
        raise WrongError("saved again, it differs")


def read_model(data: bytes, folder: Path) -> None:
    """A model that loads knows its size."""
    from quant import QuantizedModel

    model = QuantizedModel.load(write(folder, file_of(data)), MAX_BYTES)
    if model.n_weights < 0 or model.nbytes < 0:
        raise WrongError("a size below 0")


def read_container(data: bytes, folder: Path) -> None:
    """A container never gives more bytes than it may."""
    from quant.io.container import decompress

    if len(decompress(signed_container(data), MAX_BYTES)) > MAX_BYTES:
        raise WrongError("more bytes than it may hold")


def read_packed(data: bytes, folder: Path) -> None:
    """Codes that are unpacked are packed to the same bytes. An input begins with bits and n."""
    from quant.io.packing import pack, unpack

    bits, n = (int.from_bytes(data[i : i + w], "little", signed=True) for i, w in ((0, 1), (1, 8)))
    packed = np.frombuffer(data[10:], np.uint8)
    codes = unpack(packed, bits, n, "int8" if data[9:10] < b"\x80" else "uint8")
    if pack(codes, bits).tobytes() != packed.tobytes():
        raise WrongError("packed again, they differ")


def read_recipe(data: bytes, folder: Path) -> None:
    """A recipe of JSON, or of a name, is the same after a round trip through JSON."""
    from quant.models.recipe import Recipe
    from quant.models.recipe_file import find_recipe

    text = data.decode("utf-8", "replace")
    try:
        recipe = find_recipe(json.loads(text))
    except (json.JSONDecodeError, RecursionError):
        recipe = find_recipe(text)
    if Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) != recipe:
        raise WrongError("another recipe after a round trip")


def read_recipe_file(data: bytes, folder: Path) -> None:
    """A recipe of a file of TOML or of JSON is the same when it is saved as either."""
    from quant.models.recipe_file import load_recipe, save_recipe

    recipe = load_recipe(write(folder, data, ".json" if data.lstrip()[:1] == b"{" else ".toml"))
    for suffix in (".toml", ".json"):
        save_recipe(folder / f"again{suffix}", recipe)
        if load_recipe(folder / f"again{suffix}") != recipe:
            raise WrongError(f"another recipe after a round trip through {suffix}")


READERS = {
    "quantized-file": json_reader(read_file),
    "quantized-model": json_reader(read_model),
    "container": Reader(read_container, named=None),
    "packed-codes": Reader(read_packed, named=None),
    "recipe": json_reader(read_recipe, named=None),
    "recipe-file": json_reader(read_recipe_file),
}
