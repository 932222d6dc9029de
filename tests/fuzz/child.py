"""The process that fuzzes one reader: python -m tests.fuzz.child READER WORK RUNS SEED."""

import pkgutil
import random
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.fuzz.reader import mutate_bytes
from tests.fuzz.registry import READERS, SEEDS, seeds
from tests.fuzz.watch import Watch

MAX_LENGTH = 1 << 14  # bytes of an input, if its seeds are not longer
PACKAGES = ["ngrammix", "quant", "eval"]


def has_guide() -> bool:
    """Whether atheris is installed, which finds inputs by the code that they reach."""
    return find_spec("atheris") is not None


def main(name: str, work: Path, n_runs: int, seed: int) -> None:
    """Give the reader its seeds, then `n_runs` further inputs."""
    warnings.simplefilter("ignore")
    with Watch(name, work) as watch:
        if has_guide():
            guided(name, watch, work, n_runs, seed)
        else:
            unguided(name, watch, n_runs, seed)


def guided(name: str, watch: Watch, work: Path, n_runs: int, seed: int) -> None:
    """Inputs by atheris; it ends the process."""
    import atheris

    # Modules are instrumented when they are first imported: by the seeds.
    with atheris.instrument_imports(include=PACKAGES, exclude=kernels()):
        for data in seeds(name):
            watch(data)
    watch.start()
    reader = READERS[name]
    longest = max(MAX_LENGTH, *(2 * len(data) for data in seeds(name)))

    def mutate(data: bytes, size: int, number: int) -> Any:
        rng = random.Random(number)
        if reader.mutate is None or rng.random() < 0.5:
            return atheris.Mutate(data, size)
        return reader.mutate(data, rng)[:size]

    (work / "corpus").mkdir(exist_ok=True)
    arguments = [
        "fuzz", str(work / "corpus"), str(SEEDS / name), f"-runs={n_runs}", f"-seed={seed}",
        f"-max_len={longest}", "-timeout=1000000", "-rss_limit_mb=0", "-print_final_stats=1",
        f"-artifact_prefix={work}/",
    ]  # fmt: skip
    atheris.Setup(arguments, watch, custom_mutator=mutate)
    atheris.Fuzz()


def kernels() -> list[str]:
    """Modules with compiled code: numba does not read instrumented code."""
    found = []
    for package in ("ngrammix.kernels", "quant.kernels"):
        folder = [str(Path(find_spec(package).origin).parent)]
        found += [f"{package}.{module.name}" for module in pkgutil.iter_modules(folder)]
    return found


def unguided(name: str, watch: Watch, n_runs: int, seed: int) -> None:
    """Inputs by the mutator of the reader alone."""
    inputs, rng = seeds(name), random.Random(seed)
    for data in inputs:
        watch(data)
    watch.start()
    for _ in range(n_runs):
        data = rng.choice(inputs)
        for _ in range(rng.choice((1, 1, 2, 5))):
            mutate = READERS[name].mutate or mutate_bytes
            data = (mutate if rng.random() < 0.7 else mutate_bytes)(data, rng)
        watch(data)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
