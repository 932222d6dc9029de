"""The options of every command; imports no model, data or kernel, so that ``--help`` is fast."""

import argparse
from collections.abc import Callable
from dataclasses import fields

from eval.commands.audit_options import add_audit
from eval.commands.benches import add_bench
from eval.commands.option_groups import (
    add_config,
    add_flag,
    add_json,
    add_options,
    add_output,
    user_path,
)
from eval.comparing.names import DEFAULT
from eval.config import QuantizeConfig, RunConfig, ScoreConfig
from eval.quantizer_options import DEQUANTIZED, EXPORT_FORMATS

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
    "causality_check", "recipe", "keep", "rule", "strict", "calibrate", "calibration_tokens",
    "calibration_batch", "seed", "codec", "logits_memory", "out", "export", "export_format",
    "overwrite", "checkpoint",
)  # fmt: skip
NOT_OF_PIPELINE = (
    "quantized", "out", "export", "export_format", "tokens", "overwrite", "checkpoint_every", "log",
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
    add_config(groups["run"])


def add_dequantize(parser: argparse.ArgumentParser) -> None:
    """Options of ``ngrammix dequantize``."""
    parser.add_argument(
        "file", type=user_path, metavar="FILE", help="what quantize --out wrote, or its folder"
    )
    parser.add_argument(
        "--out", type=user_path, required=True, metavar="DIR", help="the folder that is written"
    )
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help="the model of Hugging Face that was quantized: its config and tokenizer go along "
        "(none: model.safetensors alone)",
    )
    parser.add_argument(
        "--dtype",
        metavar="NAME",
        help="dtype of the weights, such as bfloat16 (with --model float32, else their own)",
    )
    parser.add_argument(
        "--export-format",
        choices=EXPORT_FORMATS,
        default=DEQUANTIZED,
        help="weights, as numbers or, with --model, packed for the library compressed-tensors "
        "(default: %(default)s)",
    )
    add_flag(parser, "--overwrite", "replace an earlier export in --out")
    add_flag(parser, "--download", "allow the model to be downloaded by name")
    add_flag(parser, "--trust-remote-code", "let a Hugging Face model run its own code")


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
            "--recipe gptq-int4 --keep 'blocks.0' --rule 'embedding=int8' --out small",
        ),
    ),
    "dequantize": (
        add_dequantize,
        (
            "small --model ./llama --out llama-int6",
            "small --model ./llama --dtype bfloat16 --out llama-int6",
            "small/model.ngq --out weights",
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
    "audit": (
        add_audit,
        (
            "--scorer solution:score --tokens val.bin --vocab-size 1024 --out audit",
            "--model train:make --context 1024",
            "--log train.log",
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
