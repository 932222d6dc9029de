"""Run a model one block at a time, from recorded block inputs (as GPTQ's reference code does).

A transformer calls a list of blocks of one class, one after the other. Each block takes the output
of the block before it, and further arguments that no block changes (masks, position embeddings).
`record` runs the model once and records the input of the first block and the further arguments of
each block. `BlockChain` then runs the blocks alone, so that quantizing a weight takes forward
passes of its block and not of the whole model.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from quant.calibration.model_call import call
from quant.calibration.model_state import ModelState, tensors_in
from quant.calibration.replica import Replica

TOLERANCE = 1e-3  # of the largest output: what the chain may differ by from the model
PERTURBATION = 0.9  # factor of the weights that are not quantized yet


class NotAChainError(Exception):
    """The blocks of a model cannot be run one at a time; the text says why."""


class BlockCall(NamedTuple):
    """Arguments of one call of a block, without the hidden state.

    `slot` is where the hidden state goes: the index of a positional argument, or the name of a
    keyword argument.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    slot: int | str

    def run(self, block: nn.Module, hidden: Tensor) -> Any:
        """Output of the block for a hidden state; a block may change its input in place."""
        args, kwargs = list(self.args), dict(self.kwargs)
        target: Any = args if isinstance(self.slot, int) else kwargs
        target[self.slot] = hidden.clone()
        return block(*args, **kwargs)


class Recording(NamedTuple):
    """One batch: input of the first block, calls of all blocks, hidden state after the last."""

    hidden: Tensor
    calls: list[BlockCall]
    output: Tensor


class BlockChain:
    """Hidden states of all batches before one block of a model, or behind the last one.

    Memory holds one hidden state for each calibration token, and the further arguments of the
    blocks.

    Parameters
    ----------
    model : torch.nn.Module
    state : ModelState
        Of this model.
    list_name : str
        Name of the list of blocks, as `find_blocks` returns it.
    batches : iterable
        Arguments of the model.

    Attributes
    ----------
    index : int
        Index of the block whose inputs the hidden states are; the number of blocks behind the last.
    """

    def __init__(
        self, model: nn.Module, state: ModelState, list_name: str, batches: Iterable[Any]
    ) -> None:
        self.index = 0
        self._model, self._state = model, state
        self._batches = list(batches)
        self._blocks = blocks_of(model, list_name)
        self._hidden: list[Any] = []  # the whole output, behind the last block
        self._calls: list[list[BlockCall]] = []
        for i, batch in enumerate(self._batches):
            recording = record(model, state, self._blocks, batch, i)
            self._hidden.append(recording.hidden)
            self._calls.append(recording.calls)

    @property
    def is_at_end(self) -> bool:
        """Whether all blocks have run."""
        return self.index == len(self._blocks)

    def run(self, batch: int) -> Any:
        """Output of the block for the batch of this index; behind the last, of the model."""
        hidden = self._hidden[batch]
        if self.is_at_end:
            with returning(self._blocks, hidden):
                return call(self._model, self._batches[batch])
        return self._calls[batch][self.index].run(self._blocks[self.index], hidden)

    def advance_to(self, index: int) -> None:
        """Run the blocks before `index`, so that the hidden states become its inputs."""
        while self.index < index:
            for batch in range(len(self._hidden)):
                with self._state.running(batch):
                    output = self.run(batch)
                is_last = self.index == len(self._blocks) - 1
                self._hidden[batch] = output if is_last else hidden_of(output)
                self._calls[batch][self.index] = self._calls[batch][self.index]._replace(
                    args=(), kwargs={}
                )  # frees what no other block takes
            self.index += 1


def find_blocks(model: nn.Module, names: Iterable[str]) -> str:
    """Name of the list of like modules that owns most of the named weights.

    A list is an ``nn.ModuleList`` or ``nn.Sequential`` of two or more different modules of one
    class.

    Raises
    ------
    NotAChainError
        If no list owns any of the weights.
    """
    weights = [model.get_parameter(name) for name in names]
    sizes: dict[str, int] = {}
    for list_name, module in model.named_modules():
        if not isinstance(module, nn.ModuleList | nn.Sequential) or len(module) < 2:
            continue
        if len(set(module)) == len(module) and len(set(map(type, module))) == 1:
            owned = set(module.parameters())
            sizes[list_name] = sum(weight.numel() for weight in weights if weight in owned)
    if not any(sizes.values()):
        raise NotAChainError("the model has no list of like blocks")
    return max(sizes, key=lambda list_name: sizes[list_name])


def blocks_of(model: nn.Module, list_name: str) -> list[nn.Module]:
    """Blocks of the list of this name."""
    return list(model.get_submodule(list_name).children())


