"""Calibration without data: sample token sequences from the model itself."""

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
    """Batches (B, T) int64 of token sequences that are sampled from the model.

    At temperature 1 they calibrate about as well as real text; at 0.8 they do not. The model runs
    in eval mode and is left as it was. The same seed gives the same tokens if the model computes
    the same logits. There is no KV cache: each token costs a forward pass over its whole context.

    Parameters
    ----------
    model : torch.nn.Module
        Maps (B, T) int64 tokens to logits (B, T, V), an object with ``.logits``, or a tuple whose
        first item is logits. Logits at position t may depend on tokens 0..t only.
    n_tokens : int >= 1
        Tokens of all batches together, `bos` included. The last sequence may be shorter.
    context : int >= 1
        Tokens of a sequence.
    bos : int
        First token of each sequence.
    temperature : float > 0
        Divides the logits.
    seed : int >= 0
        Seed of the sampling.
    batch : int >= 1
        Sequences that are sampled together.

    Raises
    ------
    ValueError
        If an argument is out of range, or the logits are not finite.
    """
    import torch

    from quant.calibration.model_state import ModelState

    n_tokens = check_int(n_tokens, "n_tokens", 1, 2**31 - 1)
    context = check_int(context, "context", 1, 2**31 - 1)
    seed = check_int(seed, "seed", 0, 2**63 - 1)
    batch = check_int(batch, "batch", 1, 2**31 - 1)
    if type(temperature) not in (int, float) or not 0 < temperature < inf:
        raise ValueError(f"temperature must be a number > 0, got {temperature!r}; 1.0 is usual")
    rng = torch.Generator().manual_seed(seed)
    n_rows, rest = divmod(n_tokens, context)
    shapes = [(min(batch, n_rows - row), context) for row in range(0, n_rows, batch)]
    shapes += [(1, rest)] if rest else []
    with ModelState(model).running(seed):
        vocab_size = next_logits(model, torch.zeros((1, 1), dtype=torch.int64)).shape[-1]
        bos = check_int(bos, "bos", 0, vocab_size - 1)
        return [
            sample(model, torch.full((n, 1), bos), length, temperature, rng) for n, length in shapes
        ]


def sample(
    model: "nn.Module", tokens: "Tensor", length: int, temperature: float, rng: Any
) -> "Tensor":
    """Tokens (B, length) that continue `tokens`, (B, 1) or longer."""
    import torch

    while tokens.shape[1] < length:
        logits = next_logits(model, tokens) / temperature
        if not logits.isfinite().all():
            raise ValueError(
                f"logits must be finite, got NaN or infinity after {tokens.shape[1]} tokens; check "
                "the model's weights"
            )
        sampled = torch.multinomial(logits.softmax(-1), 1, generator=rng)
        tokens = torch.cat([tokens, sampled], dim=1)
    return tokens


def next_logits(model: "nn.Module", tokens: "Tensor") -> "Tensor":
    """(B, V) float64 on the CPU: logits of the token after each sequence."""
    from quant.calibration.model_call import call, logits_of

    return logits_of(call(model, tokens))[:, -1].double().cpu()
