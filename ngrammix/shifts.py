"""ShiftWatch: finds labels that are not shifted, from what the logits predict better."""

import numpy as np

from ngrammix.checks import warn_caller
from ngrammix.logits import LogitsReader
from ngrammix.types import Tokens

N_TOKENS = 64  # of the first call that has as many: fewer tell too little
MAX_TOKENS = 1024  # that are examined
LEAST = -50.0  # nats: a token may be impossible
NATS, ERRORS = 1.0, 6.0  # by which the next target must be likelier, and in standard errors


class ShiftWarning(UserWarning):
    """Targets look like the inputs: the logits predict the target after each one far better."""


class ShiftWatch:
    """Warns once if the logits of a call predict the next targets, and not their own."""

    def __init__(self) -> None:
        self._is_on = True

    def note(self, reader: LogitsReader, tokens: Tokens) -> None:
        """Examine the logits and targets (N,) of the first call that is long enough."""
        if not self._is_on or len(tokens) <= N_TOKENS:
            return
        self._is_on = False
        n = min(len(tokens) - 1, MAX_TOKENS)
        logprobs = reader.lookup(tokens[1 : n + 1, None], slice(0, n))
        next_log_p, log_p = np.maximum((logprobs.log_hints[:, 0], logprobs.log_p), LEAST)
        gain = next_log_p - log_p
        mean, error = float(gain.mean()), float(gain.std()) / np.sqrt(n)
        if mean > max(NATS, ERRORS * error):
            warn_caller(
                "targets look like the inputs: the logits give the target after each one "
                f"{mean:.1f} nats more than its own, in the mean of {n}; labels of Hugging Face "
                "are not shifted: pass logits[..., :-1, :] and targets[..., 1:]",
                ShiftWarning,
            )
