"""Hugging Face generation from the mixture, which learns every generated token."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.types import Tokens
from ngrammix.checks import check_ids
from ngrammix.logits import to_numpy
from ngrammix.mixer import Mixer

GENERATION = "transformers.generation.utils"
UNMIXED = ("_search", "_decoding")  # ends of its functions for beams and drafts


class MixedLogits:
    """A logits processor that turns the scores of a model into log-probabilities of the mixture.

    Use it as ``model.generate(..., logits_processor=[MixedLogits(mixer, model=model)])``. The mixer
    learns a prompt once. The probability of a generated token is fixed before the token is drawn,
    by the scores of the model and the tokens before it; then cache and experts learn the token by
    `Mixer.score`. A prompt that begins with all tokens so far, as in a chat, continues the stream.
    Any other prompt is a new document: no context crosses its start, but the counts of the cache
    are kept. Repeated text becomes more likely, also where the model itself repeats.

    `generate` runs the processor after those that forbid tokens, and before temperature, top-k and
    top-p. A score of -inf stays -inf. Use a processor in one `generate` call at a time.

    Parameters
    ----------
    mixers : Mixer or sequence of Mixer
        One for each row of the batch; each row is a separate stream.
    model : callable (1, T) int64 tensor -> (1, T, V) logits, or an output that has them, optional
        The model that generates. It computes the logits of each prompt once more, so that the
        experts can learn from the prompt; without it they learn from generated tokens only.
    pad_token_id : int, optional
        This token is removed from the streams, at every position: needed if rows are padded, or end
        before others.

    Raises
    ------
    ValueError
        If there is no mixer, a mixer is used for two rows, or the vocabulary sizes differ.
    """

    def __init__(
        self,
        mixers: Mixer | Sequence[Mixer],
        *,
        model: Callable[[Any], Any] | None = None,
        pad_token_id: int | None = None,
    ) -> None:
        mixers = [mixers] if isinstance(mixers, Mixer) else list(mixers)
        n_streams = len({id(mixer) for mixer in mixers})
        if n_streams == 0 or n_streams < len(mixers):
            raise ValueError(
                f"mixers must be one Mixer for each row, got {len(mixers)} with {n_streams} "
                "different ones; make a Mixer for each row"
            )
        sizes = sorted({mixer.vocab_size for mixer in mixers})
        if len(sizes) > 1:
            raise ValueError(f"mixers must have one vocab_size, got {sizes}; pass the model's")
        self._shape = (len(mixers), sizes[0])
        self._rows = [_Row(mixer, model) for mixer in mixers]
        self._pad = pad_token_id

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Log-probabilities of the mixture, once it has learned the tokens since the last call.

        Parameters
        ----------
        input_ids : (B, T) int64 tensor
            All tokens so far, the prompt included.
        scores : (B, V) float tensor on any device
            Logits of the model for the next token.

        Returns
        -------
        (B, V) tensor, nats, with the dtype and device of `scores`

        Raises
        ------
        ValueError
            If the shape of the scores is not (number of mixers, V), a row of scores has NaN, +inf
            or no finite value, or a row does not continue the row of the last call. Beam search
            reorders rows and speculative decoding removes tokens: neither can be mixed, and
            `generate` is refused at its first token. The mixers stay unchanged.
        """
        import torch

        check_generation()
        logits = to_numpy(scores)
        self._check_scores(logits)
        texts = [ids[ids != self._pad] for ids in to_numpy(input_ids)]
        for i, (row, text) in enumerate(zip(self._rows, texts, strict=True)):
            row.check(text, i)
        mixed = []
        for row, text, row_logits in zip(self._rows, texts, logits, strict=True):
            row.learn(text, row_logits)
            mixed.append(row.log_probs(row_logits))
        return torch.from_numpy(np.stack(mixed)).to(device=scores.device, dtype=scores.dtype)

    def _check_scores(self, logits: NDArray[Any]) -> None:
        """Raise ValueError unless logits (B, V) fit the mixers, each row with a finite maximum."""
        if logits.shape != self._shape:
            raise ValueError(
                f"scores must have shape {self._shape}, a row for each Mixer and its vocab_size, "
                f"got {logits.shape}; pass a list with one Mixer per row, and leave num_beams at 1"
            )
        largest = logits.max(axis=1)  # NaN if any is NaN
        wrong = ~np.isfinite(largest)
        if wrong.any():
            i = int(np.argmax(wrong))
            raise ValueError(
                f"scores must be numbers with a finite largest, got {largest[i]} in row {i}; "
                "look for an overflow in the model, or forbid fewer tokens"
            )


