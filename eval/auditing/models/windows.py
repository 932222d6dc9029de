"""Windows: the texts on which a model is read, and what comes in the place of their future."""

from collections.abc import Sequence

import numpy as np

from eval.models.futures import QUICK, Kind, Kinds, any_ids
from eval.types import Tokens
from ngrammix.auditing.streams import adversarial

EVERY = 9  # tokens between two special ones, about
HEAD = 4  # first tokens of an adversarial stream, which are always the same


class Windows:
    """Windows of a text and of adversarial streams, some of them full of special tokens.

    Parameters
    ----------
    text : (N,) int64 or None
        Tokens such as the model will read. None: adversarial streams alone.
    vocab_size : int
    specials : sequence of int
        Ids with a meaning of their own: what begins a document, padding, the ends of the
        vocabulary.
    rng : numpy.random.Generator
    """

    def __init__(
        self,
        text: Tokens | None,
        vocab_size: int,
        specials: Sequence[int],
        rng: np.random.Generator,
    ) -> None:
        self.text, self.vocab_size, self.specials, self.rng = text, vocab_size, specials, rng
        self._drawn = 0

    def draw(self, length: int) -> Tokens:
        """(length,) int64: another window with each call."""
        self._drawn += 1
        if self._drawn % 4 == 0:
            return self.rng.integers(self.vocab_size, size=length)
        is_plain = self._drawn % 4 == 1
        if self.text is not None and (is_plain or self._drawn % 4 == 2):
            start = int(self.rng.integers(len(self.text)))
            base = np.resize(np.roll(self.text, -start)[:length], length)
        else:
            base = adversarial(self.vocab_size, length + HEAD, self.rng)[HEAD:]
        return base if is_plain else self.with_specials(base)

    def with_specials(self, base: Tokens) -> Tokens:
        """The window (T,) with special tokens at random places."""
        chosen = self.rng.choice(np.asarray(self.specials), len(base))
        return np.where(self.rng.random(len(base)) < 1 / EVERY, chosen, base)

    def order(self) -> Tokens:
        """(V,) int64: all ids, special ones first, then those of the text, the frequent first."""
        first = np.asarray(self.specials, np.int64)
        if self.text is not None:
            ids, counts = np.unique(self.text, return_counts=True)
            first = np.concatenate([first, ids[np.argsort(-counts, kind="stable")]])
        both = np.concatenate([first, self.rng.permutation(self.vocab_size)])
        return both[np.sort(np.unique(both, return_index=True)[1])]

    def kinds(self) -> Kinds:
        """What comes in the place of a future, in turns."""
        return (*QUICK, one_token, again, *map(run_of, self.specials))


def one_token(base: Tokens, edge: int, vocab_size: int, rng: np.random.Generator) -> Tokens:
    """Another token at the edge, then the same as before."""
    future = base[edge:].copy()
    future[0] = any_ids(base, edge, vocab_size, rng)[0]
    return future


def again(base: Tokens, edge: int, vocab_size: int, rng: np.random.Generator) -> Tokens:
    """The window from its beginning again; another token at the edge if it is the same."""
    if edge == 0:
        return any_ids(base, edge, vocab_size, rng)
    return led_by_another(np.resize(base[:edge], len(base) - edge), base[edge], vocab_size)


def run_of(token: int) -> Kind:
    """A kind of future: one token over and over."""

    def run(base: Tokens, edge: int, vocab_size: int, rng: np.random.Generator) -> Tokens:
        return led_by_another(np.full(len(base) - edge, token), base[edge], vocab_size)

    return run


def led_by_another(future: Tokens, old: int, vocab_size: int) -> Tokens:
    """The future, which begins with the next id if it would begin with the old token."""
    if future[0] == old:
        future[0] = (old + 1) % vocab_size
    return future
