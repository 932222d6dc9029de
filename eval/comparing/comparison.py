"""Compare mixers and published rules on the same tokens, with one forward pass."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from eval.comparing.features import RawAndKnCounts, make_features
from eval.comparing.names import MIXER_NAMES, WHOLE, check_names
from eval.comparing.published_rules import PUBLISHED_RULES
from eval.comparing.sources import Source
from eval.scoring.bootstrap import sampling_units
from eval.scoring.progress import token_bar
from eval.tokenizers.default_order import order_for
from eval.types import Floats, Tokens
from ngrammix.checks import as_bytes
from ngrammix.experts.choices import ALL
from ngrammix.logits import lookup_logprobs
from ngrammix.mixer import Mixer

MIXERS: dict[str, Callable[..., Mixer]] = {
    name: partial(Mixer, experts=ALL if name == WHOLE else name) for name in MIXER_NAMES
}
MODEL = "model"  # the baseline, first in every comparison

Totals = dict[str, Floats]  # by setting: nats (U,) of each unit


@dataclass(frozen=True, eq=False, kw_only=True)
class Comparison:
    """Nats of each mixer on each unit of the text; the first mixer is the model alone.

    Attributes
    ----------
    mixers, settings : K names
        Names of the mixers and of their settings; for a rule the cheapest setting in hindsight.
    nats : (K, U) float64, nats
        Cost of each unit.
    sizes : (U,) float64
        Bytes of each unit; tokens if the source has no byte counts.
    unit : str
        Name of the unit: documents, or blocks of tokens.
    """

    mixers: tuple[str, ...]
    settings: tuple[str, ...]
    nats: Floats
    sizes: Floats
    unit: str
    order: int
    memory_limit: int | None


class Panel:
    """The mixers of a comparison, and the exact counts that all published rules share."""

    def __init__(self, names: Sequence[str], **cache: Any) -> None:
        # What the source lets through, once each.
        taken = {"allow_probabilities": True, "check_overlaps": False}
        self._mixers = {name: MIXERS[name](**cache, **taken) for name in names if name in MIXERS}
        self._rules = {name: PUBLISHED_RULES[name]() for name in names if name in PUBLISHED_RULES}
        self._counts = RawAndKnCounts(**cache)
        self._learners: list[Mixer | RawAndKnCounts] = list(self._mixers.values())
        if self._rules:
            self._learners.append(self._counts)

    def learn(self, tokens: Tokens) -> None:
        """Let every cache learn tokens (T,) without scoring them."""
        for learner in self._learners:
            learner.learn(tokens)

    def boundary(self) -> None:
        """Begin a new document."""
        for learner in self._learners:
            learner.boundary()

    def nats(
        self, logits: Any, targets: Tokens, positions: Tokens
    ) -> Iterator[tuple[str, str, Floats]]:
        """(mixer, setting, nats (N,)) of each mixer, the model first; all then learn the targets.

        logits (N, V); targets (N,); positions (N,): indices in the stream, for the error texts.
        """
        if self._rules:
            features = make_features(self._counts, logits, targets, positions)
            yield MODEL, "", -features.log_p
        else:
            yield MODEL, "", -lookup_logprobs(logits, targets, positions).log_p
        for name, mixer in self._mixers.items():
            yield name, mixer.experts, mixer.trace(logits, targets).nats
        for name, settings in self._rules.items():
            for setting, rule in settings.items():
                yield name, setting, rule(features)


def compare_source(
    source: Source,
    names: Sequence[str],
    order: int | None,
    *,
    memory_limit: int | str | None = None,
    progress: bool = False,
) -> Comparison:
    """Nats of the source's tokens under each mixer, from one pass over the logits.

    Memory holds one sum for each setting and unit.

    Parameters
    ----------
    source : Source
        Logits, tokens and documents.
    names : sequence of str
        Mixers out of `eval.comparing.names.NAMES`.
    order : int in 1..64, or None
        Length of the longest n-gram of every cache; None for the default.
    memory_limit : int or str, optional
        Most bytes of each cache, such as ``"2GiB"``.
    progress : bool
        Show a progress bar on stderr.

    Raises
    ------
    ValueError
        If a name, the order or the limit is invalid, or the logits cannot be scored.
    """
    check_names(names)
    order = order_for(order)
    panel = Panel(names, vocab_size=source.vocab_size, order=order, memory_limit=memory_limit)
    for tokens in source.prefill:
        panel.learn(tokens)
    unit_of_token, unit = sampling_units(source.document)
    with token_bar(progress, len(unit_of_token)) as bar:
        totals = sum_by_unit(panel, source, unit_of_token, bar)
    mixers = (MODEL, *names)
    chosen = [cheapest(totals[mixer]) for mixer in mixers]
    return Comparison(
        mixers=mixers,
        settings=tuple(chosen),
        nats=np.stack([totals[mixer][s] for mixer, s in zip(mixers, chosen, strict=True)]),
        sizes=np.bincount(unit_of_token, source.token_bytes).astype(np.float64),
        unit=unit,
        order=order,
        memory_limit=None if memory_limit is None else as_bytes(memory_limit),
    )


def sum_by_unit(panel: Panel, source: Source, unit_of_token: Tokens, bar: Any) -> dict[str, Totals]:
    """Nats (U,) of each unit by mixer and setting; unit_of_token (T,): index of the unit."""
    n_units = int(unit_of_token[-1]) + 1
    totals: dict[str, Totals] = defaultdict(lambda: defaultdict(lambda: np.zeros(n_units)))
    start = 0
    for rows in source.rows():
        if rows.begins_document:
            panel.boundary()
        positions = np.arange(start, start + len(rows.targets))
        for mixer, setting, nats in panel.nats(rows.logits, rows.targets, positions):
            add_to_units(totals[mixer][setting], unit_of_token[positions], nats)
        start += len(positions)
        bar.update(len(positions))
        del rows  # free its logits before the next are computed
    return totals


def add_to_units(total: Floats, unit: Tokens, nats: Floats) -> None:
    """Add nats (N,) to the totals (U,) of the tokens' units (N,), ascending without gaps."""
    sums = np.bincount(unit - unit[0], nats)
    total[unit[0] : unit[0] + len(sums)] += sums


def cheapest(totals: Totals) -> str:
    """The setting with the fewest nats on the whole text."""
    return min(totals, key=lambda setting: float(totals[setting].sum()))
