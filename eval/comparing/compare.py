"""Compare: many mixers, and the published rules, on the same tokens and one forward pass."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from eval.comparing.features import Counts, make_facts
from eval.comparing.published_rules import PUBLISHED_RULES
from eval.comparing.sources import Source
from eval.scoring.bootstrap import sampling_units
from ngrammix.checks import as_bytes
from ngrammix.experts.chain import ALL, CHOICES
from ngrammix.logits import lookup_logprobs
from ngrammix.mixer import Mixer

# Our mixer, and under the names of the experts that are left what it is without the others.
MIXERS: dict[str, Callable[..., Mixer]] = {"ngrammix": Mixer}
MIXERS |= {experts: partial(Mixer, experts=experts) for experts in CHOICES if experts != ALL}
DEFAULT = ("ngrammix", *PUBLISHED_RULES)
NAMES = (*MIXERS, *PUBLISHED_RULES)
MODEL = "model"  # the baseline: always there

Floats = NDArray[np.float64]
Tokens = NDArray[np.int64]
Totals = dict[str, Floats]  # by setting: nats (U,) of each unit


@dataclass(frozen=True, eq=False, kw_only=True)
class Comparison:
    """What each mixer spent on each unit of the text; the first mixer is the model alone.

    Attributes
    ----------
    mixers, settings : K names
        Of the mixers, and of the setting that each is shown at: a rule's cheapest in hindsight.
    nats : (K, U) float64, nats
        Cost of each unit.
    sizes : (U,) float64
        Bytes of each unit, or its tokens where the source knows no bytes.
    unit : str
        What a unit is.
    """

    mixers: tuple[str, ...]
    settings: tuple[str, ...]
    nats: Floats
    sizes: Floats
    unit: str
    order: int
    memory_limit: int | None


class Panel:
    """The mixers under comparison, and the exact counts that all published rules share."""

    def __init__(self, names: Sequence[str], **cache: Any) -> None:
        self._mixers = {name: MIXERS[name](**cache) for name in names if name in MIXERS}
        self._rivals = {name: PUBLISHED_RULES[name]() for name in names if name in PUBLISHED_RULES}
        self._counts = Counts(**cache)
        self._learners: list[Mixer | Counts] = list(self._mixers.values())
        if self._rivals:
            self._learners.append(self._counts)

    def learn(self, tokens: Tokens) -> None:
        """Let every cache learn tokens (T,) that are not scored."""
        for learner in self._learners:
            learner.learn(tokens)

    def boundary(self) -> None:
        """Begin a new document."""
        for learner in self._learners:
            learner.boundary()

    def nats(
        self, logits: Any, targets: Tokens, places: Tokens
    ) -> Iterator[tuple[str, str, Floats]]:
        """(mixer, setting, cost (N,) in nats) of everyone, the model first; then all have learned.

        logits (N, V); targets (N,); places (N,): where they stand in the stream, for the errors.
        """
        if self._rivals:
            facts = make_facts(self._counts, logits, targets, places)
            yield MODEL, "", -facts.log_p
        else:
            yield MODEL, "", -lookup_logprobs(logits, targets, places).log_p
        for name, mixer in self._mixers.items():
            yield name, mixer.experts, mixer.trace(logits, targets).nats
        for name, settings in self._rivals.items():
            for setting, rule in settings.items():
                yield name, setting, rule(facts)


def compare(
    source: Source,
    names: Sequence[str],
    order: int,
    bar: tqdm | None = None,
    *,
    memory_limit: int | str | None = None,
) -> Comparison:
    """Cost of the source's tokens under each mixer, all fed by one pass over the logits.

    Nothing of a token is kept but its share in the sums of its unit, one sum a setting.

    Parameters
    ----------
    source : Source
        Logits, tokens and documents.
    names : sequence of str
        Which mixers, of `NAMES`.
    order : int in 1..32
        Of every cache.
    bar : tqdm, optional
        Told how many tokens there are, and of each that is scored.
    memory_limit : int or str, optional
        Of every cache, bytes.

    Raises
    ------
    ValueError
        If a name, the order or the limit is none, or the logits cannot be scored.
    """
    check_names(names)
    panel = Panel(names, vocab_size=source.vocab_size, order=order, memory_limit=memory_limit)
    for tokens in source.prefill:
        panel.learn(tokens)
    of_token, unit = sampling_units(source.document)
    totals = tally(panel, source, of_token, tqdm(disable=True) if bar is None else bar)
    mixers = (MODEL, *names)
    chosen = [cheapest(totals[mixer]) for mixer in mixers]
    return Comparison(
        mixers=mixers,
        settings=tuple(chosen),
        nats=np.stack([totals[mixer][s] for mixer, s in zip(mixers, chosen, strict=True)]),
        sizes=np.bincount(of_token, source.token_bytes).astype(np.float64),
        unit=unit,
        order=order,
        memory_limit=None if memory_limit is None else as_bytes(memory_limit),
    )


def tally(panel: Panel, source: Source, of_token: Tokens, bar: tqdm) -> dict[str, Totals]:
    """Nats (U,) of every unit by mixer and setting; of_token (T,): index of each token's unit."""
    n_units = int(of_token[-1]) + 1
    bar.total = len(of_token)
    totals: dict[str, Totals] = defaultdict(lambda: defaultdict(lambda: np.zeros(n_units)))
    start = 0
    for rows in source.rows():
        if rows.begins_document:
            panel.boundary()
        places = np.arange(start, start + len(rows.targets))
        for mixer, setting, nats in panel.nats(rows.logits, rows.targets, places):
            add_to_units(totals[mixer][setting], of_token[places], nats)
        start += len(places)
        bar.update(len(places))
    return totals


def add_to_units(total: Floats, unit: Tokens, nats: Floats) -> None:
    """Add nats (N,) to the total (U,) of each token's unit (N,), ascending without gaps."""
    sums = np.bincount(unit - unit[0], nats)
    total[unit[0] : unit[0] + len(sums)] += sums


def cheapest(totals: Totals) -> str:
    """The setting that spent least on the whole text."""
    return min(totals, key=lambda setting: float(totals[setting].sum()))


def check_names(names: Sequence[str]) -> None:
    """Raise ValueError unless each of the names is one of a mixer, and none comes twice."""
    for name in names:
        if name not in NAMES:
            raise ValueError(f"mixers must be of {', '.join(NAMES)}, got {name!r}; check the name")
    if len(set(names)) < len(names):
        raise ValueError(f"mixers must differ, got {','.join(names)}; name each one once")
