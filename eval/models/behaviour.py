"""What a model computes with, as values for JSON: its numbers, its settings and its code.

Models of the same description compute the same, as far as this sees: packages that are installed,
files that the code reads, and objects of installed classes are in it by their names alone.
"""

import hashlib
from collections.abc import Mapping
from enum import Enum
from functools import partial
from types import FunctionType, MethodType, SimpleNamespace
from typing import Any

import numpy as np

from eval.models.code import code_of, globals_of, is_own, reachable
from eval.models.tensors import hash_array, hash_tensors, is_array, is_module

# Attributes and fields of a config that move no logit, or that other conditions hold.
NO_MATTER = {
    "transformers_version", "_name_or_path", "name_or_path", "_commit_hash", "architectures",
    "dtype", "torch_dtype", "use_cache", "bos_token_id", "eos_token_id", "initializer_range",
    "id2label", "label2id", "task_specific_params",
}  # fmt: skip
OF_OBJECTS = {"device", "rank", "local_rank", "config", "training", "name_or_path"}
OF_MODELS = {"name", "tokenizer", "context", "vocab_size"}  # what `wrap` takes from the whole
ENTRANCES = ("forward", "__call__", "logits")  # the methods by which a model is called
HOOKS = ("_forward_pre_hooks", "_forward_hooks")
MAX_DEPTH = 12
MAX_GLOBAL = 1 << 26  # bytes of an array beside the model: a larger one is data, no setting


class Description:
    """Describes objects; a function, class or instance that comes again is its number."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[str, Any]] = {}  # by id; each is kept: no other takes its id

    def of(self, value: Any, depth: int = 0) -> Any:
        """The description of any object."""
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, bytes):
            return hashlib.sha256(value).hexdigest()
        if is_array(value):
            dtype = str(getattr(value.dtype, "name", value.dtype))
            return [dtype, list(value.shape), hash_array(value)]
        if depth > MAX_DEPTH:
            return name_of(value)
        if isinstance(value, Mapping):
            return {str(k): self.of(v, depth + 1) for k, v in value.items() if k not in NO_MATTER}
        if isinstance(value, set | frozenset):
            return sorted(str(self.of(item, depth + 1)) for item in value)
        if (parts := parts_of(value)) is not None:
            return [self.of(part, depth + 1) for part in parts]
        if id(value) in self._seen:
            return self._seen[id(value)][0]
        self._seen[id(value)] = f"#{len(self._seen)}", value
        if isinstance(value, FunctionType):
            return self._of_function(value, depth + 1)
        if isinstance(value, type):
            return self._of_class(value, depth + 1)
        return self._of_instance(value, depth + 1)

    def of_module(self, network: Any, depth: int = 0) -> dict[str, Any]:
        """Class, hooks and attributes of each part of a torch module, by the name of the part."""
        import torch

        internal, parts = vars(torch.nn.Module()).keys(), {}
        for name, module in network.named_modules():
            self._seen.setdefault(id(module), (f"#{len(self._seen)}", module))
            hooks = [list(getattr(module, hook).values()) for hook in HOOKS]
            is_moving = not isinstance(module, torch.nn.modules.dropout._DropoutNd)  # off
            skipped = internal if name else internal | OF_MODELS
            attributes = {
                key: value for key, value in vars(module).items() if is_moving
                and key not in skipped and (is_own(type(module)) or not key.startswith("_"))
            }  # fmt: skip
            kind = self.of(type(module), depth), name_of(type(module))
            parts[name] = [*kind, self.of(hooks, depth), self._of_attributes(attributes, depth)]
        return parts

    def _of_function(self, function: FunctionType, depth: int) -> Any:
        """Code, defaults, closure, and the globals that it uses; an installed one is its name."""
        if not is_own(function):
            inner = getattr(function, "__wrapped__", None)  # such as what torch.compile compiles
            return [f"{function.__module__}.{name_of(function)}", self.of(inner, depth)]
        code, cells = function.__code__, map(contents_of, function.__closure__ or ())
        held = [code_of(code), function.__defaults__, function.__kwdefaults__, list(cells)]
        used = {name: function.__globals__.get(name) for name in globals_of(code)}
        settings = {name: value for name, value in used.items() if not is_data(value)}
        return [name_of(function), self.of(held, depth), self.of(settings, depth)]

    def _of_class(self, kind: type, depth: int) -> Any:
        """The name, and of a user's class the members that the methods use that are called."""
        if not is_own(kind):
            return name_of(kind)
        members: dict[str, Any] = {}
        for base in reversed(kind.__mro__):
            members |= vars(base) if is_own(base) else {}
        used = reachable(members, ENTRANCES)
        return [name_of(kind), {name: self.of(members[name], depth) for name in used}]

    def _of_instance(self, value: Any, depth: int) -> Any:
        """Class and attributes; of a torch module also the tensors."""
        if is_module(value):
            tensors = hash_tensors({**value.state_dict(), **dict(value.named_buffers())})
            return [tensors, self.of_module(value, depth)]
        held = getattr(value, "__dict__", {})
        if is_own(type(value)):
            return [self.of(type(value), depth), self._of_attributes(held, depth)]
        return [name_of(value), self.of(held.get("__wrapped__"), depth)]  # such as lru_cache

    def _of_attributes(self, attributes: Mapping[str, Any], depth: int) -> dict[str, Any]:
        return {
            name: self.of(value, depth)
            for name, value in sorted(attributes.items())
            if name not in OF_OBJECTS
        }


def parts_of(value: Any) -> list[Any] | None:
    """What an object consists of that is nothing beside these parts; None for other objects."""
    import torch

    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, partial):
        return [value.func, value.args, value.keywords]
    if isinstance(value, MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, staticmethod | classmethod):
        return [value.__func__]
    if isinstance(value, property):
        return [value.fget]
    if isinstance(value, SimpleNamespace):
        return [vars(value)]
    if isinstance(value, Enum | np.generic | range | complex | torch.dtype):
        return [str(value)]
    return None


def figures_of(config: Any) -> Any:
    """A config, at every depth, without the fields that move no logit."""
    if isinstance(config, Mapping):
        return {
            str(name): figures_of(value) for name, value in config.items()
            if name not in NO_MATTER and (name, value) != ("pad_token_id", None)
        }  # fmt: skip
    return [figures_of(item) for item in config] if isinstance(config, list | tuple) else config


def name_of(value: Any) -> str:
    """The name of a function or class, or of the class of another object."""
    return str(getattr(value, "__qualname__", type(value).__qualname__))


def contents_of(cell: Any) -> Any:
    """What a cell of a closure holds; None if it is empty."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def is_data(value: Any) -> bool:
    """Whether a global is an array too large for a setting, or lies in a file."""
    return is_array(value) and (isinstance(value, np.memmap) or value.nbytes > MAX_GLOBAL)
