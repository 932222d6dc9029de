"""Quantizers of weights: scalar, codebooks and GPTQ, one by one or a model in one call."""

from quant.base.config import Config, QuantizedTensor
from quant.calibration.calibrate import Calibration, calibrate
from quant.calibration.self_generate import self_generate
from quant.io.container import compress, decompress
from quant.io.file import load, save
from quant.io.packing import pack, unpack
from quant.models.quantize_model import quantize_model
from quant.models.quantized_model import QuantizedModel
from quant.models.recipe import RECIPES, Recipe, Rule
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
    "pack",
    "quantize",
    "quantize_int6_symmetric",
    "quantize_int8_symmetric",
    "quantize_model",
    "rtn",
    "save",
    "self_generate",
    "unpack",
]
