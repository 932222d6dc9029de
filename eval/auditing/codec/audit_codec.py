"""audit_codec: tokens really coded to bytes and decoded again, by the scorer's own distributions.

It is the one proof that asks for no trust. The decoder has the code and the tokens that it has
decoded: a scorer that looks at a later token cannot be decoded (C1). Its tables sum to 2^24, so a
scorer that charges less than its distributions allow has a longer code than it claims (C2). A
distribution that is made after its token is not there when the token is decoded (C3).
"""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from eval.auditing.codec import coded_file
from eval.auditing.codec.coded_file import digest_of, hash_of
from eval.auditing.codec.range_coder import library
from eval.auditing.codec.round_trip import decode
from eval.auditing.codec.subject import ScoreSubject, StepperSubject, Subject
from eval.auditing.codec.trial import Trial
from eval.config import ScoreConfig
from eval.models.base import Model
from eval.models.load_model import load_model
from eval.scoring.score import warm_up
from eval.types import Floats, Tokens
from ngrammix.atomic import check_place, target_of
from ngrammix.auditing.black_box import check_budget, check_callables
from ngrammix.auditing.report import AuditReport
from ngrammix.auditing.scorer import StoppedError
from ngrammix.auditing.stepwise import Stepper
from ngrammix.checks import MAX_POSITION, check_int
from ngrammix.logits import to_numpy

N_TOKENS = 16_384
BUDGET_SECONDS = 50.0


def audit_codec(
    model: Model | str | os.PathLike[str] | None = None,
    tokens: ArrayLike | None = None,
    *,
    data: Any = None,
    config: ScoreConfig | None = None,
    tokenizer: Any = None,
    vocab_size: int | None = None,
    stepper: Callable[..., Stepper] | None = None,
    name: str | None = None,
    claimed_nats: ArrayLike | None = None,
    n_tokens: int = N_TOKENS,
    keep: str | os.PathLike[str] | None = None,
    budget_seconds: float = BUDGET_SECONDS,
) -> AuditReport:
    """Whether the first tokens come back from a code that is as long as the scorer claims.

    Each token is coded by a range coder under the distribution that the scorer shows before it. A
    new scorer then decodes the code, and knows the decoded tokens alone.

    Parameters
    ----------
    model : Model, path or None
        As in `score`, or what `load_model` takes. None: the cache alone, or the `stepper`.
    tokens : (N,) int, optional
        One document, which begins after the BOS. Where no BOS is known, its first token is context
        only.
    data : Data, or what `open_data` takes, optional
        Instead of tokens: documents, in the windows of `score`.
    config : ScoreConfig, optional
        Mixer, order, memory limit, context, stride and BOS, as in `score`.
    tokenizer : Tokenizer, path or object, optional
        As in `score`.
    vocab_size : int, optional
        V of the cache alone. Default: that of the tokenizer, which is 256 for bytes.
    stepper : callable, optional
        Makes a scorer with ``probs() -> (V,)`` and ``commit(token) -> nats or None``, anew in each
        call. A parameter, if it has one, gets the tokens (N,) int64; the decoder's are 0 wherever
        nothing is decoded yet.
    name : str, optional
        Of the stepper, for the report and the file. Default: that of the function.
    claimed_nats : (N,) float, nats, optional
        What the scorer charges for each token in a run of its own. Default: what ``commit``
        returns, else what ``probs`` shows.
    n_tokens : int >= 1
        Tokens to code at most.
    keep : path, optional
        A file for the code, which `decode_file` decodes elsewhere.
    budget_seconds : float
        Of wall time. Fewer tokens are coded if it would not suffice. Where the decoded tokens
        differ, the tokens are coded once more, which comes on top.

    Returns
    -------
    AuditReport
        Guilty if the decoded tokens differ, or the information that the code holds is more than
        0.1 % above the claimed bits (or 1/2000 bit a token, if that is more). The code itself has
        at most 1/2000 bit a token on top, and 64 bits for its end. The head of the file, 64 bytes
        and 8 for each document, is not counted.

    Raises
    ------
    ValueError
        If constriction is missing, an argument is wrong, or the file cannot be written. What the
        scorer itself raises is a problem of the report.
    """
    library()
    n_tokens = check_int(n_tokens, "n_tokens", 1, MAX_POSITION)
    budget_seconds = check_budget(budget_seconds)
    if (tokens is None) == (data is None):
        raise ValueError(
            f"a round trip needs tokens or data, got {'neither' if tokens is None else 'both'}; "
            "pass one of them"
        )
    if keep is not None:  # before the work
        check_place(target_of(keep), coded_file.CONTENT)
    subject = subject_of(model, config, tokenizer, vocab_size, stepper, name)
    stream = subject.stream(tokens, data, n_tokens)
    claimed = None if claimed_nats is None else as_claims(claimed_nats, len(stream.tokens))
    return Trial(subject, stream, budget_seconds, claimed).run(keep)


