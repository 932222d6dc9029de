"""Convolutions as matrix products: the kernel's inputs at each position are rows of a matrix."""

from collections.abc import Callable
from math import prod
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from quant.base.matrix import Axes
from quant.calibration.products import Product, Products, TensorFunction


def convolution(
    input: Tensor,  # noqa: A002
    weight: Tensor,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Products:
    """Products of `F.conv1d` or `F.conv2d`: one for each group."""
    size = tuple(weight.shape[2:])
    n = len(size)
    strides, dilations = sizes_of(stride, n), sizes_of(dilation, n)
    n_out = len(weight) // groups
    for group in range(groups):

        def take(x: Tensor, group: int = group) -> Tensor:
            channels = channels_of(x, n, group, groups)
            return patches(channels, size, strides, padding, dilations)

        part = slice(group * n_out, (group + 1) * n_out)
        columns = tuple(range(1, 2 + n))
        outputs = outputs_of(n, group, groups)
        yield Product(weight, (0,), columns, {}, input, take, outputs, is_view=False, part=part)


def transposed_convolution(
    input: Tensor,  # noqa: A002
    weight: Tensor,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Products:
    """Products of `F.conv_transpose1d` or `F.conv_transpose2d`, one for each group.

    Each is a convolution, with the kernel reversed, of inputs with zeros between them.
    """
    size = tuple(weight.shape[2:])
    n = len(size)
    steps, pads, dilations = (sizes_of(value, n) for value in (stride, padding, dilation))
    ends = sizes_of(output_padding, n)
    n_in = len(weight) // groups
    for group in range(groups):

        def take(x: Tensor, group: int = group) -> Tensor:
            channels = channels_of(x, n, group, groups)
            lengths = [
                (size_in - 1) * step + 1
                for size_in, step in zip(channels.shape[-n:], steps, strict=True)
            ]
            spread = channels.new_zeros(*channels.shape[:-n], *lengths)
            every: Any = (..., *(slice(None, None, step) for step in steps))
            spread[every] = channels
            sides = [
                (spacing * (k - 1) - pad, spacing * (k - 1) - pad + end)
                for spacing, k, pad, end in zip(dilations, size, pads, ends, strict=True)
            ]
            padded = F.pad(spread, [amount for side in reversed(sides) for amount in side])
            rows = patches(padded, size, (1,) * n, 0, dilations)
            kernels = rows.reshape(*rows.shape[:-1], n_in, prod(size))
            return kernels.flip(-1).flatten(-2)  # each kernel reversed

        columns = (0, *range(2, 2 + n))
        outputs = outputs_of(n, group, groups)
        product = Product(weight, (1,), columns, {}, input, take, outputs, is_view=False)
        if groups > 1:
            n_out = weight.shape[1]
            part = slice(group * n_out, (group + 1) * n_out)
            product = product._replace(part=part, axes=Axes((0, 2), groups))
        yield product


def channels_of(images: Tensor, n: int, group: int, groups: int) -> Tensor:
    """(B, channels of a group, ...) of images (B, channels, ...) or (channels, ...)."""
    batch = images if images.ndim == n + 2 else images.unsqueeze(0)
    width = batch.shape[1] // groups
    return batch[:, group * width : (group + 1) * width]


def outputs_of(n: int, group: int, groups: int) -> TensorFunction:
    """Function from the result of a convolution to (B, positions, out) of a group."""
    return lambda y: channels_of(y, n, group, groups).flatten(2).mT


def patches(
    images: Tensor,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    padding: Any,
    dilation: tuple[int, ...],
) -> Tensor:
    """(B, positions, channels * height * width): the inputs of the kernel at each position.

    padding: as `F.conv2d` takes it, an int, a sequence, "same" or "valid".
    """
    if padding == "same":  # stride 1; an odd pixel goes to the end
        totals = [step * (n - 1) for step, n in zip(dilation, size, strict=True)]
        sides = [(n // 2, n - n // 2) for n in reversed(totals)]
    elif padding == "valid":
        sides = [(0, 0)] * len(size)
    else:
        sides = [(n, n) for n in reversed(sizes_of(padding, len(size)))]
    padded = F.pad(images, [n for side in sides for n in side])
    if len(size) == 1:  # images of height 1
        padded, size, stride, dilation = (
            padded.unsqueeze(-2),
            (1, *size),
            (1, *stride),
            (1, *dilation),
        )
    return F.unfold(padded, size, dilation=dilation, stride=stride).mT


def sizes_of(value: Any, n: int) -> tuple[int, ...]:
    """The option for each of n axes: an int for all, or a sequence of one or n."""
    values = (value,) if isinstance(value, int) else tuple(value)
    return tuple(int(i) for i in (values * n if len(values) == 1 else values))


CONVOLUTIONS: dict[Any, Callable[..., Products]] = {
    F.conv1d: convolution,
    F.conv2d: convolution,
    F.conv_transpose1d: transposed_convolution,
    F.conv_transpose2d: transposed_convolution,
}
