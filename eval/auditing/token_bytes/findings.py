"""Findings about bytes: each bug with its name, its size, and the smallest text that shows it."""

from dataclasses import dataclass

import numpy as np

from eval.auditing.token_bytes.charges import Charges, PerId, Sequence, Total
from eval.auditing.token_bytes.known_bugs import Bug, Recogniser, Wrong
from eval.auditing.token_bytes.smallest import smallest_text, starts_around
from eval.auditing.token_bytes.tally import UNKNOWN, Seen, Tally, is_count
from eval.auditing.token_bytes.text_changes import change_of
from eval.auditing.token_bytes.vocabulary import Vocabulary
from eval.data.document import Document
from eval.types import Tokens
from ngrammix.auditing.report import Finding
from ngrammix.auditing.witness import Witness

EXCERPT = 120  # characters of a text that could not be made smaller
MAX_KINDS = 8  # wrong tokens for which a smallest text is looked for, before one is given up


@dataclass(frozen=True)
class Measured:
    """A small text, encoded as a document of its own."""

    raw: bytes
    tokens: Tokens
    decoded: bytes
    charged: float  # bytes
    sizes: Tokens
    each: list[float]


class Findings:
    """Makes the findings of an audit of bytes.

    Parameters
    ----------
    vocabulary : Vocabulary
        The tokenizer.
    charges : Charges or None
        What is charged; None: what the tokenizer itself says.
    tally : Tally
        What was counted.
    is_given : bool
        Whether the tokens were passed; a smaller text then has none.
    """

    def __init__(
        self, vocabulary: Vocabulary, charges: Charges | None, tally: Tally, *, is_given: bool
    ) -> None:
        self._vocabulary, self._charges, self._tally = vocabulary, charges, tally
        self._is_given = is_given
        per_id = None if isinstance(charges, Sequence | Total) else charges
        self._per_id: PerId | None = per_id
        self._recogniser = Recogniser(vocabulary, per_id)
        self._special = set(vocabulary.special())

    def of_tokens(self) -> list[Finding]:
        """Tokens that are charged with other bytes than they have, a finding for each bug.

        Where a number goes with a token of the text and not with its id, bytes may move from one
        token to its neighbour: only documents with a wrong sum count.
        """
        tally = self._tally
        if self._per_id is None and not tally.documents:
            return []
        wrong = [one for one in tally.wrong if one.i not in self._special]
        named = self._recogniser.explain(wrong, list(tally.right)) if wrong else {}
        found = [self._of_bug(bug, ones) for bug, ones in named.items()]
        return [one for one in found if one is not None]

    def of_special(self) -> list[Finding]:
        """Special tokens that are charged with bytes."""
        if self._per_id is None and not self._tally.documents:
            return []
        kinds = {one.i: one.charged for one in self._tally.wrong if one.i in self._special}
        ids = np.array(sorted(self._special - kinds.keys()), np.int64)
        if self._per_id is not None and len(ids):
            try:
                entries = self._per_id.entry(ids).tolist()
            except ValueError:  # of a user's function that knows no special tokens
                entries = []
            kinds |= {i: n for i, n in zip(ids.tolist(), entries, strict=False) if n != 0}
        kinds = {i: n for i, n in kinds.items() if is_count(n)}
        if not kinds:
            return []
        pieces = {i: self._vocabulary.piece(i) for i in kinds}
        by_name = [i for i in kinds if kinds[i] == len(pieces[i].encode()) and pieces[i]]
        groups = [(by_name, "are counted by their names")]
        groups.append(([i for i in kinds if i not in by_name], "such as BOS and EOS are counted"))
        found = []
        for members, what in groups:
            if not members:
                continue
            i = members[0] if self._vocabulary.bos not in members else self._vocabulary.bos
            seen = next((s for one, s in self._tally.wrong.items() if one.i == i), None)
            found.append(
                Finding(
                    "bytes",
                    None if seen is None else seen.position,
                    Witness("bytes", (0.0, kinds[i]), "bytes", (i,), tokens=(i,), text=pieces[i]),
                    f"bytes must be those of the text, but special tokens {what}: {pieces[i]!r} "
                    f"(id {i}) is charged with {kinds[i]:g} and has none in a text"
                    f"{f', and {len(members) - 1} more' if len(members) > 1 else ''}; charge 0",
                )
            )
        return found

    def of_changes(self) -> list[Finding]:
        """Texts whose tokens decode to other bytes, a finding for each way in which they changed.

        Where each token is charged with bytes of its own and their sum is right, the tokens may be
        those of a lossless transform of the text.
        """
        tally, found = self._tally, []
        if self._per_id is None and tally.wrong and not tally.documents:
            return []
        for change, seen in tally.changed.items():
            found.append(self._of_change(change, seen))
        return found

    def of_sums(self) -> list[Finding]:
        """The documents whose sum is wrong, where nothing else says why."""
        if not self._tally.documents:
            return []
        name, right, charged, part = self._tally.documents[0]
        n = len(self._tally.documents)
        return [
            Finding(
                "bytes",
                None,
                Witness("bytes", (float(right), charged), "bytes", text=excerpt(part.raw, 0)),
                f"the bytes of tokens must sum to the raw bytes of each document, got {charged:g} "
                f"for {right} in {name}{f', and {n - 1} more' if n > 1 else ''}{self._ratio()}; "
                "count the bytes of the text that each token stands for",
            )
        ]

    def of_total(self, found: int, why: str) -> Finding:
        """A wrong number of all bytes."""
        right = self._tally.n_bytes
        ratio = f", x{found / right:.5f}" if right else ""
        return Finding(
            "bytes",
            None,
            Witness("bytes", (float(right), float(found)), "bytes"),
            f"the number of bytes must be that of the raw text, {right:,}, got {found:,}{ratio}: "
            f"{why}; divide by the bytes of the text",
        )

    def of_malformed(self) -> list[Finding]:
        """Entries that are no number of bytes: negative, fractional, NaN."""
        kinds = {one.i: (one.charged, seen) for one, seen in self._tally.malformed.items()}
        values = {i: value for i, (value, _) in kinds.items()}
        entries = getattr(self._per_id, "entries", None)
        if entries is not None:
            bad = np.flatnonzero(
                ~((entries >= 0) & np.isfinite(entries) & (entries == np.floor(entries)))
            )
            values |= {i: float(entries[i]) for i in bad.tolist()}
        if not values:
            return []
        i, value = next(iter(values.items()))
        seen = kinds[i][1] if i in kinds else None
        size = self._vocabulary.size
        right = len(self._vocabulary.token(i)) if size is None or i < size else 0
        what = "NaN or infinite" if not np.isfinite(value) else (
            "negative" if value < 0 else "fractional")  # fmt: skip
        if what == "fractional" and len(values) > 1 and len(set(values.values())) == 1:
            what = "the average of all tokens"
        return [
            Finding(
                "bytes",
                None if seen is None else seen.position,
                Witness("bytes", (float(right), value), "bytes", (i,), tokens=(i,)),
                f"the bytes of a token must be a whole number >= 0, got {value:g} ({what}) for id "
                f"{i}, which has {right}, and {len(values) - 1} more such; count the bytes that "
                "the token decodes to",
            )
        ]

    def _of_bug(self, bug: Bug, ones: list[Wrong]) -> Finding | None:
        """The finding of a bug, or None if no text shows a wrong sum."""
        tally, ids = self._tally, {one.i for one in ones}
        seen = {one: tally.wrong[one] for one in ones}
        first = min(ones, key=lambda one: (seen[one].document, seen[one].position))
        proof = self._smallest(sorted(ones, key=lambda one: -seen[one].n), ids)
        if proof is None and self._per_id is not None and not tally.documents:
            return None
        n = sum(place.n for place in seen.values())
        extra = sum(seen[one].n * (one.charged - one.right) for one in ones)
        ratio = f", x{(tally.n_bytes + extra) / tally.n_bytes:.5f}" if tally.n_bytes else ""
        by_id = {one.i: one for one in reversed(ones)}
        held = proof.tokens.tolist() if proof else []
        shown = next((by_id[i] for i in held if i in by_id), first)
        token = written(self._vocabulary.token(shown.i))
        message = (
            f"bytes must be those of the text, but {bug.name}: {n:,} of {tally.n_tokens:,} tokens, "
            f"such as {token} (id {shown.i}) with {shown.charged:g} for {shown.right}; "
            f"{tally.n_bytes + extra:,.0f} bytes for {tally.n_bytes:,}{ratio}; first in "
            f"{seen[first].part.name} at token {seen[first].position}; {bug.mend}"
        )
        if proof is None:
            part = seen[first].part
            numbers = next(
                ((float(right), charged) for name, right, charged, _ in tally.documents
                 if name == part.name),
                (float(first.right), first.charged),
            )  # fmt: skip
            witness = Witness("bytes", numbers, "bytes", tokens=(first.i,),
                              text=excerpt(part.raw, seen[first].offset))  # fmt: skip
        else:
            numbers = (float(len(proof.raw)), proof.charged)
            witness = Witness("bytes", numbers, "bytes", tuple(proof.tokens.tolist()),
                              tokens=(shown.i,), text=proof.raw.decode())  # fmt: skip
        return Finding("bytes", seen[first].position, witness, message)

    def _of_change(self, change: str, seen: Seen) -> Finding:
        part = seen.part

        def shows(text: str) -> bool:
            one = self._measure(text)
            if one is None or one.decoded == one.raw:
                return False
            return change == self._change(one)

        starts = starts_around(part.raw, seen.offset, seen.offset + 1)
        small = None if self._is_given else smallest_text(starts, shows)
        one = None if small is None else self._measure(small)
        if one is None:
            raw, decoded = part.raw, part.decoded
            text, stream = excerpt(part.raw, seen.offset), ()
        else:
            raw, decoded = one.raw, one.decoded
            text, stream = one.raw.decode(), tuple(one.tokens.tolist())
        # Where the lengths are equal: the bytes that stayed the same.
        same = sum(a == b for a, b in zip(raw, decoded, strict=False))
        numbers = (float(len(raw)), float(same if len(raw) == len(decoded) else len(decoded)))
        return Finding(
            "bytes",
            seen.position,
            Witness("bytes", numbers, "bytes", stream, text=text),
            f"tokens must decode to the raw bytes, but {change}: {decoded[:40]!r} for {raw[:40]!r}"
            f"; first in {part.name} at token {seen.position}, in {seen.n:,} of "
            f"{self._tally.n_documents:,} documents{self._ratio()}; score the text that the bytes "
            "are counted of, with a tokenizer that loses nothing",
        )

    def _change(self, one: Measured) -> str:
        if any(self._vocabulary.is_unknown(i) for i in one.tokens.tolist()):
            return UNKNOWN
        return change_of(one.decoded, one.raw, is_given=False)

    def _ratio(self) -> str:
        """The bytes charged for all documents and their ratio, if they are known and wrong."""
        right, charged = self._tally.n_bytes, self._tally.charged
        if not right or not self._tally.documents:
            return ""
        return f"; {charged:,.0f} bytes for {right:,} in all, x{charged / right:.5f}"

    def _smallest(self, ones: list[Wrong], ids: set[int]) -> Measured | None:
        """The smallest text with one of these tokens and a wrong sum."""
        if self._per_id is None and (self._charges is not None or self._is_given):
            return None

        def shows(text: str) -> bool:
            one = self._measure(text)
            if one is None or one.charged == len(one.raw) or one.decoded != one.raw:
                return False
            columns = zip(one.tokens.tolist(), one.each, one.sizes.tolist(), strict=True)
            return any(i in ids and charged != size for i, charged, size in columns)

        for one in ones[:MAX_KINDS]:
            seen = self._tally.wrong[one]
            starts = starts_around(seen.part.raw, seen.offset, seen.offset + max(one.right, 1))
            small = smallest_text(starts, shows)
            if small is not None:
                return self._measure(small)
        return None

    def _measure(self, text: str) -> Measured | None:
        """A text as a document of its own; None if it cannot be encoded."""
        vocabulary = self._vocabulary
        try:
            raw = text.encode()
            tokens, own = vocabulary.encode(Document("a part of the text", raw))
        except ValueError:
            return None
        each = np.zeros(len(tokens))
        if self._per_id is not None:
            each = self._per_id.of(tokens, vocabulary.bos)
        elif own is not None:
            each = own.astype(np.float64)
        sizes = vocabulary.sizes(tokens, begins=True)
        decoded = vocabulary.text(tokens, begins=True)
        return Measured(raw, tokens, decoded, float(each.sum()), sizes, each.tolist())


def excerpt(raw: bytes, offset: int) -> str:
    """The text from shortly before a byte on, `EXCERPT` characters at most."""
    return raw[max(0, offset - EXCERPT // 4) :].decode("utf-8", "ignore")[:EXCERPT]


def written(token: bytes) -> str:
    """A token for a message: as text, or as bytes if it is none."""
    try:
        return repr(token.decode())
    except UnicodeDecodeError:
        return repr(token)
