"""Memory that `quantize_model` takes, measured in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

# Prints the most bytes in memory beyond those before the model was made, and the model's bytes.
CODE = """
import sys
from pathlib import Path
import torch
from torch import nn
from quant import quantize_model

def memory(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(key)).split()[1])

def network(n, depth):
    return nn.Sequential(nn.Embedding(64, n), *(nn.Linear(n, n) for _ in range(depth)))

quantize_model(network(32, 2), sys.argv[1])  # loads and compiles what is needed
base = memory("VmRSS")
model = network(640, 64)
Path("/proc/self/clear_refs").write_text("5")
quantized = quantize_model(model, sys.argv[1])
print(memory("VmHWM") - base, sum(p.nbytes for p in model.parameters()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("recipe", ["int8", "int4"])
def test_rounding_takes_at_most_twice_the_model(recipe):
    done = subprocess.run(
        [sys.executable, "-c", CODE, recipe], capture_output=True, text=True, timeout=120,
        check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    peak, size = map(int, done.stdout.split())
    assert size > 90 << 20
    assert size < peak < 2 * size
