"""Memory that `quantize_model` takes, measured in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

# Prints the most bytes in memory beyond those before the model was made, and the model's bytes.
# The batches are small beside the model: one of them is 64 tokens.
CODE = """
import sys
from pathlib import Path
import torch
from torch import nn
from quant import quantize_model

class Block(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.up, self.down = nn.Linear(n, 2 * n), nn.Linear(2 * n, n)

    def forward(self, x):
        return x + self.down(self.up(x).relu())

def network(n, depth):
    layers = nn.Sequential(*(Block(n) for _ in range(depth)))
    return nn.Sequential(nn.Embedding(64, n), layers, nn.Linear(n, 64))

def memory(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(key)).split()[1])

recipe, calibrated = sys.argv[1:]
batches = [torch.randint(64, (1, 64)) for _ in range(4)] if calibrated == "True" else None
quantize_model(network(32, 2), recipe, batches)  # loads and compiles what is needed
base = memory("VmRSS")
model = network(320, 64)
Path("/proc/self/clear_refs").write_text("5")
quantized = quantize_model(model, recipe, batches)
print(memory("VmHWM") - base, sum(p.nbytes for p in model.parameters()))
"""


def measured(recipe, *, calibrated):
    """(most bytes of the model and all else, bytes of the model)."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, recipe, str(calibrated)], capture_output=True, text=True,
        timeout=300, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    peak, size = map(int, done.stdout.split())
    assert size > 90 << 20
    return peak, size


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("recipe", ["int8", "int4"])
def test_rounding_takes_at_most_twice_the_model(recipe):
    peak, size = measured(recipe, calibrated=False)
    assert size < peak < 2 * size


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("recipe", ["gptq-int6", "gptq-int4"])
def test_with_calibration_it_does_too(recipe):
    peak, size = measured(recipe, calibrated=True)
    assert size < peak < 2 * size
