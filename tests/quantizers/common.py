"""Every kind of quantizer under its typical settings, and the inputs that it needs."""

import numpy as np

from quant.base.config import Config
from quant.quantizers.gptq import GptqConfig
from quant.quantizers.lloyd_max import LloydMaxConfig
from quant.quantizers.product import ProductConfig
from quant.quantizers.residual import ResidualConfig
from quant.quantizers.scalar import ScalarConfig

SCALAR = {
    f"scalar {per} {'symmetric' if symmetric else 'affine'} {clip}": ScalarConfig(
        bits=4, per=per, group_size=3 if per == "group" else None, symmetric=symmetric, clip=clip
    )
    for per in ("tensor", "row", "column", "group")
    for symmetric in (True, False)
    for clip in ("absmax", "mse", "hessian", "sd:3")
}
HALF = ScalarConfig(bits=3, per="group", group_size=4, symmetric=False, scale_dtype="float16")
LLOYD = {
    "lloyd": LloydMaxConfig(k=5),
    "lloyd iterative": LloydMaxConfig(k=9, method="iterative"),
    "lloyd rms float16": LloydMaxConfig(k=16, scale="rms", group_size=4, scale_dtype="float16"),
    "lloyd unscaled": LloydMaxConfig(k=7, scale="none"),
    "nf4": LloydMaxConfig(table="nf4", group_size=3),
}
PRODUCT = {
    f"product {dim} {'shared' if shared else 'own'} {scale}": ProductConfig(
        dim=dim, k=8, shared=shared, scale=scale
    )
    for dim in (1, 2, 4)
    for shared in (True, False)
    for scale in ("rms", "absmax", "none")
}
GPTQ = {
    "gptq": GptqConfig(),
    "gptq affine float16": GptqConfig(inner=HALF),
    "gptq own order": GptqConfig(inner=SCALAR["scalar group symmetric hessian"], act_order=False),
    "gptq dynamic": GptqConfig(inner=SCALAR["scalar group symmetric mse"], static_groups=False),
    "gptq dynamic own order": GptqConfig(
        inner=SCALAR["scalar group affine absmax"], static_groups=False, act_order=False
    ),
    "gptq passes": GptqConfig(inner=ScalarConfig(bits=3), n_passes=2),
    "gptq lloyd": GptqConfig(inner=LLOYD["lloyd"], n_passes=1),
    "gptq nf4": GptqConfig(inner=LLOYD["nf4"]),
}
CONFIGS: dict[str, Config] = {
    **SCALAR,
    "scalar float16": HALF,
    **LLOYD,
    **PRODUCT,
    "residual": ResidualConfig(),
    "residual of both": ResidualConfig(stages=(ProductConfig(dim=2, k=8), LloydMaxConfig(k=4))),
    **GPTQ,
}


def hessian_of(n_columns):
    """A Hessian (C, C) whose columns are correlated."""
    inputs = np.random.default_rng(n_columns).standard_normal((3 * n_columns, n_columns))
    inputs[:, 1:] += inputs[:, :-1]
    return inputs.T @ inputs / len(inputs)


def inputs_of(config, n_columns):
    """Keyword arguments that `encode` needs beside the weight."""
    return {"hessian": hessian_of(n_columns)} if config.needs_hessian else {}


def encode(config, weight, **options):
    """The weight quantized, with a Hessian if the configuration needs one."""
    shape = np.shape(weight)
    n_columns = shape[0] if options.get("transposed") else int(np.prod(shape[1:]))
    return config.encode(weight, **inputs_of(config, n_columns), **options)


def refusal(call, *arguments, **options):
    """Text of the ValueError that a call raises."""
    try:
        call(*arguments, **options)
    except ValueError as error:
        return str(error)
    raise AssertionError(f"{call} raised no ValueError")
