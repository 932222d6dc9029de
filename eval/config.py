"""Every option of a score, once: for Python, for the command line, and for a TOML file."""

import argparse
import tomllib
from collections.abc import Container, Mapping
from dataclasses import Field, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from reprlib import Repr
from types import NoneType
from typing import Any, TypeVar, get_args, get_type_hints

from ngrammix.experts.chain import ALL, CHOICES
from quant.io.codecs import CODECS
from quant.models.recipe import RECIPES

AnyRun = TypeVar("AnyRun", bound="RunConfig")

WINDOWS = ("document", "stream")
MIXER_NONE = "none"  # --mixer: the model alone
MODEL_NONE = "none"  # --model: the cache alone
MAX_FILE = 1 << 20  # bytes of a TOML file
SHOWN = Repr()  # the beginning of a value that may be long, or tables within tables
SHOWN.maxstring = 200


def option(default: Any, text: str, metavar: str | None = None, **more: Any) -> Any:
    """A field of a configuration, and how the command line speaks of it."""
    return field(default=default, metadata={"help": text, "metavar": metavar, **more})


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """How to score: all of it moves the figures, and stands in the signature.

    Raises
    ------
    ValueError
        If a value is of the wrong type or out of range.
    """

    mixer: str = option(
        ALL,
        "what the mixture is made of, such as gate+guard; none: the model alone",
        "EXPERTS",
        choices=(*CHOICES, MIXER_NONE),
    )
    order: int = option(7, "length of the longest n-gram, predicted token included", "N")
    memory_limit: str | int | None = option(
        None,
        'most that the cache may take, such as "2GiB"; it forgets to stay within (no limit)',
        "BYTES",
    )
    windows: str = option(
        "document",
        "document: no context reaches from one into the next; stream: one text, in which the "
        "tokens that begin documents are scored too",
        choices=WINDOWS,
    )
    context: int | None = option(
        None, "most tokens that the model reads at once (all that it can)", "N", least=1
    )
    stride: int | None = option(
        None,
        "new tokens a window; fewer give each more context and take longer (half the context)",
        "N",
        least=1,
    )
    batch: int = option(8, "windows that go through the model together", "N", least=1)
    limit: int | None = option(None, "score the first N tokens alone (all)", "N", least=1)

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for setting in fields(self):
            check_value(setting, hints[setting.name], getattr(self, setting.name))


@dataclass(frozen=True, kw_only=True)
class RunConfig(ScoreConfig):
    """A whole run: how to score, and where model and data come from and results go to."""

    model: str = option(
        "demo",
        "demo; none (the cache alone, on raw bytes); a Hugging Face directory or name; or "
        "package.module:factory",
        "M",
    )
    data: tuple[str, ...] = option(
        (),
        "text files, .jsonl, .jsonl.zst, .parquet, token shards .bin, .npy, a directory or name of "
        "a Hugging Face data set, or - for standard input",
        "D",
    )
    tokenizer: str | None = option(
        None, "tokenizer.json, SentencePiece .model, or bytes (the model's own)", "FILE"
    )
    quantized: str | None = option(
        None,
        "replace the weights of the model by those that ngrammix quantize wrote",
        "DIR",
    )
    column: str = option("text", "column of a table that holds the text", "NAME")
    split: str | None = option(None, "split of a data set", "NAME")
    bos: int | None = option(
        None, "token that begins a document (the tokenizer's own)", "ID", least=0
    )
    token_bytes: str | None = option(
        None, "raw bytes of each token of --data, a .bin or .npy as long as it", "FILE"
    )
    skip_empty: bool = option(False, "leave documents without a byte out")
    device: str | None = option(None, "where the model runs, such as cuda or cpu", "NAME")
    dtype: str | None = option(
        None, "of the model's weights, such as bfloat16 (float32 on a processor)", "NAME"
    )
    download: bool = option(False, "let models and data sets be fetched by name")
    trust_remote_code: bool = option(False, "let a Hugging Face model run its own code")
    out: str | None = option(None, "write result.json, tokens.csv and documents.csv there", "DIR")
    checkpoint: str | None = option(
        None, "keep there what an interrupted run needs to go on, with the same result", "DIR"
    )
    checkpoint_every: int = option(
        1_000_000, "tokens from one checkpoint to the next", "N", least=1
    )
    threads: int = option(
        1, "CPU threads of the n-gram cache, 1 or 2; the figures are the same", choices=(1, 2)
    )
    log: tuple[str, ...] = option(
        (), "tell wandb, mlflow or tensorboard:DIR of the progress", "NAME"
    )


