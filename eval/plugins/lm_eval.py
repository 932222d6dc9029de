"""lm-evaluation-harness: rolling log-likelihoods of a Hugging Face model, mixed with the cache.

Importing this module registers the model as ``ngrammix``. Run as a program, it is the command line
of the harness with this model::

    python -m eval.plugins.lm_eval run --model ngrammix --model_args pretrained=DIR,order=7 ...
"""

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby, islice
from types import SimpleNamespace
from typing import Any

import numpy as np
from tqdm import tqdm

from eval.models.causality import describe_leak, find_leak
from eval.models.logits_memory import logits_memory
from eval.models.network_name import name_network
from eval.models.numerics import numerics_of
from eval.models.weights import WholeModel
from eval.out_of_memory import is_out_of_memory
from ngrammix.auditing.environment import versions
from ngrammix.experts.choices import ALL
from ngrammix.mixer import Mixer

try:
    from lm_eval.api.registry import register_model
    from lm_eval.models.huggingface import HFLM
    from lm_eval.models.utils_hf import pad_and_concat
    from lm_eval.utils import get_rolling_token_windows
except ModuleNotFoundError as error:
    package = str(error.name).partition(".")[0]
    raise ValueError(
        f"the lm-eval plugin needs {package}, which is missing; pip install 'ngrammix[lm-eval]'"
    ) from error

logger = logging.getLogger("lm_eval.ngrammix")  # inherits the level of the harness

SAMPLE = 8  # documents whose tokens the model is probed with, and rows of a batch
Window = tuple[int, list[int], list[int]]  # document, inputs, scored targets


