"""RankInfo: which of the ranks this process is, as torchrun says in the environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from eval.models.device import read_device

VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # of torch's env:// rendezvous
MAX_PORT = 65535


@dataclass(frozen=True)
class RankInfo:
    """The rank of this process, the number of ranks, and the rank on its own machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0


def find_rank(environment: Mapping[str, str] = os.environ) -> RankInfo:
    """The rank that torchrun gave this process; rank 0 of 1 without torchrun.

    Raises
    ------
    ValueError
        If the variables are no numbers, the rank is not below the number of ranks, or there are
        several ranks but not all variables.
    """
    missing = [name for name in VARIABLES if name not in environment]
    if missing:
        # Each of several processes would score everything, as if it were alone.
        if (size := environment.get("WORLD_SIZE", "1")) != "1":
            raise ValueError(
                f"ranks need {', '.join(VARIABLES)}, got WORLD_SIZE={size} without "
                f"{', '.join(missing)}; start them with torchrun, or unset WORLD_SIZE"
            )
        return RankInfo()
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    values = [environment.get(name, "0") for name in names]
    if not all(value.isdecimal() for value in values) or int(values[0]) >= int(values[1]):
        got = ", ".join(f"{name}={value}" for name, value in zip(names, values, strict=True))
        raise ValueError(
            f"a rank must be below the number of ranks, got {got}; start them with torchrun"
        )
    port = environment["MASTER_PORT"]
    if not port.isdecimal() or int(port) > MAX_PORT:
        raise ValueError(
            f"MASTER_PORT must be in 0..{MAX_PORT}, got {port!r}; start the ranks with torchrun"
        )
    return RankInfo(*map(int, values))


def choose_gpu(info: RankInfo, device: str | int | None) -> None:
    """Make ``cuda`` mean the rank's own GPU; ValueError if there are fewer GPUs than ranks."""
    import torch

    if device is not None and read_device(device) != "cuda":
        return
    if not torch.cuda.is_available():
        return
    if info.local_rank >= torch.cuda.device_count():
        raise ValueError(
            f"each rank must have a GPU of its own, got local rank {info.local_rank} where there "
            f"are {torch.cuda.device_count()}; start fewer ranks, or name a --device"
        )
    torch.cuda.set_device(info.local_rank)
