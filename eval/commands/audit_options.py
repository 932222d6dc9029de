"""The options of ``ngrammix audit``, and which of them go together."""

import argparse
from collections.abc import Mapping
from typing import Any

from eval.commands.option_groups import add_flag, add_options, user_path
from eval.config import RunConfig

FORMATS = {"text": "audit.txt", "markdown": "audit.md", "json": "audit.json"}
# Options of ``score`` that ``audit`` has too.
OF_SCORE = (
    "model", "tokenizer", "pre_tokenizer", "device", "dtype", "download", "trust_remote_code",
    "data", "column", "split", "bos", "token_dtype", "token_bytes", "token_bytes_per", "windows",
    "context", "stride", "batch", "mixer", "order", "memory_limit",
)  # fmt: skip
STREAM = {"tokens", "token_dtype", "tokenizer", "pre_tokenizer", "column", "limit", "vocab_size"}
MODEL = {"model", "tokenizer", "pre_tokenizer", "device", "dtype", "download", "trust_remote_code",
         "context"}  # fmt: skip
CODED = {"stepper", "bos", "windows", "stride", "mixer", "order", "memory_limit", "vocab_size"}
SEARCH = {"seed", "budget", "positions"}
OUTPUT = {"out", "overwrite", "format"}
# What is audited, by the option that names it: the options that go with it.
KINDS: dict[str, set[str]] = {
    "scorer": {"scorer", "probs", "stepper"} | STREAM | SEARCH | OUTPUT,
    "model": MODEL | STREAM | {"batch", "seed", "budget"} | OUTPUT,
    "self": {"self", "order"} | STREAM | SEARCH | OUTPUT,
    "log": {"log", "n_tokens", "n_bytes"} | OUTPUT,
    "bytes": {"bytes", "data", "column", "split", "tokenizer", "pre_tokenizer", "token_bytes",
              "token_bytes_per"} | OUTPUT,
    "codec": {"codec", "keep", "data", "split", "budget"} | MODEL | CODED | STREAM | OUTPUT,
    "decode": {"decode"} | MODEL | CODED | OUTPUT,
    "replay": {"replay", "scorer", "probs", "stepper", "token_bytes", "budget"} | MODEL | OUTPUT,
}  # fmt: skip


def add_audit(parser: argparse.ArgumentParser) -> None:
    """Options of ``ngrammix audit``."""
    group = parser.add_argument_group("what is audited: one of these")
    add(group, "--scorer", "NAME", "package.module:function, from ids (n,) to nats (n,)")
    add(group, "--log", "FILE", "published log lines, or - for standard input")
    add_flag(group, "--self", "our own mixers, with every choice of experts")
    add_flag(group, "--bytes", "the bytes of the tokens of --data, by --tokenizer or --token-bytes")
    add_flag(group, "--codec", "a model or a stepper: really code the tokens, and decode them")
    add(group, "--decode", "FILE", "what --codec --keep has written: decode it into --out, .npy")
    add(group, "--replay", "FILE", "audit.json: show its witnesses again, on what it is about")
    group = parser.add_argument_group("with --scorer")
    add(group, "--probs", "NAME", "package.module:function, from a prefix to probabilities (V,)")
    add(group, "--stepper", "NAME", "package.module:factory of probs() and commit(token); also "
        "without --scorer, or with --codec")  # fmt: skip
    group = parser.add_argument_group("with --log")
    add(group, "--n-tokens", "N", "tokens that were scored, where no line has them", int)
    add(group, "--n-bytes", "N", "raw bytes of their text, where no line has them", int)
    group = parser.add_argument_group("the stream")
    add(group, "--tokens", "FILE", "ids as in score --data, or a text with --tokenizer (made for "
        "the audit: repeats, edges, rare tokens)")  # fmt: skip
    add(group, "--vocab-size", "V", "number of ids (that of the tokenizer)", int)
    add(group, "--limit", "N", "take the first N tokens only (4096)", int)
    group = parser.add_argument_group("the search")
    add(group, "--seed", "N", "seed of the random numbers (0)", int)
    add(group, "--budget", "SECONDS", "time of the audit (50)", float)
    add(group, "--positions", "N", "positions that each check tests, at most (4096)", int)
    groups = add_options(parser, RunConfig, OF_SCORE)
    add(groups["output"], "--out", "PATH", "a folder for audit.txt, audit.md and audit.json; or "
        "one file .txt, .md or .json", user_path)  # fmt: skip
    add_flag(groups["output"], "--overwrite", "replace the results of another run in --out")
    groups["output"].add_argument(
        "--format", choices=FORMATS, default=argparse.SUPPRESS, help="what is printed (text)"
    )
    add(groups["output"], "--keep", "FILE", "with --codec: keep the code there", user_path)


def add(group: Any, flag: str, metavar: str, text: str, kind: Any = str) -> None:
    """Add an option with a value; left out, it is absent from the parsed arguments."""
    group.add_argument(flag, metavar=metavar, type=kind, default=argparse.SUPPRESS, help=text)


def kind_of(options: Mapping[str, Any]) -> str:
    """What the options ask to audit; ValueError if it is nothing, or they do not go together."""
    asked = [name for name in ("self", "log", "bytes", "codec", "decode", "replay")
             if name in options]  # fmt: skip
    if not asked:
        asked = ["scorer"] if "scorer" in options or "stepper" in options else asked
        asked += ["model"] if "model" in options else []
    if len(asked) != 1:
        got = " and ".join(f"--{name}" for name in asked) or "none"
        raise ValueError(
            f"an audit must be of one thing, got {got}; name one of --scorer, --model, --self, "
            "--log, --bytes, --codec, --decode, --replay"
        )
    kind = asked[0]
    for name in options:
        if name not in KINDS[kind]:
            with_it = " or ".join(f"--{other}" for other in KINDS if name in KINDS[other])
            raise ValueError(
                f"--{name.replace('_', '-')} goes with {with_it}, got --{kind}; leave it out"
            )
    return kind
