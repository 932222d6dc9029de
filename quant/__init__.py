"""Quantizers of weights: scalar, codebooks and GPTQ, one by one or a model in one call.

The names below are imported when they are first used, so ``import quant`` loads nothing else.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quant.base.config import Config, QuantizedTensor
    from quant.calibration.calibrate import calibrate
    from quant.calibration.calibration import Calibration
    from quant.calibration.self_generate import self_generate
    from quant.io.container import compress, decompress
    from quant.io.file import load, save
    from quant.io.packing import pack, unpack
    from quant.models.named_recipes import RECIPES
    from quant.models.quantize_model import quantize_model
    from quant.models.quantized_model import QuantizedModel
    from quant.models.recipe import Recipe, Rule
    from quant.models.recipe_file import load_recipe, save_recipe
    from quant.models.report import TensorReport
    from quant.numerics.hessian import DampingWarning, Hessian
    from quant.numerics.kmeans import kmeans
    from quant.numerics.lloyd_max_1d import NF4, lloyd_max
    from quant.quantizers.fake_quantize import fake_quantize
    from quant.quantizers.gptq import GptqConfig, gptq
    from quant.quantizers.lloyd_max import LloydMaxConfig
    from quant.quantizers.product import ProductConfig
    from quant.quantizers.quantize import quantize
    from quant.quantizers.residual import ResidualConfig
    from quant.quantizers.scalar import (
        ScalarConfig,
        quantize_int6_symmetric,
        quantize_int8_symmetric,
        rtn,
    )

__all__ = [
    "NF4",
    "RECIPES",
    "Calibration",
    "Config",
    "DampingWarning",
    "GptqConfig",
    "Hessian",
    "LloydMaxConfig",
    "ProductConfig",
    "QuantizedModel",
    "QuantizedTensor",
    "Recipe",
    "ResidualConfig",
    "Rule",
    "ScalarConfig",
    "TensorReport",
    "calibrate",
    "compress",
    "decompress",
    "fake_quantize",
    "gptq",
    "kmeans",
    "lloyd_max",
    "load",
    "load_recipe",
    "pack",
    "quantize",
    "quantize_int6_symmetric",
    "quantize_int8_symmetric",
    "quantize_model",
    "rtn",
    "save",
    "save_recipe",
    "self_generate",
    "unpack",
]

_MODULES = {
    "calibrate": "quant.calibration.calibrate",
    "Calibration": "quant.calibration.calibration",
    "compress": "quant.io.container",
    "Config": "quant.base.config",
    "DampingWarning": "quant.numerics.hessian",
    "decompress": "quant.io.container",
    "fake_quantize": "quant.quantizers.fake_quantize",
    "gptq": "quant.quantizers.gptq",
    "GptqConfig": "quant.quantizers.gptq",
    "Hessian": "quant.numerics.hessian",
    "kmeans": "quant.numerics.kmeans",
    "lloyd_max": "quant.numerics.lloyd_max_1d",
    "LloydMaxConfig": "quant.quantizers.lloyd_max",
    "load": "quant.io.file",
    "load_recipe": "quant.models.recipe_file",
    "NF4": "quant.numerics.lloyd_max_1d",
    "pack": "quant.io.packing",
    "ProductConfig": "quant.quantizers.product",
    "quantize": "quant.quantizers.quantize",
    "quantize_int6_symmetric": "quant.quantizers.scalar",
    "quantize_int8_symmetric": "quant.quantizers.scalar",
    "quantize_model": "quant.models.quantize_model",
    "QuantizedModel": "quant.models.quantized_model",
    "QuantizedTensor": "quant.base.config",
    "Recipe": "quant.models.recipe",
    "RECIPES": "quant.models.named_recipes",
    "ResidualConfig": "quant.quantizers.residual",
    "rtn": "quant.quantizers.scalar",
    "Rule": "quant.models.recipe",
    "save": "quant.io.file",
    "save_recipe": "quant.models.recipe_file",
    "ScalarConfig": "quant.quantizers.scalar",
    "self_generate": "quant.calibration.self_generate",
    "TensorReport": "quant.models.report",
    "unpack": "quant.io.packing",
}


def __getattr__(name: str) -> Any:
    """The public object `name`, from the module that defines it."""
    if name not in _MODULES:
        raise AttributeError(f"module 'quant' has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value  # found without this function the next time
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
