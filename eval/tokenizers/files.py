"""Files of tokenizers and models: read with a size limit, parsed as JSON, named by hash."""

import hashlib
import json
from pathlib import Path
from typing import Any

MAX_FILE = 1 << 28  # bytes; the largest vocabularies in use take a fifth of it
MAX_JSON = 1 << 24  # bytes


def read_tokenizer_file(path: Path) -> bytes:
    """Bytes of a tokenizer's file; ValueError if it is missing or no tokenizer is so large."""
    if not path.is_file():
        raise ValueError(f"tokenizer must be a file, got {path}; check the path")
    if (size := path.stat().st_size) > MAX_FILE:
        raise ValueError(
            f"tokenizer must have at most {MAX_FILE} bytes, got {size} in {path}; is it one?"
        )
    return path.read_bytes()


def name_tokenizer(path: Path, content: bytes) -> str:
    """Name for the signature: of the file, or of its folder, with 8 digits of its hash."""
    stem = path.resolve().parent.name if path.stem == "tokenizer" else path.stem
    return f"{stem}-{hashlib.sha256(content).hexdigest()[:8]}"


def read_json_object(path: Path) -> dict[str, Any]:
    """JSON object of a file, empty where there is none; ValueError if it holds anything else."""
    if not path.is_file():
        return {}
    try:
        if path.stat().st_size > MAX_JSON:
            raise ValueError(f"more than {MAX_JSON} bytes")
        config = json.loads(path.read_bytes())
        if not isinstance(config, dict):
            raise ValueError("no object")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} must hold a JSON object ({error}); is it damaged?") from error
    return config
