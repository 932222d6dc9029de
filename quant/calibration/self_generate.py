"""Calibration without data: text that the model itself makes up."""

from math import inf
from typing import TYPE_CHECKING, Any

from quant.base.config import check_int

if TYPE_CHECKING:
    from torch import Tensor, nn


def self_generate(
    model: "nn.Module",
    n_tokens: int,
    *,
    context: int,
    bos: int,
    temperature: float = 1.0,
    seed: int = 0,
    batch: int = 8,
) -> "list[Tensor]":
    """Batches (B, T) int64 of tokens drawn from the model, each row from `bos` on.

    At temperature 1 they calibrate about as well as data do; at 0.8 they do not. The model is in
    eval mode meanwhile, and as before afterwards. The same seed gives the same tokens, as far as
    the model gives the same logits. Each token takes a forward pass over those before it.

    Parameters
    ----------
    model : module of torch
        (B, T) int64 to logits, an object with ``.logits``, or a tuple that begins with them; row t
        of them from tokens 0..t alone.
    n_tokens : int >= 1
        In all batches together, the first of each row included; the last row may be shorter.
    context : int >= 1
        Tokens of a row.
    bos : int
        The token that begins a document.
    temperature : float > 0
        Logits are divided by it.
    seed : int >= 0
    batch : int >= 1
        Rows that are drawn together.

    Raises
    ------
    ValueError
        If an argument is anything else, or the model returns no finite logits.
    """
    import torch

    from quant.calibration.collector import at_rest

    check_int(n_tokens, "n_tokens", 1, 2**31 - 1)
    check_int(context, "context", 1, 2**31 - 1)
    check_int(seed, "seed", 0, 2**63 - 1)
    check_int(batch, "batch", 1, 2**31 - 1)
    if type(temperature) not in (int, float) or not 0 < temperature < inf:
        raise ValueError(f"temperature must be a number > 0, got {temperature!r}; 1.0 is usual")
    rng = torch.Generator().manual_seed(seed)
    n_rows, rest = divmod(n_tokens, context)
    shapes = [(min(batch, n_rows - row), context) for row in range(0, n_rows, batch)]
    shapes += [(1, rest)] if rest else []
    with torch.no_grad(), at_rest(model):
        vocab_size = next_logits(model, torch.zeros((1, 1), dtype=torch.int64)).shape[-1]
        check_int(bos, "bos", 0, vocab_size - 1)
        return [
            draw(model, torch.full((n, 1), bos), length, temperature, rng) for n, length in shapes
        ]


def draw(
    model: "nn.Module", tokens: "Tensor", length: int, temperature: float, rng: Any
) -> "Tensor":
    """Tokens (B, length) that begin with those given."""
    import torch

    while tokens.shape[1] < length:
        logits = next_logits(model, tokens) / temperature
        if not logits.isfinite().all():
            raise ValueError(
                f"logits must be finite, got otherwise after {tokens.shape[1]} tokens; look at the "
                "model"
            )
        drawn = torch.multinomial(logits.softmax(-1), 1, generator=rng)
        tokens = torch.cat([tokens, drawn], dim=1)
    return tokens


def next_logits(model: "nn.Module", tokens: "Tensor") -> "Tensor":
    """(B, V) float64, on the CPU: of the token after each row."""
    from quant.calibration.model_call import call, logits_of

    return logits_of(call(model, tokens))[:, -1].double().cpu()
