"""Hugging Face generation: each next token drawn from the mixture, which learns as it is drawn."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ngrammix.checks import check_ids
from ngrammix.logits import to_numpy
from ngrammix.mixer import Mixer

Tokens = NDArray[np.int64]


class MixedLogits:
    """A logits processor: scores become the log of the mixture, which learns prompt and output.

    For ``model.generate(..., logits_processor=[MixedLogits(mixer, model=model)])``. A prompt is
    learned once, when it is first seen. Of a generated token the price is fixed first, from the
    model's scores and the tokens before it; once it is drawn, cache and experts learn it, by
    `Mixer.score`. A prompt that goes on where the tokens before it ended, as in a chat, is learned
    from there. Any other prompt is a new document: no context reaches back over its beginning, but
    what the cache learned before, it uses. What repeats becomes likelier, the model's own loops
    too.

    It stands after the processors that forbid tokens and before temperature, top-k and top-p, where
    `generate` puts it by itself. A score of -inf stays -inf. Give one processor to one `generate`
    at a time.

    Parameters
    ----------
    mixers : Mixer, or a list of as many as there are rows
        Each row of the batch is a stream of its own.
    model : callable (1, T) int64 tensor -> (1, T, V) logits, or an output that has them, optional
        The model that generates. It reads each prompt once more, so that the experts learn there
        how far to trust the cache; without it they begin to learn with the first token generated.
    pad_token_id : int, optional
        This token is left out of the streams, wherever it stands: needed where rows of unlike
        length are padded, or end before others.

    Raises
    ------
    ValueError
        If there is no mixer, one stands for two rows, or their vocabularies differ in size.
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
                f"mixers must be one Mixer for each row, got {len(mixers)} of which {n_streams} "
                "are different ones; each row is a stream of its own"
            )
        sizes = sorted({mixer.vocab_size for mixer in mixers})
        if len(sizes) > 1:
            raise ValueError(f"mixers must have one vocab_size, got {sizes}; pass the model's")
        self._shape = (len(mixers), sizes[0])
        self._rows = [_Row(mixer, model) for mixer in mixers]
        self._pad = pad_token_id

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Log of the mixture's probabilities; what came since the last call is learned first.

        Parameters
        ----------
        input_ids : (B, T) int64 tensor
            All tokens so far, the prompt included.
        scores : (B, V) float tensor on any device
            The model's logits for the next token.

        Returns
        -------
        (B, V) tensor, nats, of the dtype and on the device of scores

        Raises
        ------
        ValueError
            If there is not one mixer a row, the scores are not as wide as its vocabulary or are not
            numbers, or a row does not go on from the one before: beams, which change places, and
            drafts, which are taken back, cannot be mixed. Nothing is learned then.
        """
        import torch

        logits = to_numpy(scores)
        self._check_scores(logits)
        texts = [ids[ids != self._pad] for ids in to_numpy(input_ids)]
        for i, (row, text) in enumerate(zip(self._rows, texts, strict=True)):
            row.check(text, i)
        mixed = []
        for row, text, row_logits in zip(self._rows, texts, logits, strict=True):
            row.learn(text, row_logits)
            mixed.append(row.score_observed(row_logits))
        return torch.from_numpy(np.stack(mixed)).to(device=scores.device, dtype=scores.dtype)

    def _check_scores(self, logits: NDArray[Any]) -> None:
        """Raise ValueError unless logits (B, V) fit the mixers and leave some token possible."""
        if logits.shape != self._shape:
            raise ValueError(
                f"scores must have shape {self._shape}, a row for each Mixer and its vocab_size, "
                f"got {logits.shape}; pass a list with one Mixer a row, and leave num_beams at 1"
            )
        largest = logits.max(axis=1)  # NaN if one is
        wrong = ~np.isfinite(largest)
        if wrong.any():
            i = int(np.argmax(wrong))
            raise ValueError(
                f"scores must be numbers with a finite largest, got {largest[i]} in row {i}; "
                "look for an overflow in the model, or forbid fewer tokens"
            )


class _Row:
    """One stream: its mixer, the tokens that it learned, and the model's logits after them."""

    def __init__(self, mixer: Mixer, model: Callable[[Any], Any] | None) -> None:
        self._mixer, self._model = mixer, model
        self._tokens: Tokens | None = None
        self._n_prompt = 0
        self._logits: NDArray[Any] | None = None

    def check(self, text: Tokens, i: int) -> None:
        """Raise ValueError if text (T,) is row i of beams, or of a draft that was taken back.

        Such a row keeps the prompt, but not all that came after it.
        """
        check_ids(text, self._mixer.vocab_size, "input_ids")
        if self._tokens is None or self._goes_on(text):
            return
        n = self._n_prompt
        if n < len(text) <= len(self._tokens) + 1 and np.array_equal(text[:n], self._tokens[:n]):
            raise ValueError(
                "input_ids must go on from the tokens before them, one at a time, got others in "
                f"row {i} after the same prompt; generate without beams and without drafts, or "
                "make a new MixedLogits for a new prompt"
            )

    def learn(self, text: Tokens, logits: NDArray[Any]) -> None:
        """Learn what is new in text (T,), and keep logits (V,), which price what comes next."""
        known = len(self._tokens) if self._tokens is not None and self._goes_on(text) else 0
        new = text[known:]
        if known > 0 and len(new) == 0:
            return  # the row has ended, or the same prompt is asked again
        if known > 0 and len(new) == 1 and self._logits is not None:
            if self._logits[new[0]] > -np.inf:
                self._mixer.score(self._logits[None], new)
            else:  # drawn although it was forbidden: no price, so nothing for the experts
                self._mixer.learn(new)
        else:
            self._read(text, known)
            self._n_prompt = len(text)
        self._tokens, self._logits = text, logits.copy()

    def _read(self, text: Tokens, known: int) -> None:
        """Learn a prompt, text (T,), of which the first tokens are known, or none."""
        first = max(known, 1)  # no logits are for the first token of a document
        asked = self._ask(text)[first - 1 : -1] if self._model and first < len(text) else None
        if known == 0:
            self._mixer.boundary()
        plain = text[known:] if asked is None else text[known:first]
        if len(plain) > 0:
            self._mixer.learn(plain)
        if asked is not None:
            self._mixer.score(asked, text[first:])

    def _ask(self, text: Tokens) -> Any:
        """The model's logits (T, V) after each token of text (T,)."""
        import torch

        device = getattr(self._model, "device", None)
        with torch.no_grad():
            output = self._model(torch.from_numpy(text[None]).to(device))  # type: ignore[misc]
        return getattr(output, "logits", output)[0]

    def score_observed(self, logits: NDArray[Any]) -> NDArray[np.float64]:
        """Log of the mixture of the next token: (V,) float64 nats, by the model's logits (V,)."""
        with np.errstate(divide="ignore"):
            mixed = np.log(self._mixer.probs(logits))
        mixed[np.isneginf(logits)] = -np.inf  # forbidden by someone else, and it stays so
        return mixed

    def _goes_on(self, text: Tokens) -> bool:
        """Whether text (T,) begins with all tokens learned so far."""
        return self._tokens is not None and np.array_equal(text[: len(self._tokens)], self._tokens)
