"""The command ``ngrammix``."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tqdm import tqdm

from eval.bench import match, memory, mix, observe, overlap, scale
from eval.compare import DEFAULT, check_names, compare
from eval.data import Document, read_documents
from eval.models import load_demo
from eval.report import make_folder, make_result, write_tokens
from eval.score import score_bytes, score_model
from eval.sources import SavedSource, Source, TextSource
from eval.standings import make_standings

# On stderr; silent for two seconds, and wherever nobody watches.
BAR: dict[str, Any] = {"unit": " tokens", "unit_scale": True, "delay": 2, "disable": None}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 0, or 2 where the input was refused."""
    if argv is None:  # a process of our own
        # Threads that spin while they wait starve each other on shared cores (six times slower,
        # seen); the OpenMP of torch reads this once, when torch is loaded.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except (ValueError, OSError) as error:
        print(f"ngrammix: error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


def parser() -> argparse.ArgumentParser:
    """Parser of the whole command."""
    command = argparse.ArgumentParser(
        prog="ngrammix",
        description="Bits per byte of text: a language model with a score-first n-gram cache.",
    )
    command.add_argument("--version", action="version", version=f"ngrammix {version('ngrammix')}")
    commands = command.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="score the embedded text with the embedded model")
    demo.set_defaults(run=run_demo)
    score = commands.add_parser("score", help="score text files")
    score.set_defaults(run=run_score)
    score.add_argument(
        "--text", nargs="+", required=True, metavar="FILE", help="each file is one document"
    )
    score.add_argument(
        "--model",
        choices=["demo", "none"],
        default="demo",
        help="none: the cache alone, on raw bytes (default: %(default)s)",
    )
    versus = commands.add_parser("compare", help="many mixers on the same tokens and logits")
    versus.set_defaults(run=run_compare)
    add_compare(versus)
    for sub, files in (
        (demo, "result.json and tokens.csv"),
        (score, "result.json and tokens.csv"),
        (versus, "compare.json"),
    ):
        sub.add_argument(
            "--order",
            type=int,
            default=7,
            metavar="N",
            help="length of the longest n-gram, predicted token included (default: %(default)s)",
        )
        sub.add_argument(
            "--stride",
            type=int,
            metavar="N",
            help="new tokens a window; fewer give each more context and take longer "
            "(default: half of the model's context)",
        )
        sub.add_argument(
            "--memory-limit",
            metavar="BYTES",
            help='most that each cache may take, such as "2GiB"; it forgets to stay within '
            "(default: no limit)",
        )
        add_output(sub, files)

    bench = commands.add_parser("bench", help="measure speed against peers in the same run")
    benches = bench.add_subparsers(required=True, metavar="BENCH")
    for name, module, files, what in (
        ("observe", observe, "observe.json", "NgramCache.observe and its peers"),
        ("scale", scale, "scale.json and scale.png", "time and memory as the stream grows"),
        ("memory", memory, "memory.json", "the bits that a memory limit costs"),
        ("mix", mix, "mix.json", "what the mixer costs beside a model, stage by stage"),
        ("match", match, "match.json", "speed and accuracy of the match model"),
        ("overlap", overlap, "overlap.json", "what the cache adds to the model's wall time"),
    ):
        sub = benches.add_parser(name, help=what)
        module.add_arguments(sub)
        add_output(sub, files)
        sub.set_defaults(run=module.run)
    return command


