"""Quantizers of weights: scalar, codebooks and GPTQ, one by one or a model in one call."""

from quant.base.config import Config
from quant.base.tensor import QuantizedTensor
from quant.calibration.calibrate import Calibration, calibrate
from quant.calibration.self_generate import self_generate
from quant.io.file import load, save
from quant.models.quantize_model import quantize_model
from quant.models.quantized_model import QuantizedModel
from quant.models.recipe import RECIPES, Recipe, Rule
from quant.models.report import TensorReport
from quant.numerics.hessian import DampingWarning, Hessian
from quant.quantizers.gptq import GptqQuantizer, gptq
from quant.quantizers.gptq_config import GptqConfig
from quant.quantizers.lloyd_max import LloydMaxConfig, LloydMaxQuantizer
from quant.quantizers.product import ProductConfig, ProductQuantizer
from quant.quantizers.quantize import quantize
from quant.quantizers.residual import ResidualConfig, ResidualQuantizer
from quant.quantizers.scalar import (
    ScalarConfig,
    ScalarQuantizer,
    quantize_int6_symmetric,
    quantize_int8_symmetric,
    rtn,
)

__all__ = [
    "RECIPES",
    "Calibration",
    "Config",
    "DampingWarning",
    "GptqConfig",
    "GptqQuantizer",
    "Hessian",
    "LloydMaxConfig",
    "LloydMaxQuantizer",
    "ProductConfig",
    "ProductQuantizer",
    "QuantizedModel",
    "QuantizedTensor",
    "Recipe",
    "ResidualConfig",
    "ResidualQuantizer",
    "Rule",
    "ScalarConfig",
    "ScalarQuantizer",
    "TensorReport",
    "calibrate",
    "gptq",
    "load",
    "quantize",
    "quantize_int6_symmetric",
    "quantize_int8_symmetric",
    "quantize_model",
    "rtn",
    "save",
    "self_generate",
]
