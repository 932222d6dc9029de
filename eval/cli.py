"""The command ``ngrammix``."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tqdm import tqdm

from eval.bench import (
    codebooks,
    findings,
    gptq,
    match,
    memory,
    mix,
    observe,
    overlap,
    packing,
    ranks,
    read,
    scale,
)
from eval.bench import scalar as quant_bench
from eval.bench import score as added
from eval.commands import pipeline, plot, quantize
from eval.commands.from_config import load_data, load_model_of, tokenizer_of
from eval.comparing.compare import DEFAULT, check_names, compare
from eval.comparing.result import make_comparison_result
from eval.comparing.sources import SavedSource, Source, TextSource
from eval.config import MODEL_NONE, RunConfig, ScoreConfig, add_options, make_config
from eval.data.document import Document, Documents
from eval.distributed.ranks import Ranks, choose_gpu, find_rank, joined
from eval.models.load_model import load_demo
from eval.plugins.loggers import make_callback
from eval.scoring.result import Result
from eval.scoring.score import score
from eval.tables import make_folder

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
        if arguments.run is not run_score and (size := find_rank().size) > 1:
            raise ValueError(
                f"score alone runs on many ranks, got {size} of them; start this without torchrun"
            )
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
    add_options(demo, ScoreConfig)
    add_output(demo, "result.json, tokens.csv and documents.csv")

    scoring = commands.add_parser("score", help="score a data set with a model")
    scoring.set_defaults(run=run_score)
    scoring.add_argument("--config", metavar="FILE", help="TOML file of these options")
    add_options(scoring, RunConfig)
    add_json(scoring)

    smaller = commands.add_parser("quantize", help="write a model's weights as one small file")
    smaller.set_defaults(run=quantize.run)
    quantize.add_arguments(smaller)
    add_json(smaller)

    both = commands.add_parser("pipeline", help="quantize, then evaluate: before and after")
    both.set_defaults(run=lambda arguments: pipeline.run(arguments, BAR))
    pipeline.add_arguments(both)
    add_output(both, "pipeline.json and the quantized weights")

    versus = commands.add_parser("compare", help="many mixers on the same tokens and logits")
    versus.set_defaults(run=run_compare)
    add_compare(versus)
    add_output(versus, "compare.json")

    picture = commands.add_parser("plot", help="draw bits saved along the text")
    picture.set_defaults(run=plot.run)
    plot.add_arguments(picture)

    bench = commands.add_parser("bench", help="measure speed against peers in the same run")
    benches = bench.add_subparsers(required=True, metavar="BENCH")
    for name, module, files, what in (
        ("observe", observe, "observe.json", "NgramCache.observe and its peers"),
        ("scale", scale, "scale.json and scale.png", "time and memory as the stream grows"),
        ("memory", memory, "memory.json", "the bits that a memory limit costs"),
        ("mix", mix, "mix.json", "what the mixer costs beside a model, stage by stage"),
        ("match", match, "match.json", "speed and accuracy of the match model"),
        ("overlap", overlap, "overlap.json", "what the cache adds to the model's wall time"),
        ("read", read, "read.json", "how fast text becomes batches, by format and tokenizer"),
        ("score", added, "score.json", "what scoring adds to the model's wall time"),
        ("gptq", gptq, "gptq.json", "seconds and errors of GPTQ beside the published algorithm"),
        ("ranks", ranks, "ranks.json", "what the forward pass gains by ranks"),
        ("quant", quant_bench, "quant.json", "weights to codes and back"),
        ("packing", packing, "packing.json", "codes to bytes, and what compression makes of them"),
        ("codebooks", codebooks, "codebooks.json", "codebooks beside kmeans1d and faiss"),
        ("findings", findings, "findings.json", "what each quantizer costs, in BPB and bytes"),
    ):
        sub = benches.add_parser(name, help=what)
        module.add_arguments(sub)
        add_output(sub, files)
        sub.set_defaults(run=module.run)
    return command


def add_compare(sub: argparse.ArgumentParser) -> None:
    """Add the options of ``compare``."""
    data = sub.add_mutually_exclusive_group(required=True)
    data.add_argument("--data", nargs="+", metavar="D", help="as in score")
    data.add_argument(
        "--logits",
        metavar="FILE",
        help=".npy (T, V) of float16, float32 or float64: row t is for token t",
    )
    sub.add_argument(
        "--mixers",
        default=",".join(DEFAULT),
        metavar="NAMES",
        help="which, the first being what the others are measured by (default: %(default)s)",
    )
    add_options(sub, RunConfig, COMPARED)
    saved = sub.add_argument_group("with --logits")
    saved.add_argument(
        "--tokens", metavar="FILE", help=".npy (T,) of integers, or a Parameter Golf shard .bin"
    )
    saved.add_argument(
        "--bytes",
        type=int,
        metavar="N",
        help="raw bytes of the tokens (default: unknown; figures are in bits per token)",
    )
    saved.add_argument(
        "--prefill",
        nargs="+",
        metavar="FILE",
        help="tokens that every cache learns beforehand, in this order; .npy or .bin",
    )


# What ``compare`` shares with ``score``: of both kinds of data, and of --data alone.
WITH_BOTH = ("order", "memory_limit", "bos")
WITH_DATA = (
    "model", "tokenizer", "windows", "context", "stride", "limit", "column", "split",
    "token_bytes", "skip_empty", "device", "dtype", "download", "trust_remote_code",
)  # fmt: skip
COMPARED = (*WITH_BOTH, *WITH_DATA)


def add_output(sub: argparse.ArgumentParser, files: str) -> None:
    """Add the options that say where results go."""
    sub.add_argument("--out", type=Path, metavar="DIR", help=f"write {files} there")
    add_json(sub)


def add_json(sub: argparse.ArgumentParser) -> None:
    """Add the option of whoever reads with a program."""
    sub.add_argument("--json", action="store_true", help="print JSON instead of the table")


def run_demo(arguments: argparse.Namespace) -> None:
    """Score the Python language reference with the embedded model."""
    from eval.demo.reference_text import reference_text

    config = make_config(RunConfig, vars(arguments) | {"out": None})
    make_folder(arguments.out)
    name = "the Python language reference (pydoc_data.topics)"
    data = Documents([Document(name, reference_text())])
    with tqdm(**BAR) as bar:
        result = score(load_demo(), data, config, out=arguments.out, bar=bar)
    report(result, arguments.out, as_json=arguments.json)


def run_score(arguments: argparse.Namespace) -> None:
    """Score the user's data, on this rank or on as many as torchrun has started."""
    config = make_config(RunConfig, vars(arguments), arguments.config)
    place = find_rank()
    if place.size == 1:
        score_config(config, as_json=arguments.json)
        return
    if config.model == MODEL_NONE:
        raise ValueError(
            f"ranks share the work of a model, got --model none on {place.size} of them; start "
            "this without torchrun"
        )
    with joined(place) as team:
        choose_gpu(place, config.device)
        if place.rank == 0:
            score_config(config, as_json=arguments.json, team=team)
        elif (model := load_model_of(config)) is not None:
            team.serve(model)


