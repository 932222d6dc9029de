"""``ngrammix compare``: several mixers on the same tokens and the same logits."""

import argparse

from eval.commands.from_config import check_data, load_data, load_model_of, tokenizer_of
from eval.commands.options import WITH_DATA
from eval.comparing.comparison import compare_source
from eval.comparing.names import check_names
from eval.comparing.result import make_comparison_result
from eval.comparing.sources import SavedSource, Source, TextSource
from eval.config import RunConfig, make_config
from eval.fields import expand_home, expand_paths
from eval.files.lock import hold
from eval.files.results import check_results, write_report
from eval.terminal import show

REPORT = "compare.json"


def run(arguments: argparse.Namespace) -> None:
    """Compare the mixers, write the result under --out, and print it."""
    names = arguments.mixers.split(",")
    check_names(names)
    config = make_config(
        RunConfig, vars(arguments) | {"out": None, "tokens": False, "data": arguments.data or ()}
    )
    with hold(out=arguments.out):
        check_results(arguments.out, (REPORT,), overwrite=config.overwrite)
        source = make_source(arguments, config)
        comparison = compare_source(
            source, names, config.order, memory_limit=config.memory_limit, progress=True
        )
        result = make_comparison_result(comparison, source)
        try:
            show(result.to_json() if arguments.json else result.table())
        finally:
            if arguments.out:
                write_report(arguments.out / REPORT, result.to_json())


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
        check_data(config)
        model = load_model_of(config)
        if model is None:
            raise ValueError("mixers are compared beside a model, got --model none; name one")
        tokenizer = tokenizer_of(config, model)
        return TextSource(load_data(config, tokenizer), model, config, tokenizer)
    if arguments.tokens is None:
        raise ValueError(
            "--logits needs --tokens, got none; name the file of the tokens that they are for"
        )
    if isinstance(config.bos, str):
        raise ValueError(
            f"--bos must be an id with --logits, got {config.bos!r}; no tokenizer tells its id"
        )
    return SavedSource(
        expand_home(arguments.logits),
        expand_home(arguments.tokens),
        n_bytes=arguments.bytes,
        bos=config.bos,
        prefill=expand_paths(tuple(arguments.prefill or ())),
        allow_probabilities=config.allow_probabilities,
    )
