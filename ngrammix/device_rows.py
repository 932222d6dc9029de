"""Five numbers of each row of logits on a device: all that the mixer needs of most rows."""

from collections.abc import Callable
from functools import cache
from typing import Any

BLOCK = 1 << 24  # logits that the device converts to float64 at once: 128 MiB


def read(logits: Any, targets: Any) -> Any:
    """(N, 5) float64 tensor: largest logit, log-sum-exp minus it, log p, entropy, top token.

    logits (N, V) and targets (N,) are tensors on one device. Token ids are exact in float64.
    """
    import torch

    if logits.device.type == "cuda" and (fused := fused_reader(logits.device)) is not None:
        rows = torch.empty((len(logits), 5), dtype=torch.float64, device=logits.device)
        with torch.cuda.device(logits.device):
            fused(logits, targets, rows)
        return rows
    step = max(1, BLOCK // logits.shape[1])
    blocks = [
        read_block(logits[start : start + step], targets[start : start + step])
        for start in range(0, max(1, len(logits)), step)
    ]
    return torch.cat(blocks)


@cache
def fused_reader(device: Any) -> Callable[[Any, Any, Any], None] | None:
    """The kernel for a GPU; None where Triton is absent, or cannot compile or run it.

    Without it, reading gives the same numbers in ten times the time.
    """
    import torch

    try:
        from ngrammix.kernels import softmax_triton

        with torch.cuda.device(device):
            logits = torch.zeros((1, 2), device=device)
            rows = torch.empty((1, 5), dtype=torch.float64, device=device)
            softmax_triton.read(logits, torch.zeros(1, dtype=torch.int64, device=device), rows)
            torch.cuda.synchronize()
    except Exception:  # of any kind: no Triton, no C compiler, a GPU that it does not know
        return None
    return softmax_triton.read


def read_block(logits: Any, targets: Any) -> Any:
    """`read` by functions of torch; it takes 8 bytes a logit, several times."""
    import torch

    logits = logits.to(torch.float64)
    largest, top = logits.max(dim=1)
    shifted = logits - largest[:, None]
    log_total = shifted.logsumexp(dim=1)
    log_p = shifted.gather(1, targets[:, None])[:, 0] - log_total
    weights = (shifted - log_total[:, None]).exp()
    entropy = log_total - (weights * shifted.clamp(min=-1e4)).sum(dim=1)  # 0 * -inf is 0 here
    return torch.stack([largest, log_total, log_p, entropy, top.to(torch.float64)], dim=1)