class BlockRecorder:
    """Hooks that record the calls of blocks during one forward pass of the model.

    Each block must be called once, in order, with the output of the block before it as its first
    floating-point tensor; else a hook raises NotAChainError.
    """

    def __init__(self, blocks: list[nn.Module]) -> None:
        self.blocks = blocks
        self.calls: list[BlockCall] = []
        self.hidden: Tensor | None = None  # input of the first block
        self.output: Tensor | None = None  # hidden state after the last block that ran
        self.last: Tensor | None = None  # a copy of that after the last block

    def before(self, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Record the arguments of a block."""
        index = len(self.calls)
        if index == len(self.blocks) or block is not self.blocks[index]:
            raise NotAChainError("the blocks are not called once each, in order")
        arguments: dict[Any, Any] = dict(enumerate(args))
        arguments |= kwargs
        slot = next((key for key, value in arguments.items() if is_float_tensor(value)), None)
        if slot is None or (index and arguments[slot] is not self.output):
            raise NotAChainError("a block does not take the output of the block before it")
        if index == 0:
            self.hidden = arguments[slot].clone()
        blank = arguments | {slot: None}
        self.calls.append(
            BlockCall(
                args=tuple(blank[i] for i in range(len(args))),
                kwargs={name: blank[name] for name in kwargs},
                slot=slot,
            )
        )

    def after(self, block: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Keep the hidden state after a block."""
        self.output = hidden_of(output)
        if len(self.calls) == len(self.blocks):
            self.last = self.output.clone()  # what follows may change the output in place


def record(
    model: nn.Module, state: ModelState, blocks: list[nn.Module], batch: Any, seed: int
) -> Recording:
    """Run the model on a batch, and record the calls of its blocks; may raise NotAChainError."""
    recorder = BlockRecorder(blocks)
    hooks: list[Any] = []
    try:
        for block in blocks:
            hooks.append(block.register_forward_pre_hook(recorder.before, with_kwargs=True))
            hooks.append(block.register_forward_hook(recorder.after))
        with state.running(seed), without_kv_cache(model):
            call(model, batch)
    finally:
        for hook in hooks:
            hook.remove()
    if len(recorder.calls) != len(blocks):
        raise NotAChainError("the blocks are not called once each, in order")
    assert recorder.hidden is not None
    assert recorder.last is not None
    return Recording(recorder.hidden, recorder.calls, recorder.last)


def check_chain(replica: Replica, list_name: str, batch: Any, pending: Iterable[str]) -> None:
    """Check that the blocks of a copy may be run one at a time while pending weights change.

    The pending weights are perturbed, one half of them after the other, which takes the memory of
    half a model. For one batch, the input of the first block and the further arguments of all
    blocks must then be the same as before, and the blocks alone must give the same hidden state
    after the last block as the model.

    Raises
    ------
    NotAChainError
        If the arguments or the hidden states differ, or a block raises an error.
    """
    model, state = replica.model, replica.state
    blocks = blocks_of(model, list_name)
    before = record(model, state, blocks, batch, 0)
    names = list(pending)
    for half in (names[::2], names[1::2]):
        try:
            for name in half:
                replica.replace(name, model.get_parameter(name).detach() * PERTURBATION)
            check_perturbed(model, state, blocks, batch, before)
        finally:
            replica.share(half)


def check_perturbed(
    model: nn.Module, state: ModelState, blocks: list[nn.Module], batch: Any, before: Recording
) -> None:
    """Check the blocks of a perturbed model against what was recorded before."""
    after = record(model, state, blocks, batch, 0)
    fixed = [before.hidden, *tensors_in(before.calls)], [after.hidden, *tensors_in(after.calls)]
    if len(fixed[0]) != len(fixed[1]) or not all(map(torch.equal, *fixed)):
        raise NotAChainError("arguments of the blocks depend on weights that are quantized later")
    hidden = before.hidden
    try:
        for block, block_call in zip(blocks, before.calls, strict=True):
            with state.running(0):
                hidden = hidden_of(block_call.run(block, hidden))
    except NotAChainError:
        raise
    except Exception as error:  # whatever the model's code raises: a block cannot run alone
        raise NotAChainError(f"a block alone raises {error!r}") from error
    difference = (hidden - after.output).abs().max()
    if not difference <= TOLERANCE * after.output.abs().max():
        raise NotAChainError("the blocks alone give other outputs than the model")


@contextmanager
def returning(blocks: list[nn.Module], output: Any) -> Iterator[None]:
    """Let each block return a copy of an output, without being run."""
    own = [vars(block).get("forward") for block in blocks]
    try:
        for block in blocks:
            vars(block)["forward"] = lambda *_, **__: deepcopy(output)
        yield
    finally:
        for block, forward in zip(blocks, own, strict=True):
            del vars(block)["forward"]
            if forward is not None:
                vars(block)["forward"] = forward


def hidden_of(output: Any) -> Tensor:
    """Hidden state in the output of a block: the output itself, or its first item."""
    hidden = output[0] if isinstance(output, tuple | list) and output else output
    if not is_float_tensor(hidden):
        raise NotAChainError("a block returns neither a hidden state nor a tuple of one")
    assert isinstance(hidden, Tensor)
    return hidden


def is_float_tensor(value: object) -> bool:
    """Whether the value is a tensor of a floating-point dtype."""
    return isinstance(value, Tensor) and value.is_floating_point()


@contextmanager
def without_kv_cache(model: nn.Module) -> Iterator[None]:
    """Switch off ``config.use_cache`` of a Hugging Face model: blocks would fill the cache."""
    config = getattr(model, "config", None)
    if not getattr(config, "use_cache", False):
        yield
        return
    config.use_cache = False  # type: ignore[union-attr]
    try:
        yield
    finally:
        config.use_cache = True  # type: ignore[union-attr]
