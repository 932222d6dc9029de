"""The options of every command; imports no model, data or kernel, so that ``--help`` is fast."""

import argparse
from collections.abc import Callable, Container
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

from eval.commands.benches import add_bench
from eval.comparing.names import DEFAULT
from eval.config import QuantizeConfig, RunConfig, ScoreConfig
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
    "quantizer": ("recipe", "calibrate", "calibration_tokens", "seed", "codec"),
    "output": ("out", "tokens", "overwrite", "log"),
    "run": ("checkpoint", "checkpoint_every"),
}  # fmt: skip
# Options of ``score`` that ``compare`` has with --data and with --logits, and those with --data.
WITH_BOTH = ("order", "memory_limit", "bos", "allow_probabilities")
WITH_DATA = (
    "model", "tokenizer", "pre_tokenizer", "windows", "context", "stride", "batch",
    "logits_memory", "limit", "format", "column", "split", "token_dtype", "document_end",
    "token_bytes", "token_bytes_per", "token_check", "skip_empty", "on_bad_row", "device", "dtype",
    "download", "trust_remote_code", "causality_check",
)  # fmt: skip
# Options of ``quantize`` beside its own, and options of ``score`` that ``pipeline`` lacks.
OF_QUANTIZE = (
    "model", "tokenizer", "pre_tokenizer", "bos", "context", "format", "column", "split",
    "token_dtype", "document_end", "device", "dtype", "download", "trust_remote_code",
    "causality_check", "recipe", "calibrate", "calibration_tokens", "seed", "codec",
    "logits_memory", "out", "overwrite",
)  # fmt: skip
NOT_OF_PIPELINE = (
    "quantized", "out", "tokens", "overwrite", "checkpoint", "checkpoint_every", "log",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser, command: str) -> None:
    """Add the options of a command, with examples below them."""
    add, examples = COMMANDS[command]
    add(parser)
    if command not in (
        "bench",
        "plot",
        "completion",
    ):  # there are too many options to list them twice
        parser.usage = f"{parser.prog} [options]"
    lines = [f"  ngrammix {command} {line}".rstrip() for line in examples]
    parser.epilog = "\n".join(["examples:", *lines])


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


def add_demo(parser: argparse.ArgumentParser) -> None:
    """Options of ``ngrammix demo``."""
    groups = add_options(parser, ScoreConfig)
    add_output(groups["output"], "result.json and documents.csv")
    add_flag(groups["output"], "--tokens", "write tokens.csv there too, one line a token")


def add_score(parser: argparse.ArgumentParser) -> None:
    """Options of ``ngrammix score``."""
    groups = add_options(parser, RunConfig)
    add_json(groups["output"])
    add_config(groups["run"])


def add_quantize(parser: argparse.ArgumentParser) -> None:
    """Options of ``ngrammix quantize``."""
    groups = add_options(parser, QuantizeConfig, OF_QUANTIZE)
    add_json(groups["output"])


def add_pipeline(parser: argparse.ArgumentParser) -> None:
    """Options of ``ngrammix pipeline``."""
    names = [field.name for field in fields(QuantizeConfig) if field.name not in NOT_OF_PIPELINE]
    groups = add_options(parser, QuantizeConfig, names)
    add_output(groups["output"], "pipeline.json and the quantized weights")
    add_config(groups["run"])


def add_compare(parser: argparse.ArgumentParser) -> None:
    """Options of ``ngrammix compare``."""
    source = parser.add_argument_group("what is scored: data with a model, or saved logits")
    either = source.add_mutually_exclusive_group(required=True)
    either.add_argument("--data", nargs="+", action="extend", metavar="DATA", help="as in score")
    either.add_argument(
        "--logits",
        metavar="FILE",
        help=".npy (T, V) of float16, float32 or float64: row t is for token t",
    )
    saved = parser.add_argument_group("with --logits")
    saved.add_argument(
        "--tokens", metavar="FILE", help=".npy (T,) of integers, or a Parameter Golf shard .bin"
    )
    saved.add_argument(
        "--bytes",
        type=int,
        metavar="N",
        help="raw bytes of the text (default: unknown; the figures are bits per token)",
    )
    saved.add_argument(
        "--prefill",
        nargs="+",
        action="extend",
        metavar="FILE",
        help=".npy or .bin: tokens that every cache learns before the first score, in this order",
    )
    groups = add_options(parser, RunConfig, (*WITH_BOTH, *WITH_DATA))
    groups["cache and mixer"].add_argument(
        "--mixers",
        default=",".join(DEFAULT),
        metavar="NAMES",
        help="the mixers; the others are compared with the first (default: %(default)s)",
    )
    add_output(groups["output"], "compare.json")


def add_plot(parser: argparse.ArgumentParser) -> None:
    """Options of ``ngrammix plot``."""
    parser.add_argument(
        "folders",
        type=user_path,
        nargs="+",
        metavar="DIR",
        help="what score --out DIR --tokens wrote, one a line",
    )
    parser.add_argument(
        "--out",
        type=user_path,
        required=True,
        metavar="FILE",
        help="the picture: .svg, .png or .pdf",
    )
    parser.add_argument(
        "--kind",
        choices=("saved", "bpb"),
        default="saved",
        help="bits saved so far, or bits per byte of the text so far (default: %(default)s)",
    )
    parser.add_argument(
        "--labels", nargs="+", metavar="NAME", help="of the texts (default: the folders' names)"
    )


def add_completion(parser: argparse.ArgumentParser) -> None:
    """The shell of ``ngrammix completion``."""
    parser.add_argument("shell", choices=("bash", "zsh", "fish", "tcsh"), help="the shell")


# What adds the options of a command, and its examples.
COMMANDS: dict[str, tuple[Callable[[argparse.ArgumentParser], None], tuple[str, ...]]] = {
    "demo": (add_demo, ("", "--limit 20000 --order 5", "--out results")),
    "score": (
        add_score,
        (
            "--data book.txt",
            "--data val.jsonl.zst --model ./llama --device cuda --out results",
            "--data val.bin --model train:make --context 1024 --checkpoint saved",
        ),
    ),
    "quantize": (
        add_quantize,
        (
            "--recipe int6 --out small",
            "--model ./llama --calibrate train.txt --out small",
            "--model train:make --context 1024 --recipe gptq-int4 --out small",
        ),
    ),
    "pipeline": (
        add_pipeline,
        (
            "--data val.txt --recipe int8 gptq-int6",
            "--data val.txt --model ./llama --calibrate train.txt --out results",
            "--config run.toml --limit 100000",
        ),
    ),
    "compare": (
        add_compare,
        (
            "--data book.txt",
            "--data val.txt --model ./llama --mixers ngrammix,gate+guard,entropy",
            "--logits logits.npy --tokens tokens.npy --bytes 158557",
        ),
    ),
    "plot": (
        add_plot,
        (
            "results --out saved.svg",
            "results --kind bpb --out bpb.png",
            'small large --labels "small model" "large model" --out both.pdf',
        ),
    ),
    "bench": (add_bench, ("observe", "score --milliseconds 2", "scale --help")),
    "completion": (
        add_completion,
        (
            "bash > ~/.local/share/bash-completion/completions/ngrammix",
            "zsh > ~/.zfunc/_ngrammix",
            "fish > ~/.config/fish/completions/ngrammix.fish",
        ),
    ),
}
