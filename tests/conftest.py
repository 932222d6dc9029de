"""What every test may use: example counts from the environment, the shared corpora, tiny models."""

import lzma
import os
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import HealthCheck, settings

settings.register_profile(
    "default",
    max_examples=int(os.environ.get("NGRAMMIX_MAX_EXAMPLES", "60")),
    deadline=None,  # the first call of a kernel compiles it
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=bool(os.environ.get("CI")),
    print_blob=True,
)
settings.load_profile("default")

SHARED = Path(__file__).resolve().parents[2] / "shared"


def shared_file(name: str) -> Path:
    """Path of a file of the shared corpora or models; the test is skipped where it is absent."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"needs shared/{name} beside the repository")
    return path


@pytest.fixture
def shared():
    return shared_file


@pytest.fixture
def parameter_golf():
    """A real 11.6 M-parameter model's (logits, targets) of 65,536 FineWeb tokens, 158,557 bytes.

    And the validation tokens that they are 204800..270335 of, and those of the last shard.
    """
    packed = shared_file("models/parameter-golf-11m/fineweb_val_head_logp.u8.zst").read_bytes()
    head = shared_file("data/fineweb/fineweb_val_head_sp1024_1040297tok.u16.xz").read_bytes()
    tail = shared_file("data/fineweb/fineweb_val_tail_sp1024_2021846tok.bin")
    codes = zstandard.ZstdDecompressor().decompress(packed, max_output_size=65536 * 1024)
    logits = -((np.frombuffer(codes, np.uint8).reshape(65536, 1024) / np.float32(64)) ** 2)
    tokens = np.frombuffer(lzma.decompress(head), "<u2")
    return logits, tokens[204800:270336], tokens, np.fromfile(tail, "<u2", offset=1024)


@pytest.fixture
def rng():
    return np.random.default_rng(0)
