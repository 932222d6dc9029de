"""The workbench: score a data set in bits per byte, with and without the n-gram cache.

The names below are imported when they are first used, so ``import eval`` loads nothing else.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from eval.shadowing import check_packages

if TYPE_CHECKING:
    from eval.auditing.audit_self import audit_self
    from eval.auditing.codec.audit_codec import audit_codec, decode_file
    from eval.auditing.logs.audit_log import audit_log
    from eval.auditing.models.audit_model import audit_model
    from eval.auditing.token_bytes.audit_bytes import audit_bytes
    from eval.comparing.compare import compare
    from eval.config import ScoreConfig
    from eval.data.document import Document, Documents
    from eval.data.open_data import open_data
    from eval.models.causality import check_causality
    from eval.models.load_model import load_model
    from eval.models.wrap import wrap
    from eval.scoring.csv_cells import read_cell
    from eval.scoring.result import Result
    from eval.scoring.score import score
    from eval.tokenizers.byte_tokenizer import ByteTokenizer
    from eval.tokenizers.load_tokenizer import load_tokenizer

__all__ = [
    "ByteTokenizer",
    "Document",
    "Documents",
    "Result",
    "ScoreConfig",
    "audit_bytes",
    "audit_codec",
    "audit_log",
    "audit_model",
    "audit_self",
    "check_causality",
    "compare",
    "decode_file",
    "load_model",
    "load_tokenizer",
    "open_data",
    "read_cell",
    "score",
    "wrap",
]

_MODULES = {
    "ByteTokenizer": "eval.tokenizers.byte_tokenizer",
    "Document": "eval.data.document",
    "Documents": "eval.data.document",
    "Result": "eval.scoring.result",
    "ScoreConfig": "eval.config",
    "audit_bytes": "eval.auditing.token_bytes.audit_bytes",
    "audit_codec": "eval.auditing.codec.audit_codec",
    "audit_log": "eval.auditing.logs.audit_log",
    "audit_model": "eval.auditing.models.audit_model",
    "audit_self": "eval.auditing.audit_self",
    "check_causality": "eval.models.causality",
    "compare": "eval.comparing.compare",
    "decode_file": "eval.auditing.codec.audit_codec",
    "load_model": "eval.models.load_model",
    "load_tokenizer": "eval.tokenizers.load_tokenizer",
    "open_data": "eval.data.open_data",
    "read_cell": "eval.scoring.csv_cells",
    "score": "eval.scoring.score",
    "wrap": "eval.models.wrap",
}


def __getattr__(name: str) -> Any:
    """The public object `name`, from the module that defines it."""
    if name not in _MODULES:
        raise AttributeError(f"module 'eval' has no attribute {name!r}")
    check_packages()
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value  # found without this function the next time
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
