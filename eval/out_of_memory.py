"""Allocations that fail: how they are recognised, and the options that help, by command."""

import errno

NO_THREAD = "can't start new thread"  # of Python: a thread needs memory for its stack
# What a RuntimeError says if an allocation fails, of torch most of them.
REFUSED = ("out of memory", "not enough memory", "allocate memory", "bad_alloc", NO_THREAD)
OF_SCORE = "--batch, --context, --logits-memory or --memory-limit"
HELP = {
    "score": f"lower {OF_SCORE}, or take a smaller model",
    "demo": f"lower {OF_SCORE}",
    "compare": f"lower {OF_SCORE}, name fewer --mixers, or take a smaller model",
    "quantize": "lower --calibration-tokens, --context or --logits-memory, or take a smaller model",
    "pipeline": f"lower --calibration-tokens, {OF_SCORE}, or take a smaller model",
    "bench": "lower the sizes that its --help lists",
    "plot": "draw fewer folders at once",
}


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation has failed, in Python, numpy or torch, on the host or on a device."""
    if isinstance(error, RuntimeError):
        return any(text in str(error) for text in REFUSED)
    return isinstance(error, MemoryError) or (
        isinstance(error, OSError) and error.errno == errno.ENOMEM
    )


def what_helps(command: str | None) -> str:
    """What to do if the memory does not suffice for a command."""
    return HELP.get(command or "", "close other programs")
