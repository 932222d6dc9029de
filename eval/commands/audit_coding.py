"""``ngrammix audit --codec`` and ``--decode``: tokens really coded, and decoded elsewhere."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from eval.auditing.codec.audit_codec import N_TOKENS, audit_codec, decode_file
from eval.commands.audit_named import Task, config_of, function_of, search
from eval.commands.audit_stream import read_stream
from eval.commands.audit_watch import outcome_of
from eval.commands.from_config import load_data, load_model_of, tokenizer_of
from eval.data.document import Document, Documents
from eval.demo.reference_text import reference_text
from ngrammix.atomic import replaced
from ngrammix.auditing.card import marked, plain
from ngrammix.checks import MAX_VOCAB_SIZE


def coded(job: Mapping[str, Any]) -> Task:
    """The round trip of --data or --tokens."""
    options = scorer_of(job) | {"n_tokens": job.get("limit", N_TOKENS), "keep": job.get("keep")}
    if "data" in job and "tokens" in job:
        raise ValueError("a round trip has --data or --tokens, got both; leave one of them out")
    if "tokens" not in job and options["stepper"] is not None:
        raise ValueError("a stepper needs ids; name them with --tokens")
    if "data" in job:
        options["data"] = load_data(config_of(job), options["tokenizer"])
    elif "tokens" not in job:
        options["data"] = Documents([Document("the Python language reference", reference_text())])
    else:
        size = MAX_VOCAB_SIZE if options["model"] is None else options["model"].vocab_size
        stream = read_stream({"limit": options["n_tokens"], **job}, options["tokenizer"], size)
        options["tokens"] = stream.tokens
    return lambda: outcome_of(audit_codec(**options, **search(job, "budget")))


def decoded(job: Mapping[str, Any]) -> Task:
    """The tokens of a file that --keep has left, in the .npy file of --out."""
    options, out = scorer_of(job), Path(job["out"])

    def task() -> dict[str, Any]:
        tokens = decode_file(job["decode"], **options)
        with replaced(out, "tokens") as file:
            np.save(file, tokens)
        line = f"{out}: {len(tokens):,} tokens"
        texts = {
            "text": f"{plain(line)}\n",
            "markdown": f"{marked(line)}\n",
            "json": json.dumps({"file": str(out), "tokens": len(tokens)}) + "\n",
        }
        return {"texts": texts, "status": 0}

    return task


def scorer_of(job: Mapping[str, Any]) -> dict[str, Any]:
    """What codes: the model, mixer and tokenizer as in ``score``, or the stepper; as arguments."""
    config, stepper = config_of(job), function_of(job, "stepper")
    if stepper is not None and "model" in job:
        raise ValueError(
            "a round trip is of a model or of a stepper, got both; leave out --model or --stepper"
        )
    model = None if stepper is not None else load_model_of(config)
    tokenizer = None if stepper is not None else tokenizer_of(config, model)
    return {
        "model": model, "config": config, "tokenizer": tokenizer, "stepper": stepper,
        "vocab_size": job.get("vocab_size"), "name": job.get("stepper"),
    }  # fmt: skip
