"""The peers in plain Python: evidence and matches from dicts, token by token."""

from collections.abc import Sequence
from typing import Any

Row = tuple[int, int, int, int, int, int]


def walk_plain(tokens: Sequence[int], order: int) -> list[Row]:
    """Evidence from a dict of counts for each context; sums and maxima are computed anew."""
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
    """The same evidence; sums and hints are updated with the counts."""
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


def match(tokens: Sequence[int], min_length: int) -> list[tuple[int, int]]:
    """(length, hint) before each token, as MatchModel finds them, from a dict of contexts."""
    ends: dict[tuple[int, ...], int] = {}  # position after the last occurrence of each context
    matches = []
    pointer = length = 0
    for i, token in enumerate(tokens):
        matches.append((length, tokens[pointer] if length else 0))
        length = length + 1 if length and tokens[pointer] == token else 0
        pointer += 1
        if i + 1 < min_length:
            continue
        context = tuple(tokens[i + 1 - min_length : i + 1])
        end = ends.get(context, 0)
        ends[context] = i + 1
        if end and not length:
            pointer, length = end, min_length
            while length < end and tokens[end - 1 - length] == tokens[i - length]:
                length += 1
    return matches
