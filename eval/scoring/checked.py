"""Checked: the batches of a run, of which the first ones show whether the model sees the future."""

from collections.abc import Iterator, Sequence
from itertools import chain, islice

import numpy as np

from eval.config import ScoreConfig
from eval.models.base import Model
from eval.models.causality import check_model
from eval.models.logits_memory import logits_must_fit
from eval.scoring.batch import Batch
from eval.scoring.windows import WindowShape
from eval.tokenizers.base import Tokenizer
from eval.types import Tokens

FIRST = 2  # batches; the probe takes little more time than they do
LEAST = 256  # positions of a forward pass: rows times tokens


def checked(
    batches: Iterator[Batch],
    model: Model | None,
    tokenizer: Tokenizer,
    config: ScoreConfig,
    shape: WindowShape,
) -> Iterator[Batch]:
    """The same batches, once the model has passed `check_model` on the text of the first ones.

    ValueError if the logits of the model depend on more than the tokens before them, or do not fit
    in memory.
    """
    if model is None or not config.causality_check:
        return batches
    first = list(islice(batches, FIRST))
    if first:
        longest = max(batch.inputs.shape[1] for batch in first)
        if len(first) == FIRST:  # longer windows may come
            longest = min(shape.context, config.limit or shape.context)
        positions = max(LEAST, *(batch.inputs.size for batch in first))  # memory that the run needs
        with logits_must_fit(model, first[0].inputs, first[0].inputs.shape[1]):
            check_model(
                model,
                read_text(first),
                vocab_size=min(tokenizer.vocab_size, model.vocab_size),
                longest=longest,
                batch=shape.batch_size,
                positions=positions,
                max_rows=shape.max_rows,
            )
    return chain(first, batches)


def read_text(batches: Sequence[Batch]) -> Tokens:
    """(N,) int64: what the model reads in these batches, without the padding."""
    return np.concatenate(
        [
            row[: int(np.flatnonzero(is_scored)[-1]) + 1]
            for batch in batches
            for row, is_scored in zip(batch.inputs, batch.is_scored, strict=True)
            if is_scored.any()
        ]
    )
