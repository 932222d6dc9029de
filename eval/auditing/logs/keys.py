"""Names of figures in published logs: which of them is the loss, the bits per byte, and so on."""

import re
from functools import lru_cache
from typing import Literal

Kind = Literal["loss", "loss_bits", "tokens", "bytes", "bpb", "byte_perplexity", "perplexity"]
COUNTS = ("tokens", "bytes")
# Ends of a name, in words; the first that fits counts.
ENDS: tuple[tuple[str, Kind], ...] = (
    ("bits per byte", "bpb"), ("bits a byte", "bpb"), ("bits byte", "bpb"), ("bpb", "bpb"),
    ("bits per token", "loss_bits"), ("bits a token", "loss_bits"),
    ("nats per token", "loss"), ("nats a token", "loss"), ("nats token", "loss"),
    ("loss", "loss"), ("nll", "loss"), ("cross entropy", "loss"),
    ("byte perplexity", "byte_perplexity"),
    ("tokens", "tokens"), ("bytes", "bytes"),
)  # fmt: skip
BEFORE = {"val", "valid", "validation", "eval", "test", "n", "num", "number", "of", "the", "total",
          "scored", "raw", "text", "utf8", "count"}  # fmt: skip
# Figures of something else: of training, a difference, an error, another model.
OTHERS = {"train", "training", "std", "stderr", "sd", "se", "error", "delta", "diff", "gain",
          "step", "sec", "second", "seen", "context", "aux", "mtp", "target", "baseline", "sota",
          "previous", "old", "word", "threshold", "limit", "smooth"}  # fmt: skip
# What has tokens or bytes that are none of the text.
FILES = {"artifact", "code", "payload", "submission", "compressed", "size", "file", "serialized",
         "checkpoint", "weights", "batch", "vocab", "memory", "cap", "budget", "left"}  # fmt: skip
VARIANTS = {"model", "cache", "best", "min", "minimum"}  # of one run: figures of each go together
WORD = re.compile(r"[a-z]+\d*|\d+")


@lru_cache(maxsize=1 << 12)
def kind_of(name: str) -> tuple[Kind, str] | None:
    """(which figure a name means, of which variant), or None for another one.

    Examples
    --------
    >>> kind_of("final_int8_zlib_roundtrip val_loss"), kind_of("bpb_model"), kind_of("train_loss")
    (('loss', ''), ('bpb', 'model'), None)
    """
    words = words_of(name)
    if words and words[-1] in ("none", "mean"):  # bits_per_byte,none of lm-evaluation-harness
        words.pop()
    variant = next((word for word in words if word in VARIANTS), "")
    words = [word for word in words if word not in VARIANTS]
    if OTHERS.intersection(words):
        return None
    text = " ".join(words)
    for end, kind in ENDS:
        if text == end or text.endswith(f" {end}"):
            if kind in COUNTS:
                # Not bytes_total and code_bytes, which are of a file, nor tokens of another kind.
                own = words_of(name.split()[-1])[:-1]
                if variant or not BEFORE.issuperset(own) or FILES.intersection(words):
                    return None
            return kind, variant
    return None


def words_of(name: str) -> list[str]:
    """The words of a name, in small letters."""
    return WORD.findall(name.lower().replace("utf-8", "utf8"))