def score_config(config: RunConfig, *, as_json: bool, team: Ranks | None = None) -> None:
    """Score what the configuration names, and report; with a team, as its rank 0."""
    out = None if config.out is None else Path(config.out)
    make_folder(out)
    callbacks = [make_callback(name) for name in config.log]
    model = load_model_of(config)
    tokenizer = tokenizer_of(config, model)
    data = load_data(config, tokenizer)
    with tqdm(**BAR) as bar:
        result = score(
            model,
            data,
            config,
            tokenizer=tokenizer,
            forward=None if team is None or model is None else team.lead(model),
            out=out,
            checkpoint=None if config.checkpoint is None else Path(config.checkpoint),
            checkpoint_every=config.checkpoint_every,
            n_threads=config.threads,
            callbacks=callbacks,
            bar=bar,
        )
    report(result, out, as_json=as_json)


def report(result: Result, out: Path | None, *, as_json: bool) -> None:
    """Write the result under --out and print it."""
    if out is not None:
        (out / "result.json").write_text(result.to_json(), encoding="utf-8")
    print(result.to_json() if as_json else result.table())  # noqa: T201


def run_compare(arguments: argparse.Namespace) -> None:
    """Compare mixers, print the standings, and write them under --out."""
    names = arguments.mixers.split(",")
    check_names(names)
    config = make_config(RunConfig, vars(arguments) | {"out": None, "data": arguments.data or ()})
    make_folder(arguments.out)
    source = compare_source(arguments, config)
    with tqdm(**BAR) as bar:
        comparison = compare(source, names, config.order, bar, memory_limit=config.memory_limit)
    standings = make_comparison_result(comparison, source)
    if arguments.out:
        (arguments.out / "compare.json").write_text(standings.to_json(), encoding="utf-8")
    print(standings.to_json() if arguments.json else standings.table())  # noqa: T201


def compare_source(arguments: argparse.Namespace, config: RunConfig) -> Source:
    """The data with their model, or the saved logits; ValueError if options do not fit."""
    given, other, needless = (
        ("--data", "--logits", ("tokens", "bytes", "prefill"))
        if config.data
        else ("--logits", "--data", WITH_DATA)
    )
    for name in needless:
        if getattr(arguments, name, None) is not None:
            option = name.replace("_", "-")
            raise ValueError(f"--{option} goes with {other}, got {given}; leave it out")
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