def add_compare(sub: argparse.ArgumentParser) -> None:
    """Add the options of ``compare`` that ``score`` has not."""
    data = sub.add_mutually_exclusive_group(required=True)
    data.add_argument("--text", nargs="+", metavar="FILE", help="each file is one document")
    data.add_argument(
        "--logits",
        metavar="FILE",
        help=".npy (T, V) of float16, float32 or float64: row t is for token t",
    )
    sub.add_argument("--model", choices=["demo"], help="what reads --text (default: demo)")
    sub.add_argument(
        "--mixers",
        default=",".join(DEFAULT),
        metavar="NAMES",
        help="which, the first being what the others are measured by (default: %(default)s)",
    )
    saved = sub.add_argument_group("with --logits")
    saved.add_argument(
        "--tokens", metavar="FILE", help=".npy (T,) of integers, or a Parameter Golf shard .bin"
    )
    saved.add_argument(
        "--bytes",
        type=int,
        metavar="N",
        help="raw bytes that the tokens spell (default: unknown; figures are in bits per token)",
    )
    saved.add_argument(
        "--bos", type=int, metavar="ID", help="token that begins a document, for the errors alone"
    )
    saved.add_argument(
        "--prefill",
        nargs="+",
        metavar="FILE",
        help="tokens that every cache learns beforehand, in this order; .npy or .bin",
    )


def add_output(sub: argparse.ArgumentParser, files: str) -> None:
    """Add the options that say where results go."""
    sub.add_argument("--out", type=Path, metavar="DIR", help=f"write {files} there")
    sub.add_argument("--json", action="store_true", help="print JSON instead of the table")


def run_demo(arguments: argparse.Namespace) -> None:
    """Score the Python language reference with the embedded model."""
    from eval.demo.corpus import reference_text

    arguments.model = "demo"
    run(
        [Document("the Python language reference (pydoc_data.topics)", reference_text())], arguments
    )


def run_score(arguments: argparse.Namespace) -> None:
    """Score the user's files."""
    run(read_documents(arguments.text), arguments)


def run(documents: list[Document], arguments: argparse.Namespace) -> None:
    """Score `documents`, print the result, and write it under --out."""
    if arguments.model == "none" and arguments.stride is not None:
        raise ValueError("--stride is for a model's windows, got --model none; leave it out")
    make_folder(arguments.out)
    with tqdm(**BAR) as bar:
        if arguments.model == "none":
            score = score_bytes(
                documents, arguments.order, bar, memory_limit=arguments.memory_limit
            )
        else:
            model = load_demo()
            stride = arguments.stride if arguments.stride is not None else model.context // 2
            score = score_model(
                documents, model, arguments.order, stride, bar, memory_limit=arguments.memory_limit
            )
    result = make_result(score, documents)
    if arguments.out:
        (arguments.out / "result.json").write_text(result.to_json(), encoding="utf-8")
        with tqdm(**BAR, total=result.tokens, desc="tokens.csv") as bar:
            write_tokens(arguments.out / "tokens.csv", score.records, documents, bar)
    print(result.to_json() if arguments.json else result.table())  # noqa: T201


def run_compare(arguments: argparse.Namespace) -> None:
    """Compare mixers, print the standings, and write them under --out."""
    names = arguments.mixers.split(",")
    check_names(names)
    make_folder(arguments.out)
    source = compare_source(arguments)
    with tqdm(**BAR) as bar:
        comparison = compare(
            source, names, arguments.order, bar, memory_limit=arguments.memory_limit
        )
    standings = make_standings(comparison, source)
    if arguments.out:
        (arguments.out / "compare.json").write_text(standings.to_json(), encoding="utf-8")
    print(standings.to_json() if arguments.json else standings.table())  # noqa: T201


def compare_source(arguments: argparse.Namespace) -> Source:
    """The text with its model, or the saved logits; ValueError if options do not fit."""
    given, other, needless = (
        ("--text", "--logits", ("tokens", "bytes", "bos", "prefill"))
        if arguments.text
        else ("--logits", "--text", ("model", "stride"))
    )
    for option in needless:
        if getattr(arguments, option) is not None:
            raise ValueError(f"--{option} goes with {other}, got {given}; leave it out")
    if arguments.text:
        documents, model = read_documents(arguments.text), load_demo()
        stride = model.context // 2 if arguments.stride is None else arguments.stride
        return TextSource(documents, model, stride)
    if arguments.tokens is None:
        raise ValueError(
            "--logits needs --tokens, got none; name the file of the tokens that they are for"
        )
    return SavedSource(
        arguments.logits,
        arguments.tokens,
        n_bytes=arguments.bytes,
        bos=arguments.bos,
        prefill=arguments.prefill or (),
    )
