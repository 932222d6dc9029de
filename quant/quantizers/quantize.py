"""Any configuration's way of quantizing a weight, in one call."""

from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any

from quant.base.config import Config
from quant.base.tensor import QuantizedTensor
from quant.quantizers.gptq import GptqQuantizer
from quant.quantizers.gptq_config import GptqConfig
from quant.quantizers.lloyd_max import LloydMaxConfig, LloydMaxQuantizer
from quant.quantizers.product import ProductConfig, ProductQuantizer
from quant.quantizers.residual import ResidualConfig, ResidualQuantizer
from quant.quantizers.scalar import ScalarConfig, ScalarQuantizer

PLAIN: dict[type[Config], Callable[[Any], Any]] = {
    LloydMaxConfig: LloydMaxQuantizer,
    ProductConfig: ProductQuantizer,
    ResidualConfig: ResidualQuantizer,
}


def quantize(
    weight: Any, config: Config, hessian: Any = None, *, transposed: bool = False
) -> QuantizedTensor:
    """The weight, quantized as the configuration says.

    Parameters
    ----------
    weight : as `quant.base.matrix.as_matrix` takes it
    config : Config
    hessian : Hessian, or (C, C) float, optional
        For those that need one (see `needs_hessian`); else not used.
    transposed : bool
        Whether the weight is stored (in, out).

    Raises
    ------
    ValueError
        If the weight or the Hessian are not what the configuration takes, or it is of no kind that
        quantizes.
    """
    if isinstance(config, GptqConfig):
        return GptqQuantizer(config).encode(weight, hessian, transposed=transposed)
    if isinstance(config, ScalarConfig):
        costs = matrix_of(hessian) if needs_hessian(config) else None
        return ScalarQuantizer(config).encode(weight, hessian=costs, transposed=transposed)
    if type(config) not in PLAIN:
        raise ValueError(
            f"config must be one that quantizes, got {config!r}; see {', '.join(Config.kinds)}"
        )
    q = PLAIN[type(config)](config).encode(weight, transposed=transposed)
    assert isinstance(q, QuantizedTensor)
    return q


def needs_hessian(config: Config) -> bool:
    """Whether a configuration cannot do without a Hessian."""
    return isinstance(config, GptqConfig) or getattr(config, "clip", None) == "hessian"


def matrix_of(hessian: Any) -> Any:
    """The matrix of a `Hessian`; anything else as it is."""
    return hessian.matrix() if hasattr(hessian, "matrix") else hessian


def label(config: Config) -> str:
    """The kind, and what is not as by default: "gptq of scalar bits=8"."""
    words, inner = [config.kind], ""
    for its in fields(config):
        value = getattr(config, its.name)
        if isinstance(value, Config):
            inner = f" of {label(value)}"
        elif isinstance(value, tuple):
            inner = f" of {', '.join(map(label, value))}"
        elif its.default is not MISSING and value != its.default:
            words.append(f"{its.name}={value}")
    return " ".join(words) + inner
