"""``ngrammix compare``: several mixers on the same tokens and the same logits."""

import argparse

from eval.commands.from_config import load_data, load_model_of, tokenizer_of
from eval.commands.output import add_output
from eval.comparing.comparison import DEFAULT, check_names, compare_source
from eval.comparing.result import make_comparison_result
from eval.comparing.sources import SavedSource, Source, TextSource
from eval.config import RunConfig, add_options, make_config
from eval.tables import make_folder

# Options of ``score`` that apply with --data and with --logits, and those that need --data.
WITH_BOTH = ("order", "memory_limit", "bos")
WITH_DATA = (
    "model", "tokenizer", "windows", "context", "stride", "limit", "column", "split",
    "token_bytes", "skip_empty", "device", "dtype", "download", "trust_remote_code",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument("--data", nargs="+", metavar="D", help="as in score")
    data.add_argument(
        "--logits",
        metavar="FILE",
        help=".npy (T, V) of float16, float32 or float64: row t is for token t",
    )
    parser.add_argument(
        "--mixers",
        default=",".join(DEFAULT),
        metavar="NAMES",
        help="the mixers; the others are compared with the first (default: %(default)s)",
    )
    add_options(parser, RunConfig, (*WITH_BOTH, *WITH_DATA))
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
        metavar="FILE",
        help=".npy or .bin: tokens that every cache learns before the first score, in this order",
    )
    add_output(parser, "compare.json")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Compare the mixers, write the result under --out, and print it."""
    names = arguments.mixers.split(",")
    check_names(names)
    config = make_config(RunConfig, vars(arguments) | {"out": None, "data": arguments.data or ()})
    make_folder(arguments.out)
    source = make_source(arguments, config)
    comparison = compare_source(
        source, names, config.order, memory_limit=config.memory_limit, progress=True
    )
    result = make_comparison_result(comparison, source)
    if arguments.out:
        (arguments.out / "compare.json").write_text(result.to_json(), encoding="utf-8")
    print(result.to_json() if arguments.json else result.table())  # noqa: T201


def make_source(arguments: argparse.Namespace, config: RunConfig) -> Source:
    """The data with a model, or the saved logits; ValueError if the options do not fit."""
    present, other, unused = (
        ("--data", "--logits", ("tokens", "bytes", "prefill"))
        if config.data
        else ("--logits", "--data", WITH_DATA)
    )
    for name in unused:
        if getattr(arguments, name, None) is not None:
            option = name.replace("_", "-")
            raise ValueError(f"--{option} goes with {other}, got {present}; leave it out")
    if config.data:
        model = load_model_of(config)
        if model is None:
            raise ValueError("mixers are compared beside a model, got --model none; name one")
        tokenizer = tokenizer_of(config, model)
        return TextSource(load_data(config, tokenizer), model, config, tokenizer)
    if arguments.tokens is None:
        raise ValueError(
            "--logits needs --tokens, got none; name the file of the tokens that they are for"
        )
    return SavedSource(
        arguments.logits,
        arguments.tokens,
        n_bytes=arguments.bytes,
        bos=config.bos,
        prefill=arguments.prefill or (),
    )
