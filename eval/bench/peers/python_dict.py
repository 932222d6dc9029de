"""The peers in plain Python: the same evidence from dicts, token by token."""

from collections.abc import Sequence
from typing import Any

Row = tuple[int, int, int, int, int, int]


def walk_plain(tokens: Sequence[int], order: int) -> list[Row]:
    """Evidence from a dict of counts a context, asked for sums and maxima when they are needed."""
    contexts: dict[tuple[int, ...], dict[int, int]] = {}
    seen: dict[tuple[int, ...], int] = {}
    evidence: list[Row] = []
    for i, token in enumerate(tokens):
        is_counted = True
        for k in range(min(order - 1, i), -1, -1):
            context = tuple(tokens[i - k : i])
            counts = contexts.setdefault(context, {})
            before = counts.get(token, 0)
            hint = max(counts, key=counts.__getitem__, default=0)
            hint_count = counts.get(hint, 0)
            age = i - seen.get(context, i)
            evidence.append((sum(counts.values()), len(counts), before, hint, hint_count, age))
            seen[context] = i
            if is_counted:
                counts[token] = before + 1
                is_counted = before == 0
    return evidence


def walk_tuned(tokens: Sequence[int], order: int) -> list[Row]:
    """The same with the sums and the hint kept up to date beside the counts."""
    contexts: dict[tuple[int, ...], list[Any]] = {}
    evidence: list[Row] = []
    for i, token in enumerate(tokens):
        is_counted = True
        for k in range(min(order - 1, i), -1, -1):
            context = tuple(tokens[i - k : i])
            row = contexts.get(context)
            if row is None:  # followers, distinct, hint, its count, counts, last seen
                row = contexts[context] = [0, 0, 0, 0, {}, i]
            counts = row[4]
            before = counts.get(token, 0)
            evidence.append((row[0], row[1], before, row[2], row[3], i - row[5]))
            row[5] = i
            if is_counted:
                counts[token] = before + 1
                row[0] += 1
                if before == 0:
                    row[1] += 1
                if before + 1 >= row[3]:
                    row[2], row[3] = token, before + 1
                is_counted = before == 0
    return evidence
