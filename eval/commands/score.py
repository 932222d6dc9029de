"""``ngrammix score``: bits per byte of a data set, on one process or on the ranks of torchrun."""

import argparse
from functools import partial
from pathlib import Path

from eval.commands.from_config import check_data, load_data, load_model_of, tokenizer_of
from eval.config import MODEL_NONE, RunConfig, make_config
from eval.distributed.rank_info import choose_gpu, find_rank
from eval.distributed.ranks import Ranks, join_ranks
from eval.files.lock import hold
from eval.plugins.loggers import make_callback
from eval.scoring.checkpoint import has_checkpoint
from eval.scoring.result import Result
from eval.scoring.run import check_folder
from eval.scoring.score import score
from eval.terminal import show


def run(arguments: argparse.Namespace) -> None:
    """Score the data, on this process alone or as one of the ranks that torchrun has started."""
    config = make_config(RunConfig, vars(arguments), arguments.config)
    info = find_rank()
    if info.size == 1:
        score_config(config, as_json=arguments.json)
        return
    if config.model == MODEL_NONE:
        raise ValueError(
            f"ranks share the work of a model, got --model none on {info.size} of them; start "
            "this without torchrun"
        )
    with join_ranks(info) as ranks:
        choose_gpu(info, config.device)
        if info.rank == 0:
            score_config(config, as_json=arguments.json, ranks=ranks)
        elif (model := load_model_of(config)) is not None:
            ranks.serve(model)


def score_config(config: RunConfig, *, as_json: bool, ranks: Ranks | None = None) -> None:
    """Score the data of the configuration and report the result; with ranks, as rank 0."""
    out = None if config.out is None else Path(config.out)
    checkpoint = None if config.checkpoint is None else Path(config.checkpoint)
    check_data(config)
    with hold(out=out, checkpoint=checkpoint):
        # A run that goes on with a checkpoint finds its own results there; `score` compares them.
        overwrite = config.overwrite or has_checkpoint(checkpoint)
        check_folder(out, write_tokens=config.tokens, overwrite=overwrite)
        callbacks = [make_callback(name) for name in config.log]
        model = load_model_of(config)
        tokenizer = tokenizer_of(config, model)
        data = load_data(config, tokenizer)
        score(
            model,
            data,
            config,
            tokenizer=tokenizer,
            forward=None if model is None or ranks is None else ranks.lead(model),
            out=out,
            write_tokens=config.tokens,
            write_report=True,
            overwrite=config.overwrite,
            checkpoint=checkpoint,
            checkpoint_every=config.checkpoint_every,
            n_threads=config.threads,
            callbacks=callbacks,
            on_result=partial(report, as_json=as_json),
            progress=True,
        )


def report(result: Result, *, as_json: bool) -> None:
    """Print the result."""
    show(result.to_json() if as_json else result.table())
