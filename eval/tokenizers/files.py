"""Files of tokenizers and models: read with a size limit, parsed as JSON, named by hash."""

import hashlib
import json
from pathlib import Path
from typing import Any

MAX_FILE = 1 << 28  # bytes of a tokenizer; the largest in use have a fifth of it
MAX_JSON = 1 << 24  # bytes of a configuration


def read_tokenizer_file(path: Path, n_bytes: int = -1) -> bytes:
    """The bytes of a tokenizer file, or the first `n_bytes`; ValueError if missing or too large."""
    if not path.is_file():
        raise ValueError(f"tokenizer must be a file, got {path}; check the path")
    if (size := path.stat().st_size) > MAX_FILE:
        raise ValueError(
            f"tokenizer must have at most {MAX_FILE} bytes, got {size} in {path}; check the path"
        )
    with path.open("rb") as file:
        return file.read(n_bytes)


def parse_json(content: bytes, what: str, path: Path) -> Any:
    """The value of a tokenizer file in JSON; the ValueError calls the file `what`."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{what} must be JSON, got {path} ({error}); check that it is complete"
        ) from error


def name_tokenizer(path: Path, content: bytes) -> str:
    """Name in the signature: that of the file or its folder, with 8 hex digits of its hash."""
    stem = path.resolve().parent.name if path.stem in ("tokenizer", "vocab") else path.stem
    return f"{stem}-{hashlib.sha256(content).hexdigest()[:8]}"


def read_json_object(path: Path) -> dict[str, Any]:
    """The JSON object of a file, empty if the file is missing; ValueError for other content."""
    if not path.is_file():
        return {}
    try:
        if path.stat().st_size > MAX_JSON:
            raise ValueError(f"more than {MAX_JSON} bytes")
        config = json.loads(path.read_bytes())
        if not isinstance(config, dict):
            raise ValueError("no object")
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} must hold a JSON object, got {error}; download it again"
        ) from error
    return config


def model_type(folder: Path) -> str | None:
    """The ``model_type`` in the ``config.json`` of a folder, or None."""
    named = read_json_object(folder / "config.json").get("model_type")
    return None if named is None else str(named)
