"""Quantizers of weights: scalar, codebooks and GPTQ, one by one or a model in one call."""

from quant.calibration import Calibration, calibrate
from quant.config import Config
from quant.encode import quantize
from quant.generate import self_generate
from quant.gptq import GptqQuantizer, gptq
from quant.gptq_config import GptqConfig
from quant.hessian import DampingWarning, Hessian
from quant.lloyd_max import LloydMaxConfig, LloydMaxQuantizer
from quant.low_rank import LowRank, LowRankConfig
from quant.model import quantize_model
from quant.product import ProductConfig, ProductQuantizer
from quant.quantized_model import QuantizedModel
from quant.recipe import RECIPES, Recipe, Rule
from quant.report import TensorReport
from quant.residual import ResidualConfig, ResidualQuantizer
from quant.scalar import (
    ScalarConfig,
    ScalarQuantizer,
    quantize_int6_symmetric,
    quantize_int8_symmetric,
    rtn,
)
from quant.store import load, save
from quant.tensor import QuantizedTensor

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
    "LowRank",
    "LowRankConfig",
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
