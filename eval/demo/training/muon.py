"""Muon: momentum orthogonalized before each step, for hidden 2-D weights."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn


class Muon:
    """Orthogonalized Nesterov momentum with decoupled weight decay.

    Parameters
    ----------
    parameters : iterable of nn.Parameter
        2-D weights; weights of the same shape are orthogonalized together.
    momentum : float, in [0, 1)
        Decay of the running gradient.
    weight_decay : float
        Share of each weight subtracted at a step, divided by the learning rate.

    References
    ----------
    Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], *, momentum: float, weight_decay: float
    ) -> None:
        self.momentum = momentum
        self.weight_decay = weight_decay
        self._by_shape: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
        for parameter in parameters:
            if parameter.ndim != 2:
                raise ValueError(
                    f"Muon's parameters must be 2-D (rows, columns), got {tuple(parameter.shape)}; "
                    "pass the others to AdamW"
                )
            self._by_shape[parameter.shape].append(parameter)
        self._running = {
            shape: torch.zeros((len(group), *shape)) for shape, group in self._by_shape.items()
        }

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Update each weight by its orthogonalized momentum times `learning_rate`."""
        for shape, group in self._by_shape.items():
            gradient = torch.stack([p.grad for p in group if p.grad is not None])
            running = self._running[shape].lerp_(gradient, 1 - self.momentum)
            update = orthogonal(gradient.lerp(running, self.momentum))
            # Tall matrices get larger steps, so that outputs of all shapes change equally.
            size = learning_rate * max(1.0, shape[0] / shape[1]) ** 0.5
            for parameter, change in zip(group, update, strict=True):
                parameter.mul_(1 - learning_rate * self.weight_decay).sub_(change, alpha=size)


def orthogonal(matrices: Tensor, steps: int = 5) -> Tensor:
    """Approximate the nearest semi-orthogonal matrices; singular values in about [0.7, 1.2].

    Parameters
    ----------
    matrices : (N, rows, columns) float32
    steps : int
        Newton-Schulz iterations with Jordan's quintic coefficients, in bfloat16.

    Returns
    -------
    (N, rows, columns) float32
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if tall else matrices).bfloat16()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    nearest: Tensor = (x.mT if tall else x).float()
    return nearest
