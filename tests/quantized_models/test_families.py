"""GPTQ loses no more than rounding at the same grid, in every family of models."""

import pytest

from tests.quantized_models.families import FAMILIES, PAIRS, divergences


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("family", FAMILIES)
def test_gptq_loses_no_more_than_rounding(family, pair):
    """``python -m tests.quantized_models.families`` does so for five seeds."""
    if family != "golf":
        pytest.importorskip("transformers")
    found = divergences(family, 0, pair)
    assert 0 < found[pair[1]] <= found[pair[0]]
