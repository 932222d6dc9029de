"""Run `F.multi_head_attention_forward` in steps, so that its four matrix products are recorded."""

import inspect
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


def attention(recorder: TorchFunctionMode, func: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
    """Result of the function; its products with weights are recorded.

    The recorder is active only while queries, keys, values and outputs are projected. The function
    itself is called with identity matrices as projections.
    """
    given = inspect.signature(func).bind(*args, **kwargs)
    given.apply_defaults()
    options = dict(given.arguments)
    width = options["embed_dim_to_check"]
    weights, biases = projections(options, width)
    inputs = [options[name] for name in ("query", "key", "value")]
    with recorder:
        projected = [
            F.linear(x, weight, bias)
            for x, weight, bias in zip(inputs, weights, biases, strict=True)
        ]
    identity = torch.eye(width, dtype=projected[0].dtype, device=projected[0].device)
    options |= dict(zip(("query", "key", "value"), projected, strict=True))
    options |= {
        "use_separate_proj_weight": True,
        "in_proj_weight": None,
        "in_proj_bias": None,
        "q_proj_weight": identity,
        "k_proj_weight": identity,
        "v_proj_weight": identity,
        "out_proj_weight": identity,
        "out_proj_bias": None,
    }
    attended, scores = func(**options)
    with recorder:
        output = F.linear(
            attended, given.arguments["out_proj_weight"], given.arguments["out_proj_bias"]
        )
    return output, scores


def projections(options: dict[str, Any], width: int) -> tuple[list[Tensor], list[Any]]:
    """(weights, biases) of query, key and value."""
    parts = [slice(i * width, (i + 1) * width) for i in range(3)]
    if options["use_separate_proj_weight"]:
        weights = [options[f"{letter}_proj_weight"] for letter in "qkv"]
    else:
        weights = [options["in_proj_weight"][part] for part in parts]
    bias = options["in_proj_bias"]
    return weights, [None if bias is None else bias[part] for part in parts]
