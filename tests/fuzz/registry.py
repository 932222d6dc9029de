"""All readers by name, and their seeds."""

from pathlib import Path

from tests.fuzz.reader import Reader
from tests.fuzz.readers import auditing, coded, core, data, models, quantized, runs, shown

READERS: dict[str, Reader] = (
    auditing.READERS
    | coded.READERS
    | core.READERS
    | quantized.READERS
    | data.READERS
    | models.READERS
    | runs.READERS
    | shown.READERS
)
SEEDS = Path(__file__).parent / "seeds"


def seeds(name: str) -> list[bytes]:
    """The inputs of a reader that are kept: right ones, and those that once showed a fault."""
    return [path.read_bytes() for path in sorted((SEEDS / name).iterdir())]