@register_model("ngrammix")
class MixedLM(HFLM):  # type: ignore[misc]
    """A Hugging Face model with `loglikelihood_rolling` mixed with an n-gram cache.

    The documents of a task, in request order, are one stream. The cache keeps its counts from one
    document to the next, but no context crosses a document boundary. Each task and each call starts
    with an empty cache, so that a score never depends on earlier runs. The windows are those of the
    harness; every token is scored once, in float64. All other requests are passed to the model.

    The harness divides by the number of bytes that the task reports. For its WikiText these are the
    bytes before detokenization, which are more than those of the scored text: its bits per byte are
    about 4 % too low, with the cache and without. Compare them with each other only, not with the
    figures of ``ngrammix score``.

    Parameters
    ----------
    pretrained : str or transformers.PreTrainedModel
        A directory, a name on the Hub, or a model.
    cache : bool
        If False, the model is that of the harness, bit for bit.
    order, memory_limit, experts
        See `Mixer`.
    causality_check : bool
        If False, a model is mixed even if its logits depend on later tokens.
    **model_args
        Arguments of ``HFLM`` of the harness: device, batch_size, max_length, ...

    Attributes
    ----------
    regret_bits, bound_bits : float or None
        Bits of the mixture minus bits of the model, and their upper bound, summed over the tasks of
        the last call. None before the first call.

    Raises
    ------
    ValueError
        If an argument is out of range, the model is not causal or lacks weights, or there are
        several processes: a cache must see the whole stream.
    """

    def __init__(
        self,
        pretrained: Any,
        *,
        cache: bool = True,
        order: int = 7,
        memory_limit: int | str | None = None,
        experts: str = ALL,
        causality_check: bool = True,
        **model_args: Any,
    ) -> None:
        for name, value in (("cache", cache), ("causality_check", causality_check)):
            if not isinstance(value, bool):
                raise ValueError(
                    f"{name} must be True or False, got {value!r}; leave it out for True"
                )
        mixed: dict[str, Any] = {"order": order, "memory_limit": memory_limit, "experts": experts}
        self._new_mixer = partial(Mixer, **mixed, check_overlaps=False)
        self._conditions = {"cache": cache, **mixed, "causality_check": causality_check}
        self._new_mixer(vocab_size=1)  # checks the arguments before the model is loaded
        super().__init__(pretrained, **model_args)
        if cache and self.world_size > 1:
            raise ValueError(
                f"a mixed score needs one process, got world_size {self.world_size}; the cache "
                "must see the whole stream: start one process, or pass cache=False"
            )
        if cache and self.backend != "causal":
            raise ValueError(
                f"a mixed score needs a causal model, got backend {self.backend}; pass cache=False"
            )
        self.cache, self.causality_check = cache, causality_check
        self.regret_bits: float | None = None
        self.bound_bits: float | None = None

    def _create_model(self, pretrained: str, **arguments: Any) -> None:
        """Create the model as the harness does, with every weight from its files."""
        automatic = self.AUTO_MODEL_CLASS  # type: ignore[has-type]
        self.AUTO_MODEL_CLASS = WholeModel(automatic)
        try:
            super()._create_model(pretrained, **arguments)
        finally:
            self.AUTO_MODEL_CLASS = automatic

    def get_model_info(self) -> dict[str, Any]:
        """What the harness writes about the model into its results, and under ``ngrammix`` ours.

        These are the arguments of the mixer, the hash of the model, and what moves its rounding.
        """
        network = self._model
        known: Any = SimpleNamespace(network=network, device=self.device)
        conditions = self._conditions | numerics_of(known)
        conditions |= {"model": name_network(network), "versions": versions()}
        return {**super().get_model_info(), "ngrammix": conditions}

    def set_cache_hook(self, cache_hook: Any) -> None:
        """Set the database of answers of the harness; ValueError if the scores are mixed.

        The database identifies a document by its text alone, but a mixed score also depends on the
        documents before it.
        """
        if self.cache:
            raise ValueError(
                "use_cache must be off for a mixed score, got a database; the score of a "
                "document depends on the documents before it: leave use_cache out, or "
                "pass cache=False"
            )
        super().set_cache_hook(cache_hook)

    def loglikelihood_rolling(
        self, requests: Sequence[Any], disable_tqdm: bool = False
    ) -> list[float]:
        """Mixed log-probability of the text of each request, in nats, in request order.

        ValueError if a request has repeats, so that the cache would know the text the second time,
        or the logits of the model depend on later tokens.
        """
        if not self.cache:
            return list(super().loglikelihood_rolling(requests, disable_tqdm=disable_tqdm))
        for request in requests:
            if (request.repeats or 1) > 1:
                raise ValueError(
                    f"a mixed score needs repeats 1, got {request.repeats} in task "
                    f"{request.task_name}; the cache would know the text the second time"
                )
        vocab_size = self._logits([[self.prefix_token_id]]).shape[-1]  # with padding tokens
        if self.causality_check and requests:
            self._check_causality([request.args[0] for request in requests[:SAMPLE]], vocab_size)
        self.regret_bits = self.bound_bits = 0.0
        totals: list[float] = []
        with tqdm(total=len(requests), disable=disable_tqdm, desc="Scoring documents") as bar:
            for task, group in groupby(requests, key=lambda request: request.task_name):
                mixer = self._new_mixer(vocab_size=vocab_size)
                totals += self._mix([request.args[0] for request in group], mixer, bar)
                self.regret_bits += mixer.regret_bits
                self.bound_bits += mixer.bound_bits
                logger.info(
                    "%s: the documents in their order are one stream for the cache; "
                    "regret_bits %.3f, bound_bits %.3f",
                    task, mixer.regret_bits, mixer.bound_bits,
                )  # fmt: skip
        return totals

    def _check_causality(self, texts: Sequence[str], vocab_size: int) -> None:
        """Raise ValueError if the logits of tokens such as those of the texts see later ones."""
        parts = [[self.prefix_token_id, *self.tok_encode(text)] for text in texts]
        found = find_leak(
            lambda tokens: self._logits(tokens.tolist()),
            np.concatenate(parts),
            vocab_size=min(vocab_size, len(self.tokenizer)),
            longest=min(self.max_length, sum(map(len, parts))),
            batch=1 if self.batch_size == 1 else SAMPLE,
            max_rows=self._max_rows(vocab_size),
        )
        if found is not None:
            raise ValueError(describe_leak(found, self.config.name_or_path or "the model"))

    def _mix(self, texts: Sequence[str], mixer: Mixer, bar: tqdm) -> list[float]:
        """Log-probability of each text in nats; the texts are one stream of the mixer."""
        size = self._detect_batch_size() if self.batch_size == "auto" else self.batch_size
        size = min(size, max(1, self._max_rows(mixer.vocab_size) // self.max_length))
        totals = np.zeros(len(texts))
        windows = self._windows(texts)
        current = -1
        while batch := list(islice(windows, size)):
            logits = self._logits([inputs for _, inputs, _ in batch])
            for (document, inputs, targets), rows in zip(batch, logits, strict=True):
                if document != current:
                    mixer.boundary()
                    bar.update(document - current)
                    current = document
                scored = rows[len(inputs) - len(targets) : len(inputs)]
                totals[document] -= mixer.score(scored, targets).sum()
        bar.update(len(texts) - 1 - current)
        return [float(total) for total in totals]

    def _max_rows(self, vocab_size: int) -> int:
        """Most positions of a forward pass whose logits fit in memory, as float32."""
        return logits_memory(None, self) // (4 * vocab_size)

    def _windows(self, texts: Sequence[str]) -> Iterator[Window]:
        """The windows of the harness for all texts, in stream order."""
        for document, text in enumerate(texts):
            for inputs, targets in get_rolling_token_windows(
                self.tok_encode(text), self.prefix_token_id, self.max_length, context_len=1
            ):
                yield document, inputs, targets

    def _logits(self, inputs: Sequence[list[int]]) -> Any:
        """Logits (B, T, V) for the inputs; shorter rows are padded on the right."""
        import torch

        rows = [torch.tensor(row, device=self.device) for row in inputs]
        longest = max(map(len, rows))
        try:
            logits = self._model_call(pad_and_concat(longest, rows, padding_side="right"))
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise ValueError(
                f"a forward pass must fit in memory, got {len(rows)} windows of {longest:,} tokens "
                "and their logits; pass a smaller max_length or batch_size"
            ) from error
        return logits[:, -longest:]  # without the positions of a tuned prompt


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
