"""Quantize a weight with any configuration."""

from dataclasses import MISSING, fields
from typing import Any

from quant.base.config import Config, QuantizedTensor, encode_or_widen, kind_names
from quant.base.matrix import Layout, as_matrix
from quant.types import Matrix


def quantize(
    weight: Any, config: Config, hessian: Any = None, *, transposed: bool = False
) -> QuantizedTensor:
    """Quantize a weight; as ``config.encode``, but a Hessian that it cannot use is ignored.

    Parameters
    ----------
    weight : as `quant.base.matrix.as_matrix` takes it
    config : Config
    hessian : Hessian, or (C, C) float, optional
        Required if ``config.needs_hessian``.
    transposed : bool
        Whether the weight is stored (in, out).

    Raises
    ------
    ValueError
        If the weight is not a finite matrix, the configuration is not a quantizer, or the Hessian
        is absent or invalid.
    """
    matrix, layout = as_matrix(weight, transposed=transposed)
    return quantize_matrix(matrix, layout, config, hessian)


def quantize_matrix(
    matrix: Matrix, layout: Layout, config: Config, hessian: Any = None
) -> QuantizedTensor:
    """Quantize a matrix (R, C) float32, finite, of a weight of this layout; see `quantize`."""
    if getattr(config, "kind", None) not in Config.kinds:
        raise ValueError(
            f"config must be a quantizer, got {config!r}; its kind is one of {kind_names()}"
        )
    return encode_or_widen(config, matrix, layout, hessian if config.needs_hessian else None)


def label(config: Config) -> str:
    """Describe a configuration by its kind and the settings that are not the defaults.

    >>> from quant import GptqConfig, ScalarConfig
    >>> label(GptqConfig(inner=ScalarConfig(bits=8)))
    'gptq of scalar bits=8'
    """
    words, inner = [config.kind], ""
    for field in fields(config):
        value = getattr(config, field.name)
        if isinstance(value, Config):
            inner = f" of {label(value)}"
        elif isinstance(value, tuple):
            inner = f" of {', '.join(map(label, value))}"
        elif field.default is not MISSING and value != field.default:
            words.append(f"{field.name}={value}")
    return " ".join(words) + inner
