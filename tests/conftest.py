"""What every test may use: example counts from the environment, the shared corpora, tiny models."""

import os
from pathlib import Path

import numpy as np
import pytest
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
def rng():
    return np.random.default_rng(0)
