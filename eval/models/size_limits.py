"""What config.json may ask for: sizes are held against the weights before a network is built."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import get_ident
from typing import Any

from eval.models.weight_files import WeightFiles

# Counts of which transformers makes lists before it builds anything.
COUNTS = re.compile("layer|block|depth|stage|expert|head|label|hidden|group")
MAX_COUNT = 1 << 18
# Modules of a network for each tensor of its files, and beside them: files may hold the experts of
# a layer as one tensor.
MODULES_A_TENSOR, MORE_MODULES = 16, 4000
# Numbers of a network for each number in its files, and beside them: a head that is tied to the
# embedding is not stored, nor are tables and masks that the config determines.
NUMBERS_A_NUMBER, MORE_NUMBERS = 2, 1 << 26


class SizeError(ValueError):
    """The sizes in config.json are not those of the weights."""


def check_settings(settings: Mapping[str, Any], spec: str) -> None:
    """Raise ValueError if a value in config.json has a type or a size that no model has."""
    for name, kind in (("model_type", str), ("architectures", list)):
        value = settings.get(name)
        if value is not None and not isinstance(value, kind):
            raise ValueError(
                f"{name} in config.json must be a {'text' if kind is str else 'list of texts'}, "
                f"got {type(value).__name__} in {spec}; correct it"
            )
    for name in settings.get("architectures") or ():
        if not isinstance(name, str):
            raise ValueError(
                "architectures in config.json must be a list of texts, got "
                f"{type(name).__name__} in it in {spec}; correct it"
            )
    for path, value in integers_of(settings):
        if isinstance(value, int) and value.bit_length() > 63:
            raise SizeError(
                f"{path} in config.json must fit in 64 bits, got {shown(value)} in {spec}; "
                "correct it"
            )
        if abs(value) > MAX_COUNT and COUNTS.search(path.rpartition(".")[2]):
            raise SizeError(
                f"{path} in config.json must be at most {MAX_COUNT}, got {shown(value)} in {spec}; "
                "correct it"
            )


def integers_of(settings: Any, path: str = "") -> Iterator[tuple[str, int | float]]:
    """(dotted name, value) of each number in the objects and lists of a JSON value."""
    stack = [(path, settings)]
    while stack:
        path, value = stack.pop()
        if isinstance(value, Mapping):
            stack += [(f"{path}.{name}".lstrip("."), inner) for name, inner in value.items()]
        elif isinstance(value, list):
            stack += [(path, inner) for inner in value]
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield path, value


def shown(value: int | float) -> str:
    """A number for an error text; a long one as a power of ten."""
    return str(value) if isinstance(value, float) or value.bit_length() < 128 else "more than 1e38"


@contextmanager
def held_to_weights(files: WeightFiles | None, spec: str) -> Iterator[None]:
    """Let no network be built that has far more modules or numbers than its files hold.

    transformers builds a network without memory for its numbers, then fills it. What is too large
    is refused in between, or while its modules are made one after the other.
    """
    if files is None:
        yield
        return
    from torch.nn.modules import module as hooks

    thread = get_ident()
    most_modules = MORE_MODULES + MODULES_A_TENSOR * len(files.dtypes)
    most_numbers = MORE_NUMBERS + NUMBERS_A_NUMBER * files.n_numbers
    n_modules = n_numbers = 0

    def count(_: Any, name: str, part: Any) -> None:
        nonlocal n_modules, n_numbers
        if part is None or get_ident() != thread:
            return
        n_modules += 1
        n_numbers += part.numel() if hasattr(part, "numel") else 0
        if n_modules > most_modules or n_numbers > most_numbers:
            what = f"{n_numbers:,} numbers" if n_numbers > most_numbers else f"{n_modules:,} parts"
            raise SizeError(
                f"the sizes in config.json must be those of the weights, got a network of {what} "
                f"and more for {len(files.dtypes):,} weights of {files.n_numbers:,} numbers in "
                f"{spec}; correct config.json"
            )

    handles = [
        register(count)
        for register in (
            hooks.register_module_module_registration_hook,
            hooks.register_module_parameter_registration_hook,
            hooks.register_module_buffer_registration_hook,
        )
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
