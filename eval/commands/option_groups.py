"""Options of a command by the fields of a configuration, in the groups of its help."""

import argparse
from collections.abc import Container
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

from eval.config import ScoreConfig
from eval.fields import expand_home

# The groups of --help in their order: title, and the options in theirs.
GROUPS = {
    "model": (
        "model", "tokenizer", "pre_tokenizer", "quantized", "device", "dtype", "download",
        "trust_remote_code", "allow_probabilities", "causality_check",
    ),
    "data": ("data", "format", "column", "split", "bos", "skip_empty", "on_bad_row"),
    "token files": (
        "token_dtype", "document_end", "token_bytes", "token_bytes_per", "token_check",
    ),
    "windows": ("windows", "context", "stride", "batch", "logits_memory", "limit"),
    "cache and mixer": ("mixer", "order", "memory_limit", "threads"),
    "quantizer": (
        "recipe", "keep", "rule", "strict", "calibrate", "calibration_tokens", "calibration_batch",
        "seed", "codec",
    ),
    "output": ("out", "export", "export_format", "tokens", "overwrite", "log"),
    "run": ("checkpoint", "checkpoint_every"),
}  # fmt: skip


def add_options(
    parser: argparse.ArgumentParser,
    config: type[ScoreConfig],
    names: Container[str] | None = None,
) -> dict[str, Any]:
    """Add an option to the parser for each field of the dataclass, or for the named fields.

    An option that the user leaves out is absent from the parsed arguments. Returns the groups of
    the help by title, for further options.
    """
    hints = get_type_hints(config)
    by_name = {field.name: field for field in fields(config)}
    listed = {name for members in GROUPS.values() for name in members}
    others = tuple(name for name in by_name if name not in listed)  # a test says: none
    groups: dict[str, Any] = {}
    for title, members in {**GROUPS, "others": others}.items():
        groups[title] = parser.add_argument_group(title)
        for name in members:
            if name in by_name and (names is None or name in names):
                add_option(groups[title], by_name[name], hints[name])
    return groups


def add_option(group: Any, field: Any, hint: Any) -> None:
    """Add one field of a configuration to a group of a parser."""
    flag, text = f"--{field.name.replace('_', '-')}", field.metadata["help"]
    kinds = get_args(hint) or (hint,)
    if bool in kinds:
        group.add_argument(
            flag, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=text
        )
        return
    if field.default not in (None, ()):
        default = field.default if isinstance(field.default, tuple) else [field.default]
        text += f" ({' '.join(map(str, default))})"
    is_list = hint == tuple[str, ...]
    group.add_argument(
        flag,
        default=argparse.SUPPRESS,
        action="extend" if is_list else "store",  # given twice, all of the values count
        type=str if str in kinds else int,
        nargs="+" if is_list else None,
        choices=field.metadata.get("choices"),
        metavar=field.metadata["metavar"],
        help=text,
    )


def user_path(text: str) -> Path:
    """The path that a user wrote; ``~`` is the home directory."""
    return Path(expand_home(text))


def add_output(group: Any, files: str) -> None:
    """Add ``--out``, the folder of these files, and ``--json``."""
    group.add_argument("--out", type=user_path, metavar="DIR", help=f"write {files} there")
    add_flag(group, "--overwrite", "replace the results of another run in --out")
    add_json(group)


def add_flag(group: Any, flag: str, text: str) -> None:
    """Add an option without a value; left out, it is absent from the parsed arguments."""
    group.add_argument(flag, action="store_true", default=argparse.SUPPRESS, help=text)


def add_json(group: Any) -> None:
    """Add ``--json``."""
    group.add_argument("--json", action="store_true", help="print JSON instead of the table")


def add_config(group: Any) -> None:
    """Add ``--config``."""
    group.add_argument("--config", metavar="FILE", help="TOML file of these options")
