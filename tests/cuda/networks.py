"""Networks of random weights, and where to run them."""

import pytest
import torch

from eval.bench.peers.random_gpt import RandomGPT, Shape
from eval.models.wrap import wrap
from eval.tokenizers.byte_tokenizer import ByteTokenizer

needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a GPU that torch can use through CUDA"
)


def network(dtype=torch.float32, device="cuda", **shape):
    """A small transformer over bytes."""
    return RandomGPT(Shape(**shape)).to(device, dtype).eval()


def changed(model, change):
    """The model, with logits that `change(logits, tokens)` changes in place."""
    forward = model.network.forward

    def run(tokens):
        logits = forward(tokens).clone()
        change(logits, tokens)
        return logits

    model.network.forward = run
    return model


def byte_model(dtype=torch.float32, device="cuda", **shape):
    """The network as a model of the workbench."""
    net = network(dtype, device, **shape)
    return wrap(net, tokenizer=ByteTokenizer(256), context=net.shape.context)
