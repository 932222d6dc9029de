"""Peers: arrays and values between the ranks of a process group of torch."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ngrammix.types import Floats


class Peers:
    """The ranks of a process group, or this process alone; arrays of float64 travel exactly."""

    def __init__(self, group: Any) -> None:
        import torch.distributed as dist

        self._group, self._is_alone = group, not (dist.is_available() and dist.is_initialized())
        self.rank = 0 if self._is_alone else dist.get_rank(group)
        self.size = 1 if self._is_alone else dist.get_world_size(group)
        self._is_gloo = not self._is_alone and dist.get_backend(group) == "gloo"
        if self.rank < 0:
            raise ValueError("this process must be a rank of the group, got none; pass its own")

    def gather(self, value: Any) -> list[Any]:
        """The values of all ranks, in their order."""
        if self._is_alone:
            return [value]
        import torch.distributed as dist

        values = [None] * self.size
        with lost("every rank"):
            if self._is_gloo:  # names the ranks that are missing
                dist.monitored_barrier(self._group, wait_all_ranks=True)
            dist.all_gather_object(values, value, self._group)
        return values

    def send(self, array: Floats, rank: int) -> None:
        """Send an array to a rank."""
        import torch
        import torch.distributed as dist

        with lost(f"rank {rank}"):
            tensor = torch.from_numpy(np.ascontiguousarray(array)).to(self._device())
            dist.send(tensor, self._global(rank), self._group)

    def receive(self, shape: tuple[int, ...], rank: int) -> Floats:
        """The array of this shape that a rank sends."""
        import torch
        import torch.distributed as dist

        with lost(f"rank {rank}"):
            tensor = torch.empty(shape, dtype=torch.float64, device=self._device())
            dist.recv(tensor, self._global(rank), self._group)
        array: Floats = tensor.cpu().numpy()
        return array

    def _device(self) -> str:
        """Where the backend wants its tensors."""
        return "cpu" if self._is_gloo else "cuda"

    def _global(self, rank: int) -> int:
        """The number of a rank of the group among all ranks."""
        import torch.distributed as dist

        return rank if self._group is None else dist.get_global_rank(self._group, rank)


@contextmanager
def lost(whom: str) -> Iterator[None]:
    """Raise ValueError instead of the RuntimeError of a backend that misses a rank."""
    try:
        yield
    except RuntimeError as error:
        raise ValueError(
            f"{whom} must take part in score, got: {error}; look for the error of a rank that "
            "ended, and call score on all of them"
        ) from error
