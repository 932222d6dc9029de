"""Which scorers of the zoo a test audits, and on what: from the environment.

NGRAMMIX_SEED is the first seed, 0 by default. NGRAMMIX_SEEDS is how many seeds the slow tests take
for each scorer: with it they take the whole zoo, without it one seed and a part of the zoo, which
the first seed chooses. Fifty seeds take some hours on one core.
"""

import os

import ngrammix
from tests.auditing.parts import text

FIRST = int(os.environ.get("NGRAMMIX_SEED", "0"))
IS_WHOLE = "NGRAMMIX_SEEDS" in os.environ
SEEDS = range(FIRST, FIRST + int(os.environ.get("NGRAMMIX_SEEDS", "1")))
VOCAB_SIZES = (32, 64, 256)


def some(names, one_in):
    """One name in `one_in`; the next seed takes the next ones."""
    return list(names)[FIRST % one_in :: one_in]


def many(names, one_in):
    """All names if NGRAMMIX_SEEDS is set, else some."""
    return list(names) if IS_WHOLE else some(names, one_in)


def audited(scorer, seed, *, n_tokens=256, vocab_size=None, budget_seconds=3.0):
    """The audit of a scorer of the zoo on a stream of its seed; the vocabulary follows the seed."""
    vocab_size = vocab_size or VOCAB_SIZES[seed % len(VOCAB_SIZES)]
    return ngrammix.audit(
        scorer.make(seed, vocab_size), text(seed, vocab_size, n_tokens), vocab_size,
        seed=seed, budget_seconds=budget_seconds,
    )  # fmt: skip
