"""The conditions of a run: all that moves a figure, in its result, signature and checkpoint.

An option says itself what it moves, see `eval.fields.option`. One that moves figures is a condition
of its own. What the others move is held by: the hash of the data, and of the tokens that a resumed
run replays; the names of tokenizer and model, which have hashes; dtype, device and BOS as they are.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, NamedTuple

from eval.config import ERROR, MIXER_NONE, RunConfig, ScoreConfig
from eval.data.base import Data
from eval.models.base import Model
from eval.models.numerics import NUMERICS, numerics_of
from eval.scoring.windows import WindowShape
from eval.tokenizers.base import Tokenizer
from eval.tokenizers.default_order import order_for
from ngrammix.auditing.environment import versions
from ngrammix.checks import as_bytes
from ngrammix.version import __version__

# Conditions that a signature shows: the model, and how the text is cut for it.
OF_SOURCE = (
    "model", "dtype", "device", "tokenizer", "bos", "windows", "context", "stride", "limit",
)  # fmt: skip
NAMES_ONLY = ("data", "first_skipped")  # say where the data are, not what they hold
OPTIONS = tuple(field.name for field in fields(ScoreConfig) if field.metadata["moves"] == "figures")
# The keys of a result that are conditions, in the order in which a change is looked for: an earlier
# one explains a later one. The data and their hash are known when they have been read.
CONDITIONS = (
    "versions", "data", "data_sha256", "rows_skipped", "on_bad_row", *NUMERICS, "model",
    "tokenizer", *OPTIONS,
)  # fmt: skip


def flag_of(condition: str) -> str:
    """A condition as the user names it: ``--memory-limit``; or ``versions``, which is no option."""
    is_option = any(field.name == condition for field in fields(RunConfig))
    return f"--{condition.replace('_', '-')}" if is_option else condition


def flags(moved: str) -> str:
    """The options that move the data, the tokenizer or the model, as the user names them."""
    moving = [field.name for field in fields(RunConfig) if field.metadata["moves"] == moved]
    return ", ".join(map(flag_of, moving))


# How to come back to a condition, where that takes more than to pass the option again.
MENDS = {
    "versions": "install the same versions",
    "hardware": "use the same kind of machine",
    "torch_threads": "set OMP_NUM_THREADS={value}",
    "torch_settings": "set the same flags of torch and variables of the environment",
    **{kind: f"pass the same {flags(kind)}" for kind in ("data", "tokenizer")},
    "model": f"pass the same {flags('model')}, with the same weights, config.json and code",
}


class Change(NamedTuple):
    """A condition of a run that changed: as the user names it, both values, and the mend."""

    label: str
    before: Any
    now: Any
    mend: str


def run_conditions(
    model: Model | None,
    tokenizer: Tokenizer,
    data: Data,
    config: ScoreConfig,
    shape: WindowShape,
) -> dict[str, Any]:
    """Every condition that is known before the data are read; a resumed run must have the same."""
    conditions = {name: getattr(config, name) for name in OPTIONS} | {
        "context": shape.context, "stride": shape.stride, "bos": shape.bos,
        "logits_memory": shape.logits_memory,
        "order": order_for(config.order, tokenizer if model is None else None),
    }  # fmt: skip
    if config.memory_limit is not None:
        conditions["memory_limit"] = as_bytes(config.memory_limit)
    if model is None:
        conditions |= {"mixer": MIXER_NONE, "context": None, "stride": None}
        conditions["causality_check"] = None
    elif config.mixer == MIXER_NONE:
        conditions |= {"order": None, "memory_limit": None}
    conditions |= numerics_of(model) | {
        "data": data.name,
        "on_bad_row": getattr(data, "on_bad_row", ERROR),
        "model": "none" if model is None else model.name,
        "tokenizer": tokenizer.name,
        "versions": versions(),
    }
    return {name: conditions[name] for name in CONDITIONS if name in conditions}


def hash_conditions(conditions: Mapping[str, Any]) -> str:
    """8 hex digits of the hash of every condition but the names of the data."""
    held = {name: value for name, value in conditions.items() if name not in NAMES_ONLY}
    return hashlib.sha256(json.dumps(held, sort_keys=True).encode()).hexdigest()[:8]


def end_of_signature(conditions: Mapping[str, Any]) -> dict[str, Any]:
    """The last fields of a signature: what is unusual, the version, the hash of all conditions."""
    return {
        "memory": conditions["memory_limit"],
        "probabilities": "allowed" if conditions["allow_probabilities"] else None,
        "token-check": "off" if conditions.get("token_check") is False else None,
        "causality": "unchecked" if conditions.get("causality_check") is False else None,
        "version": __version__,
        "conditions": hash_conditions(conditions),
    }


def find_change(before: Mapping[str, Any], now: Mapping[str, Any]) -> Change | None:
    """The first condition of a run that has another value now; None if there is none."""
    for name in [*now, *(name for name in before if name not in now)]:
        old, new = before.get(name), now.get(name)
        if old != new:
            label = flag_of(name)
            mend = MENDS[name].format(value=old) if name in MENDS else how_to_pass(label, old)
            return Change(label, old, new, mend)
    return None


def how_to_pass(flag: str, value: Any) -> str:
    """How to give an option a value on the command line."""
    if value is None:
        return f"pass {flag} none" if flag == "--bos" else f"leave {flag} out"
    if isinstance(value, bool):
        return f"pass {flag if value else flag.replace('--', '--no-', 1)}"
    return f"pass {flag} {value}"