def subject_of(
    model: Model | str | os.PathLike[str] | None,
    config: ScoreConfig | None,
    tokenizer: Any,
    vocab_size: int | None,
    stepper: Callable[..., Stepper] | None,
    name: str | None,
) -> Subject:
    """The scorer that arguments name; ValueError if they name two."""
    if stepper is not None:
        if model is not None:
            raise ValueError(
                "a round trip has one scorer, got a model and a stepper; pass one of them"
            )
        check_callables(stepper=stepper)
        return StepperSubject(stepper, name)
    if isinstance(model, str | os.PathLike):
        model = load_model(model)
    if model is not None and not hasattr(model, "logits"):
        raise ValueError(
            f"a model must have logits, context and a tokenizer, got {type(model).__name__}; make "
            "one with eval.wrap(network, context=..., tokenizer=...)"
        )
    warm_up()  # the budget is for the tokens
    return ScoreSubject(model, config or ScoreConfig(), tokenizer, vocab_size)


def as_claims(nats: ArrayLike, n_tokens: int) -> Floats:
    """The claimed nats of the first tokens: (N,) float64; ValueError unless they are >= 0."""
    claims = np.asarray(to_numpy(nats))
    is_row = claims.dtype.kind in "fiu" and claims.ndim == 1 and len(claims) >= n_tokens
    if not is_row or not ((claims >= 0) & (claims < np.inf)).all():
        raise ValueError(
            f"claimed_nats must be at least {n_tokens} finite numbers >= 0, one for each token, "
            f"got shape {claims.shape} and dtype {claims.dtype}; pass what the scorer returns, in "
            "nats"
        )
    return claims.astype(np.float64)


def decode_file(
    path: str | os.PathLike[str],
    model: Model | str | os.PathLike[str] | None = None,
    *,
    config: ScoreConfig | None = None,
    tokenizer: Any = None,
    vocab_size: int | None = None,
    stepper: Callable[..., Stepper] | None = None,
    name: str | None = None,
) -> Tokens:
    """The tokens (N,) int64 of a file that `audit_codec` has kept, decoded by the same scorer.

    Parameters are those of `audit_codec`. It takes about as long as the tokens took to be coded: of
    tokens that repeat, a file of a hundred bytes may hold millions.

    Raises
    ------
    ValueError
        If the file is damaged, or model or options are not those that coded it; or if other tokens
        come out, as on another kind of machine, where a model rounds otherwise.
    """
    library()
    file = coded_file.read(path)
    subject = subject_of(model, config, tokenizer, vocab_size, stepper, name)
    if hash_of(subject.settings) != file.settings:
        settings = ", ".join(f"{key} {value}" for key, value in subject.settings.items())
        raise ValueError(
            f"coded tokens must be decoded by the model and options that coded them, got others "
            f"for {path} ({settings}); pass those of the encoder"
        )
    tokens = np.zeros(file.n_tokens, np.int64)
    try:
        scorer = subject.make(file.layout, tokens)
        for i, decoded in enumerate(decode(scorer, file.code, file.n_tokens)):
            if decoded.token is None:
                break
            tokens[i] = decoded.token
    except StoppedError as error:
        raise ValueError(
            f"coded tokens must be decoded by the scorer that coded them: {error} (in {path})"
        ) from error
    if digest_of(tokens) != file.digest:
        mend = "decode them by the scorer that coded them"
        if hash_of(subject.surroundings) != file.surroundings:
            mend = "use the versions, hardware and threads of the encoder: a model rounds by them"
        raise ValueError(
            f"decoded tokens must be those that were coded, got others from {path}; {mend}"
        )
    return tokens
