"""Known bugs of byte tables: what each charges to a token, and which explain what was charged."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from eval.auditing.token_bytes.charges import PerId, Table
from eval.auditing.token_bytes.vocabulary import Vocabulary

LITERAL = re.compile("<0x[0-9A-Fa-f]{2}>")
MARK = "\u2581"
SAMPLE = 4096  # ids of the vocabulary, besides those of the text, on which a bug must show too
MIN_SHARE = 0.5  # of the ids that a bug concerns, and on which it must be seen


@dataclass(frozen=True)
class Token:
    """A token of the vocabulary, in the ways in which programs look at it."""

    i: int
    raw: bytes  # the bytes of the text that it stands for
    piece: str  # as it is written in the vocabulary
    alone: str  # decoded alone
    before: int  # bytes of the token before it in the vocabulary
    after: int  # bytes of the token after it in the vocabulary


@dataclass(frozen=True)
class Wrong:
    """A token that is charged with other bytes than it has.

    Attributes
    ----------
    i : int
        Its id.
    charged, right : float, int
        Bytes charged, and bytes of the text.
    is_first : bool
        Whether it is the first token of a document.
    """

    i: int
    charged: float
    right: int
    is_first: bool = False


@dataclass(frozen=True)
class Bug:
    """A known bug.

    Attributes
    ----------
    name : str
        What is counted wrongly, as a clause.
    mend : str
        What would be right.
    charge : function of a Token
        The bytes that a program with this bug charges to it; None if the bug does not concern it.
    """

    name: str
    mend: str
    charge: Callable[[Token], int | None]


def has_space(token: Token) -> bool:
    """Whether the token begins with a space."""
    return token.raw.startswith(b" ")


def n_characters(token: Token) -> int:
    """Characters of the token; of one that is no whole character, of what it decodes to alone."""
    try:
        return len(token.raw.decode("utf-8"))
    except UnicodeDecodeError:
        return len(token.alone)


BUGS = (
    Bug(
        "the leading space is counted twice, in the table and again where it is used",
        "count the space of a token such as ' the' once",
        lambda t: len(t.raw) + 1 if has_space(t) else None,
    ),
    Bug(
        "byte tokens are sized by the literal <0xXX>, six characters",
        "count one byte for a byte token",
        lambda t: len(t.piece) if LITERAL.fullmatch(t.piece) else None,
    ),
    Bug(
        "U+FFFD is counted, three bytes, for tokens that are not UTF-8 alone",
        "take the bytes of the token, not those of decode([id])",
        lambda t: len(t.alone.encode()) if "\ufffd" in t.alone else None,
    ),
    Bug(
        "tokens that are not UTF-8 alone are counted without the bytes that cannot be decoded",
        "take the bytes of the token, not those of decode([id])",
        lambda t: len(t.raw.decode("utf-8", "ignore").encode()),
    ),
    Bug(
        "the leading space is not counted",
        "count the space of a token such as ' the': decode([id]) drops it",
        lambda t: len(t.raw) - 1 if has_space(t) else None,
    ),
    Bug(
        "tokens are sized as they are written in the vocabulary, with letters or marks that stand "
        "for bytes (U+2581 or \u0120 for a space)",
        "count the bytes that the token decodes to",
        lambda t: len(t.piece.encode("utf-8", "replace")),
    ),
    Bug(
        "characters are counted in place of bytes",
        "count the bytes of the token in UTF-8",
        n_characters,
    ),
    Bug(
        "the characters of decode([id]) are counted, which drops the leading space",
        "count the bytes of the token in UTF-8, with its space",
        lambda t: len(t.alone),
    ),
    Bug(
        "tokens are counted in place of bytes, one each",
        "count the bytes of each token",
        lambda t: 1,
    ),
    Bug(
        "the white space of tokens is stripped",
        "count the white space too",
        lambda t: len(t.raw.strip()),
    ),
    Bug(
        "the table is shifted by one id: each token has the bytes of the id before it",
        "check where the ids begin",
        lambda t: t.before,
    ),
    Bug(
        "the table is shifted by one id: each token has the bytes of the id after it",
        "check where the ids begin",
        lambda t: t.after,
    ),
)
PREFIX = Bug(
    "the space that the tokenizer puts before each document is counted",
    "leave out the leading space of the first token",
    lambda t: len(t.raw) if has_space(t) else None,
)
FIRST = Bug(
    "the space at the start of a document is not counted",
    "count it: it is part of the text of this tokenizer",
    lambda t: len(t.raw) - 1 if has_space(t) else None,
)
OTHER = Bug(
    "tokens are charged with other bytes than they have, in no pattern that is known",
    "take the bytes that each token decodes to",
    lambda t: None,
)


def token_of(vocabulary: Vocabulary, i: int) -> Token:
    """What programs may see of the token of an id."""
    near = [len(vocabulary.token(j)) if is_id(vocabulary, j) else 0 for j in (i - 1, i + 1)]
    return Token(i, vocabulary.token(i), vocabulary.piece(i), vocabulary.alone(i), *near)


def is_id(vocabulary: Vocabulary, i: int) -> bool:
    """Whether the vocabulary is known to have a token of this id."""
    return 0 <= i < (vocabulary.size or 0)


class Recogniser:
    """Which known bugs explain what was charged.

    A bug is recognised if it explains wrong tokens, and shows on at least half of the ids that it
    concerns. So one wrong entry that looks like a bug by chance is not called one.

    Parameters
    ----------
    vocabulary : Vocabulary
        The tokenizer.
    charges : PerId or None
        What is charged to each id; None if only the tokens of the text are known.
    """

    def __init__(self, vocabulary: Vocabulary, charges: PerId | None) -> None:
        self._vocabulary, self._charges = vocabulary, charges
        self._tokens: dict[int, Token] = {}

    def token(self, i: int) -> Token:
        """The token of an id."""
        if i not in self._tokens:
            self._tokens[i] = token_of(self._vocabulary, i)
        return self._tokens[i]

    def explain(self, wrong: Sequence[Wrong], right: Sequence[Wrong]) -> dict[Bug, list[Wrong]]:
        """The bugs that explain the wrong tokens, each with those that it explains.

        The bug that explains most comes first, and of two the one that is seen on more ids; then
        the bug that explains most of the rest.

        Parameters
        ----------
        wrong, right : sequence of Wrong
            The tokens of the text, each kind once, that are charged wrongly and rightly.
        """
        seen = {one.i: one.charged for one in (*right, *wrong) if not one.is_first}
        seen |= self._sampled(seen)
        found: dict[Bug, list[Wrong]] = {}
        left = list(wrong)
        shown = {bug: self._n_shown(bug, seen) for bug in BUGS}
        while left:
            named = [(bug, [one for one in left if self._fits(bug, one)])
                     for bug, n in shown.items() if n]  # fmt: skip
            named += [(bug, [one for one in left if self._fits_first(bug, one)])
                      for bug in (PREFIX, FIRST)]  # fmt: skip
            bug, explained = max(named, key=lambda pair: (len(pair[1]), shown.get(pair[0], 0)))
            if not explained:
                break
            found[bug], known = explained, set(explained)
            left = [one for one in left if one not in known]
        return found | ({OTHER: left} if left else {})

    def _fits(self, bug: Bug, one: Wrong) -> bool:
        return self._concerns(bug, one.i) and bug.charge(self.token(one.i)) == one.charged

    def _fits_first(self, bug: Bug, one: Wrong) -> bool:
        return one.is_first and bug.charge(self.token(one.i)) == one.charged

    def _n_shown(self, bug: Bug, charged: dict[int, float]) -> int:
        """On how many ids the bug is seen; 0 if on too few of those that it concerns."""
        concerned = [i for i in charged if self._concerns(bug, i)]
        n_shown = sum(bug.charge(self.token(i)) == charged[i] for i in concerned)
        return n_shown if n_shown >= MIN_SHARE * len(concerned) else 0

    def _concerns(self, bug: Bug, i: int) -> bool:
        token = self.token(i)
        return bool(token.raw) and bug.charge(token) not in (None, len(token.raw))

    def _sampled(self, seen: dict[int, float]) -> dict[int, float]:
        """What is charged to ids that the text does not hold, evenly from the vocabulary."""
        size, charges = self._vocabulary.size, self._charges
        if size is None or not isinstance(charges, Table):
            return {}
        special = set(self._vocabulary.special())
        ids = np.linspace(0, size - 1, min(size, SAMPLE)).astype(np.int64)
        ids = np.array([i for i in ids.tolist() if i not in special and i not in seen], np.int64)
        return dict(zip(ids.tolist(), charges.entry(ids).tolist(), strict=True))