def check_generation() -> None:
    """Raise ValueError if a generation that this is called from reorders rows or takes tokens back.

    A processor of logits is not told how it is used; the function that calls it is.
    """
    frame = sys._getframe(1)
    while (caller := frame.f_back) is not None:
        frame, name = caller, caller.f_code.co_name
        if frame.f_globals.get("__name__") == GENERATION and name.endswith(UNMIXED):
            raise ValueError(
                "generate must draw one token for each row at a time, got "
                f"{name.strip('_').replace('_', ' ')}; leave num_beams at 1, and leave out "
                "assistant_model, prompt_lookup_num_tokens and other drafts"
            )


class _Row:
    """One row: its mixer, the tokens learned so far, and the logits for the next token."""

    def __init__(self, mixer: Mixer, model: Callable[[Any], Any] | None) -> None:
        self._mixer, self._model = mixer, model
        self._tokens: Tokens | None = None
        self._n_prompt = 0
        self._logits: NDArray[Any] | None = None

    def check(self, text: Tokens, i: int) -> None:
        """Raise ValueError if text (T,), row i, comes from beam search or speculative decoding.

        Such a row keeps the prompt but changes tokens after it.
        """
        check_ids(text, self._mixer.vocab_size, "input_ids")
        if self._tokens is None or self._continues(text):
            return
        n = self._n_prompt
        if n < len(text) <= len(self._tokens) + 1 and np.array_equal(text[:n], self._tokens[:n]):
            raise ValueError(
                "input_ids must go on from the tokens before them, one at a time, got others in "
                f"row {i} after the same prompt; generate without beams and without drafts, or "
                "make a new MixedLogits for a new prompt"
            )

    def learn(self, text: Tokens, logits: NDArray[Any]) -> None:
        """Learn the new tokens of text (T,), and keep logits (V,) to score the next token."""
        n_learned = len(self._tokens) if self._tokens is not None and self._continues(text) else 0
        new = text[n_learned:]
        if n_learned > 0 and len(new) == 0:
            return  # the row has ended, or the same prompt comes again
        if n_learned > 0 and len(new) == 1 and self._logits is not None:
            if self._logits[new[0]] > -np.inf:
                self._mixer.score(self._logits[None], new)
            else:  # a forbidden token was forced: its probability is 0, so the experts skip it
                self._mixer.learn(new)
        else:
            self._read(text, n_learned)
            self._n_prompt = len(text)
        self._tokens, self._logits = text, logits.copy()

    def _read(self, text: Tokens, n_learned: int) -> None:
        """Learn a prompt, text (T,), whose first `n_learned` tokens were learned before."""
        first = max(n_learned, 1)  # the first token of a document has no logits
        has_logits = self._model is not None and first < len(text)
        logits = self._forward(text)[first - 1 : -1] if has_logits else None
        if n_learned == 0:
            self._mixer.boundary()
        unscored = text[n_learned:] if logits is None else text[n_learned:first]
        if len(unscored) > 0:
            self._mixer.learn(unscored)
        if logits is not None:
            self._mixer.score(logits, text[first:])

    def _forward(self, text: Tokens) -> Any:
        """Logits (T, V) of the model for text (T,): row t is for token t + 1."""
        import torch

        device = getattr(self._model, "device", None)
        with torch.no_grad():
            output = self._model(torch.from_numpy(text[None]).to(device))  # type: ignore[misc]
        return getattr(output, "logits", output)[0]

    def log_probs(self, logits: NDArray[Any]) -> NDArray[np.float64]:
        """Log-probabilities of the mixture for the next token: (V,) float64, nats."""
        with np.errstate(divide="ignore"):
            mixed = np.log(self._mixer.probs(logits))
        mixed[np.isneginf(logits)] = -np.inf  # a token that another processor forbids
        return mixed

    def _continues(self, text: Tokens) -> bool:
        """Whether text (T,) begins with all tokens learned so far."""
        return self._tokens is not None and np.array_equal(text[: len(self._tokens)], self._tokens)
