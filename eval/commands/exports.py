"""The export of ``ngrammix quantize``: what is refused before any work, and what is written."""

from pathlib import Path

from eval.config import DEMO, QuantizeConfig
from eval.models.base import Model
from eval.models.compressed_tensors import check_recipe
from eval.models.export import export_model, export_tensors
from eval.models.load_model import folder_of, is_hugging_face
from eval.models.quantized import network_of
from eval.quantizer_options import COMPRESSED_TENSORS, DEQUANTIZED
from quant import QuantizedModel
from quant.models.recipe import Recipe


def check_export_format(config: QuantizeConfig) -> None:
    """Raise ValueError if nothing is exported in the format, or the model has no config to say it.

    It comes before a model is loaded.
    """
    if config.export_format == DEQUANTIZED:
        return
    if config.export is None:
        raise ValueError(
            f"--export-format {config.export_format} needs a folder, got none; name one with "
            "--export"
        )
    spec = config.model or DEMO
    if not is_hugging_face(spec):
        raise ValueError(
            f"--export-format {config.export_format} needs a model of Hugging Face, got {spec}; "
            f"export it {DEQUANTIZED}"
        )


def check_levels_of(config: QuantizeConfig, model: Model, recipe: Recipe) -> None:
    """Raise ValueError if the format cannot hold what the recipe makes: before a calibration."""
    if config.export_format == COMPRESSED_TENSORS:
        check_recipe(network_of(model), recipe)


def write_export(
    config: QuantizeConfig, model: Model, quantized: QuantizedModel, folder: Path
) -> None:
    """Write the weights for other libraries; the model gets them dequantized."""
    source = folder_of(config.model or DEMO, download=config.download)
    if source is None:
        export_tensors(quantized, folder)
    else:
        export_model(quantized, network_of(model), source, folder, config.export_format)
