"""Leaks planted in a small model: what a probe for causality can be asked to find."""

from collections.abc import Callable
from typing import Any

VOCAB = 64
LEAK = 0.3  # of the standard deviation of a logit
Network = Callable[[Any], Any]


def small_network(width: int = 64, seed: int = 0) -> Network:
    """Attention over all tokens so far, causal, of random weights; from (B, T) to (B, T, V)."""
    import torch

    rng = torch.Generator().manual_seed(seed)
    embedding = torch.randn(VOCAB, width, generator=rng)
    mixed = torch.randn(3 * width, width, generator=rng) * width**-0.5

    def network(x: Any) -> Any:
        h = embedding[x]
        q, k, v = (h @ mixed.T).chunk(3, dim=-1)
        seen = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return (h + seen) @ embedding.T * width**-0.5

    return network


def planted_leaks() -> dict[str, Network]:
    """Networks by what their rows have seen; the first one is honest."""
    import torch

    honest = small_network()
    table = LEAK * torch.randn(VOCAB, VOCAB, generator=torch.Generator().manual_seed(1))

    def seeing(rows_of: Callable[[int], list[int]], ahead: int = 1) -> Network:
        def network(x: Any) -> Any:
            logits = honest(x).clone()
            rows = torch.tensor([r for r in rows_of(x.shape[1]) if 0 <= r < x.shape[1] - ahead])
            if len(rows):
                logits[:, rows] += table[x[:, rows + ahead]]
            return logits

        return network

    def chunked(x: Any) -> Any:
        means = [table[part].mean(1, keepdim=True).expand(-1, part.shape[1], -1)
                 for part in x.split(7, dim=1)]  # fmt: skip
        return honest(x) + torch.cat(means, dim=1)

    def one_next_id(x: Any) -> Any:
        logits = honest(x).clone()
        logits[:, :-1, 3] += LEAK * (x[:, 1:] == 5)
        return logits

    def one_pair(x: Any) -> Any:
        logits = honest(x).clone()
        logits[:, :-1, 3] += LEAK * ((x[:, 1:] == 5) & (x[:, :-1] == 9))
        return logits

    def stateful() -> Network:
        calls = [0]

        def network(x: Any) -> Any:
            calls[0] += 1
            return honest(x) * (1 + calls[0] / 100)

        return network

    return {
        "nothing (honest)": honest,
        "the next token": seeing(lambda n: list(range(n))),
        "a token 40 ahead": seeing(lambda n: list(range(n)), 40),
        "its chunk of 7": chunked,
        "the window shifted by one": lambda x: honest(x.roll(-1, 1)),
        "the last token": lambda x: honest(x) + table[x[:, -1:]],
        "the mean over the window": lambda x: honest(x) - honest(x).mean(1, keepdim=True),
        "the next token, at row 37": seeing(lambda n: [37]),
        "the next token, at ends of 100": seeing(lambda n: list(range(99, n, 100))),
        "the next token, in long windows": seeing(lambda n: [n // 3] if n > 200 else []),
        "whether 5 is next": one_next_id,
        "whether 5 follows 9": one_pair,
        "the other rows": lambda x: honest(x) - 0.1 * honest(x).mean(0, keepdim=True),
        "the length of the window": lambda x: honest(x) * (1 + x.shape[1] / 1000),
        "earlier calls": stateful(),
    }
