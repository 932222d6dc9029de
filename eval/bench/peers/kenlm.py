"""The peer KenLM, if it is installed: its Python API, with a model of the head of the stream."""

from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from importlib.metadata import version
from math import log10
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.bench.rounds import take_turns, timed
from eval.bench.stream import observe
from ngrammix.cache.ngram_cache import NgramCache

ABSENT = "not installed: pip install kenlm"
WAYS = {  # to query the model, by the name in the API
    "kenlm": "BaseScore",  # one call from Python a token
    "kenlm_full_scores": "full_scores",  # a generator over the text
    "kenlm_score": "score",  # one call for the whole text, which returns the sum
}
LIMIT = 200_000  # tokens of the model, and as many that are queried
ORDERS = range(2, 6)  # from the least that KenLM loads to the usual one
RUNS = 3
DISCOUNT = 0.75  # of every count; the speed does not depend on the quality of the model


def measure(tokens: NDArray[np.int64], vocab_size: int, order: int) -> dict[str, Any]:
    """Tokens a second of each way to query KenLM, and of NgramCache.observe on the same tokens.

    The cache learns the head that KenLM's model is made of; then both go over the tokens after it,
    at the same order, and the cache learns them too. Medians of RUNS rounds.
    """
    order = min(max(order, ORDERS[0]), ORDERS[-1])
    n = min(LIMIT, max(1, len(tokens) // 2))
    head, queries = tokens[:n], tokens[n : 2 * n]
    figures: dict[str, Any] = {"kenlm": ABSENT, "kenlm_order": order, "kenlm_tokens": len(queries)}
    rates = ("observe_beside_kenlm", *WAYS)
    figures |= {f"tokens_per_second_{name}": None for name in rates}
    figures |= {f"ratio_to_{name}": None for name in WAYS}
    try:
        ways = load(map(str, head.tolist()), list(map(str, queries.tolist())), order)
    except ImportError:
        return figures
    cache = NgramCache(vocab_size=vocab_size, order=order)

    def observe_queries() -> float:
        cache.clear()
        cache.learn(head)
        return timed(partial(observe, cache, queries))

    rounds = take_turns(
        {"observe_beside_kenlm": observe_queries}
        | {name: partial(timed, query) for name, query in ways.items()},
        RUNS,
    )
    for name, rate in rounds.rates(len(queries)).items():
        figures[f"tokens_per_second_{name}"] = rate
    for name in WAYS:
        figures[f"ratio_to_{name}"] = rounds.ratio(name, "observe_beside_kenlm")
    return figures | {"kenlm": version("kenlm")}


def load(
    head: Iterable[str], queries: list[str], order: int
) -> dict[str, Callable[[], float | list[float]]]:
    """Ways to query a KenLM model of `head` for the words `queries`; each gives log10 p.

    Raises
    ------
    ImportError
        If KenLM is not installed.
    """
    import kenlm

    config = kenlm.Config()
    config.show_progress, config.arpa_complain = False, kenlm.ARPALoadComplain.NONE
    with TemporaryDirectory() as folder:
        path = Path(folder, "head.arpa")
        path.write_text(arpa(list(head), order), encoding="utf-8")
        model = kenlm.Model(str(path), config)  # hash tables, its fastest structure
    text = " ".join(queries)

    def by_call() -> list[float]:
        state, after = kenlm.State(), kenlm.State()
        model.NullContextWrite(state)
        scores = []
        for word in queries:
            scores.append(model.BaseScore(state, word, after))
            state, after = after, state
        return scores

    def by_generator() -> list[float]:
        return [score for score, _, _ in model.full_scores(text, bos=False, eos=False)]

    def at_once() -> float:
        total: float = model.score(text, bos=False, eos=False)
        return total

    return dict(zip(WAYS, (by_call, by_generator, at_once), strict=True))


def arpa(words: list[str], order: int) -> str:
    """Text of an ARPA model of `words`: interpolated absolute discounting of plain counts.

    p(w|h) = (c(hw) - D) / n(h) + b(h) p(w|h'), b(h) = D u(h) / n(h), where h' lacks the first word
    of h, and n(h), u(h) are the sum and the number of the counts after h (Chen and Goodman 1999).
    """
    orders = range(1, order + 1)
    counts = [Counter(zip(*(words[i:] for i in range(k)), strict=False)) for k in orders]
    totals: Counter[tuple[str, ...]] = Counter()
    distinct: Counter[tuple[str, ...]] = Counter()
    for grams in counts:
        for gram, count in grams.items():
            totals[gram[:-1]] += count
            distinct[gram[:-1]] += 1
    backoff = {context: DISCOUNT * distinct[context] / totals[context] for context in totals}
    uniform = 1 / (len(counts[0]) + 1)  # over the words seen and the unknown one
    sizes = [len(grams) for grams in counts]
    sizes[0] += 3  # <unk>, and two that are required but never queried
    lines = ["\\data\\", *(f"ngram {k}={n}" for k, n in zip(orders, sizes, strict=True))]
    shorter: dict[tuple[str, ...], float] = {}
    for k, grams in zip(orders, counts, strict=True):
        lines += ["", f"\\{k}-grams:"]
        if k == 1:
            lines += [f"{log10(backoff[()] * uniform):.6f}\t<unk>", "-99\t<s>", "-99\t</s>"]
        longer = {}
        for gram, count in grams.items():
            context = gram[:-1]
            p = (count - DISCOUNT) / totals[context]
            p += backoff[context] * shorter.get(gram[1:], uniform)
            longer[gram] = p
            line = f"{log10(p):.6f}\t{' '.join(gram)}"
            lines.append(f"{line}\t{log10(backoff[gram]):.6f}" if gram in backoff else line)
        shorter = longer
    return "\n".join([*lines, "", "\\end\\", ""])
