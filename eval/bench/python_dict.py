"""The peer in plain Python: the same evidence from a dict of contexts, token by token."""

from collections.abc import Sequence


def walk(tokens: Sequence[int], order: int) -> dict[tuple[int, ...], list]:  # type: ignore[type-arg]
    """Observe `tokens`; context -> [followers, distinct, hint, hint count, counts, last seen]."""
    contexts: dict[tuple[int, ...], list] = {}  # type: ignore[type-arg]
    evidence: list[tuple[int, ...]] = []
    for i, token in enumerate(tokens):
        is_counted = True
        for k in range(min(order - 1, i), -1, -1):
            context = tuple(tokens[i - k : i])
            row = contexts.get(context)
            if row is None:
                row = contexts[context] = [0, 0, 0, 0, {}, 0]
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
    return contexts
