"""Quantizers by name: what each recipe of that name does to matrices."""

from quant.base.config import Config
from quant.quantizers.gptq import GptqConfig
from quant.quantizers.lloyd_max import LloydMaxConfig
from quant.quantizers.product import ProductConfig
from quant.quantizers.residual import ResidualConfig
from quant.quantizers.scalar import ScalarConfig

# int6 and gptq-int6 clip at 12.85 root mean squares of a row (SDClip); all others cover the largest
# weight of a row, or the range of the least squared error.
INT8, INT6 = ScalarConfig(bits=8), ScalarConfig(clip="sd:12.85")
INT4 = ScalarConfig(bits=4, clip="mse")
INT4_GROUP = ScalarConfig(bits=4, per="group", group_size=32, clip="mse", scale_dtype="float16")
NF4 = LloydMaxConfig(table="nf4", group_size=64, scale_dtype="float16")
PRODUCT4 = ProductConfig(dim=4)


def sequential_gptq(inner: ScalarConfig) -> GptqConfig:
    """GPTQ for sequential calibration, with passes of coordinate descent after the solver.

    The damping is the largest in common use: activations of a partly quantized model deserve less
    trust.
    """
    return GptqConfig(inner=inner, damp=0.1, n_passes=4)


# Quantizers for the calibration of a sequential recipe.
SEQUENTIAL: dict[str, Config] = {
    "gptq-int8": sequential_gptq(INT8),
    "gptq-int6": sequential_gptq(INT6),
    "gptq-int4": sequential_gptq(INT4),
    "gptq-int4-group": sequential_gptq(INT4_GROUP),
}
QUANTIZERS: dict[str, Config] = {
    "int8": INT8,
    "int6": INT6,
    "int4": INT4,
    "int4-group": INT4_GROUP,
    **SEQUENTIAL,
    "lloyd-4bit": LloydMaxConfig(),
    "nf4": NF4,
    "residual": ResidualConfig(stages=(PRODUCT4, PRODUCT4)),
    "pq": ProductConfig(dim=2),
}
