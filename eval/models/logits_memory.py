"""The memory that the logits of a forward pass may take, and the error where they do not fit."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from eval.models.base import Model
from eval.out_of_memory import is_out_of_memory
from eval.types import Tokens
from quant.base.memory import parse_bytes

DEFAULT = 1 << 30  # bytes, on the host
SHARE = 4  # one part in so many of the memory that there is
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def logits_memory(option: str | int | None, model: Model) -> int:
    """Most bytes of the logits of a forward pass: those of the option, else the default.

    The default is a quarter of a CUDA device; on the host 1 GiB, or a quarter of the memory if
    that is less. It does not depend on what other programs use, so two runs make the same batches.

    Raises
    ------
    ValueError
        If the option is not a number of bytes, or text such as "2GiB".
    """
    if option is not None:
        return parse_bytes(option, "logits_memory")
    device = str(getattr(model, "device", "cpu"))
    if device.startswith("cuda"):
        import torch

        total: int = torch.cuda.get_device_properties(device).total_memory
        return total // SHARE
    return min(DEFAULT, host_memory() // SHARE)


def host_memory() -> int:
    """Bytes that this process may use: of the machine, its container, and its own limit."""
    limits = []
    with suppress(AttributeError, ValueError, OSError):  # absent on Windows
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for path in CGROUP_LIMITS:
        with suppress(OSError, ValueError):  # absent, or "max"
            limits.append(int(Path(path).read_text(encoding="ascii")))
    with suppress(ImportError):  # absent on Windows
        from resource import RLIM_INFINITY, RLIMIT_AS, RLIMIT_DATA, getrlimit

        soft = [getrlimit(kind)[0] for kind in (RLIMIT_AS, RLIMIT_DATA)]
        limits += [limit for limit in soft if limit != RLIM_INFINITY]
    return min(limits, default=SHARE * DEFAULT)


def bytes_a_row(model: Model) -> int:
    """Bytes of the V logits of one position, as float32 or as the wider weights of the model."""
    weights = getattr(getattr(model, "network", None), "parameters", None)
    weight = next(iter(weights()), None) if callable(weights) else None
    return model.vocab_size * max(4, getattr(weight, "itemsize", 4))


@contextmanager
def logits_must_fit(model: Model, inputs: Tokens, n_last: int) -> Iterator[None]:
    """Turn a failed allocation of logits for inputs (B, L) into one error that names the options.

    n_last: positions of each window whose logits are asked for.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        n_windows, length = inputs.shape
        n_rows = n_windows * (n_last if keeps_rows(model) else length)
        size = n_rows * bytes_a_row(model) / 2**30
        raise ValueError(
            f"a forward pass must fit in memory, got {n_windows} windows of {length:,} tokens, "
            f"whose {n_rows:,} x {model.vocab_size:,} logits take {size:,.2f} GiB beside what "
            f"{model.name} itself needs; pass a smaller --logits-memory, --batch or --context"
        ) from error


def keeps_rows(model: Model) -> bool:
    """Whether the model can compute the logits of the last positions alone."""
    return bool(getattr(model, "keeps_rows", False))


def last_logits(model: Model, tokens: Tokens, n_last: int) -> Any:
    """Logits (B, n_last, V) of the last positions of tokens (B, T).

    The other logits are not computed, if the model can do without.

    Raises
    ------
    ValueError
        If the memory does not suffice.
    """
    with logits_must_fit(model, tokens, n_last):
        if n_last < tokens.shape[1] and keeps_rows(model):
            return model.logits(tokens, n_last=n_last)  # type: ignore[call-arg]
        return model.logits(tokens)[:, -n_last:]
