"""Files of tokenizers and models: read with a size limit, parsed as JSON, named by hash."""

import hashlib
import json
from pathlib import Path
from typing import Any

from ngrammix.reading import read_start

MAX_FILE = 1 << 28  # bytes of a tokenizer; the largest in use have a fifth of it
MAX_VOCAB = 1 << 24  # ids of a tokenizer
MAX_JSON = 1 << 24  # bytes of a configuration


def read_tokenizer_file(path: Path, n_bytes: int = -1) -> bytes:
    """The bytes of a tokenizer file, or the first `n_bytes`; ValueError if missing or too large."""
    if not path.is_file():
        raise ValueError(f"tokenizer must be a file, got {path}; check the path")
    if (size := path.stat().st_size) > MAX_FILE:
        raise ValueError(
            f"tokenizer must have at most {MAX_FILE} bytes, got {size} in {path}; check the path"
        )
    return read_start(path, size if n_bytes < 0 else n_bytes)  # a file may grow meanwhile


def parse_json(content: bytes, what: str, path: Path) -> Any:
    """The value of a tokenizer file in JSON; the ValueError calls the file `what`."""
    try:
        return loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{what} must be JSON, got {path} ({error}); check that it is complete"
        ) from error


def loads(content: bytes) -> Any:
    """The value of JSON; ValueError if it is none, or a text in it has half a character."""
    value = json.loads(content)
    if b"\\ud" in content or b"\\uD" in content:  # halves of characters are written so
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


def name_tokenizer(path: Path, content: bytes) -> str:
    """Name in the signature: that of the file or its folder, with 8 hex digits of its hash."""
    stem = path.resolve().parent.name if path.stem in ("tokenizer", "vocab") else path.stem
    return f"{stem}-{hashlib.sha256(content).hexdigest()[:8]}"


def read_json_object(path: Path) -> dict[str, Any]:
    """The JSON object of a file, empty if the file is missing; ValueError for other content."""
    if not path.is_file():
        return {}
    content = read_start(path, MAX_JSON + 1)
    try:
        if len(content) > MAX_JSON:
            raise ValueError(f"more than {MAX_JSON} bytes")
        config = loads(content)
        if not isinstance(config, dict):
            raise ValueError("no object")
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} must hold a JSON object, got {error}; download it again"
        ) from error
    return config


def model_type(folder: Path) -> str | None:
    """The ``model_type`` in the ``config.json`` of a folder, or None; a ValueError if no text."""
    named = read_json_object(folder / "config.json").get("model_type")
    if named is not None and not isinstance(named, str):
        raise ValueError(
            f"model_type must be a text, got {type(named).__name__} in {folder / 'config.json'}; "
            "correct it"
        )
    return named