@dataclass(frozen=True, kw_only=True)
class QuantizeConfig(RunConfig):
    """A run that quantizes too."""

    recipe: tuple[str, ...] = option(
        ("gptq-int6",), "how the weights are quantized: " + ", ".join(RECIPES), "NAME"
    )
    calibrate: tuple[str, ...] = option(
        (), "data that GPTQ is calibrated on, as --data (text that the model makes up)", "D"
    )
    calibration_tokens: int = option(16_384, "how much of it", "N", least=1)
    seed: int = option(0, "of what is drawn", "N", least=0)
    codec: str = option("best", "what compresses the file", choices=("best", *CODECS))


def check_value(setting: Field[Any], hint: Any, value: Any) -> None:
    """Raise ValueError unless `value` is of the field's type, choices and range."""
    name, allowed = setting.name, get_args(hint) or (hint,)
    if hint == tuple[str, ...]:
        is_right = isinstance(value, tuple) and all(isinstance(v, str) for v in value)
        wanted = "a list of text"
    else:
        is_right = type(value) in allowed
        wanted = " or ".join(kind.__name__ for kind in allowed if kind is not NoneType)
    if not is_right:
        raise ValueError(f"{name} must be {wanted}, got {SHOWN.repr(value)}; correct the option")
    choices, least = setting.metadata.get("choices"), setting.metadata.get("least")
    if choices and value not in choices:
        raise ValueError(
            f"{name} must be one of {', '.join(map(str, choices))}, got {value!r}; "
            f"leave it out for {setting.default}"
        )
    if least is not None and value is not None and value < least:
        raise ValueError(f"{name} must be >= {least}, got {value}; leave it out for the default")


def add_options(
    parser: argparse.ArgumentParser,
    config: type[ScoreConfig],
    names: Container[str] | None = None,
) -> None:
    """Add an option to the parser for each field of the dataclass, or for the named fields.

    An option that the user leaves out is absent from the parsed namespace.
    """
    hints = get_type_hints(config)
    for setting in fields(config):
        if names is not None and setting.name not in names:
            continue
        flag, help_text = f"--{setting.name.replace('_', '-')}", setting.metadata["help"]
        kinds = get_args(hints[setting.name]) or (hints[setting.name],)
        if bool in kinds:
            parser.add_argument(
                flag,
                action=argparse.BooleanOptionalAction,
                default=argparse.SUPPRESS,
                help=help_text,
            )
            continue
        if setting.default not in (None, ()):
            default = setting.default if isinstance(setting.default, tuple) else [setting.default]
            help_text += f" ({' '.join(map(str, default))})"
        parser.add_argument(
            flag,
            default=argparse.SUPPRESS,
            type=str if str in kinds else int,
            nargs="+" if hints[setting.name] == tuple[str, ...] else None,
            choices=setting.metadata.get("choices"),
            metavar=setting.metadata["metavar"],
            help=help_text,
        )


def make_config(kind: type[AnyRun], options: Mapping[str, Any], path: str | None = None) -> AnyRun:
    """Configuration from a TOML file, if there is one, and from options, which overrule it.

    Raises
    ------
    ValueError
        If the file is missing or no TOML, has a key that is no option, or a value is wrong.
    """
    table = {} if path is None else read_toml(Path(path))
    names = [setting.name for setting in fields(kind)]
    for key in table:
        if key not in names:
            near = get_close_matches(key, names, 1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(names)}"
            raise ValueError(f"{path} must hold options alone, got {key}; {hint}")
    chosen = table | {name: options[name] for name in names if name in options}
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in chosen.items()
    }
    return kind(**values)


def read_toml(path: Path) -> dict[str, Any]:
    """Table of a TOML file; ValueError if it is missing, too large or none."""
    if not path.is_file():
        raise ValueError(f"--config must be a file, got {path}; check the path")
    if (size := path.stat().st_size) > MAX_FILE:
        raise ValueError(
            f"--config must have at most {MAX_FILE} bytes, got {size} in {path}; is it the one?"
        )
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    # Of tomllib, of the decoding, of a number of too many digits; of brackets within brackets.
    except (ValueError, RecursionError) as error:
        raise ValueError(f"--config must be TOML, got {path}: {error}; correct it") from error
