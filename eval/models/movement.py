"""Movement: how far logits moved between two passes, and how far rounding alone can move them."""

from collections.abc import Callable
from typing import Any

import numpy as np

from eval.types import Floats
from ngrammix.logits import is_tensor

LEAST = -100.0  # nats: tokens that are less likely, as masked ones are, do not count
FLIPS = 0.05  # largest share of the moved positions that routers at a tie can move far


def movement(a: Any, b: Any, tolerance: float = 0.0) -> Floats:
    """How far each of N distributions moved: largest change of a log-probability.

    Parameters
    ----------
    a, b : (N, V) float
        Logits, both tensors on one device or both arrays.
    tolerance : float
        Share of itself by which a logit may differ and still counts as the same.

    Returns
    -------
    (N,) float64, nats
        Exactly 0 where the logits are equal bit for bit. Tokens below e^-100 in both do not count.
    """
    import torch

    a, b = as_tensor(a), as_tensor(b)
    if torch.equal(a, b):  # nearly always
        return np.zeros(len(a))
    moved = torch.zeros(len(a), dtype=torch.float64)
    rows = (~((a == b) | (a.isnan() & b.isnan())).all(dim=-1)).nonzero().flatten()
    if len(rows):
        a, b = a[rows], b[rows]
        if tolerance > 0:
            a, b = a.float(), b.float()
            b = torch.where((a - b).abs() <= tolerance * torch.maximum(a.abs(), b.abs()), a, b)
        p, q = (log_softmax(logits) for logits in (a, b))
        is_same = (p == q) | ((p < LEAST) & (q < LEAST))
        change = torch.where(is_same, torch.zeros_like(p), p - q).abs().amax(dim=-1)
        moved[rows.cpu()] = change.nan_to_num(nan=np.inf, posinf=np.inf).double().cpu()
    values: Floats = moved.numpy()
    return values


def spread(logits: Any) -> float:
    """Standard deviation of the logits (N, V) of a position, root mean square of all N.

    Those of tokens below about e^-100 are left out: a mask may be -inf, -1e9, or in between.
    """
    import torch

    logits = as_tensor(logits).float()
    largest = logits.nan_to_num(nan=-torch.inf).amax(dim=-1, keepdim=True)
    counts = logits.isfinite() & (logits >= largest + LEAST)
    n = counts.sum(dim=-1, keepdim=True).clamp(min=1)
    mean = torch.where(counts, logits, 0).sum(dim=-1, keepdim=True) / n
    squares = torch.where(counts, logits - mean, 0).square().sum(dim=-1, keepdim=True) / n
    return float(squares.mean().sqrt())


def recorded(forward: Callable[[], Any]) -> tuple[Any, float]:
    """The logits of a forward pass, and the relative rounding error of its coarsest dtype.

    A model may compute in bfloat16 and return float32. Matrix products on a GPU, and those with a
    lower ``float32_matmul_precision``, round float32 to 10 bits or fewer.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    dtypes = set()

    class Recorder(TorchFunctionMode):
        """Records the dtype of every tensor that a function of torch returns."""

        def __torch_function__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            output = function(*args, **(kwargs or {}))
            if isinstance(output, torch.Tensor) and output.is_floating_point():
                dtypes.add(output.dtype)
            return output

    with Recorder():
        logits = as_tensor(forward())
    dtypes.add(logits.dtype)
    if torch.float32 in dtypes:
        try:
            precision = torch.get_float32_matmul_precision()
        except RuntimeError:  # it was set by its newer names, one for each backend
            precision = "medium"
        if precision == "medium":
            dtypes.add(torch.bfloat16)
        elif precision == "high" or logits.device.type != "cpu":
            dtypes.add(torch.float16)  # TF32 has as many digits
    return logits, max(torch.finfo(dtype).eps for dtype in dtypes)


def is_beyond(moved: Floats, bound: float) -> bool:
    """Whether moved (...) nats are more than rounding, which is at most `bound` at nearly all.

    Where the order of sums differs, as in a mixture of experts that has other tokens to work on,
    rounding moves all positions a little. A router that was at a tie then chooses another expert,
    which moves single positions far: these are not counted.
    """
    return bool((moved > bound).sum() > FLIPS * (moved > 0).sum())


def log_softmax(logits: Any) -> Any:
    """Log-probabilities in float64, or in float32 on a device that has no float64."""
    import torch

    dtype = torch.float32 if logits.device.type == "mps" else torch.float64
    return logits.to(dtype).log_softmax(dim=-1)


def as_tensor(logits: Any) -> Any:
    """Logits as a tensor, on the device where they are."""
    import torch

    return logits if is_tensor(logits) else torch.from_numpy(np.array(logits))
