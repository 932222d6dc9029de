"""Planted: small networks whose mask, mode or shift is wrong, in float32 and bfloat16."""

import numpy as np

from tests.auditing.honest_models import START, network, whole
from tests.auditing.registry import plant

DTYPES = ("float32", "bfloat16")


def masked(seed, vocab_size, dtype, mask_of):
    """The scores of a network of one layer of attention under another mask than the causal one."""
    import torch

    net = network(seed, vocab_size).to(getattr(torch, dtype))

    def model(tokens):
        x = net.embed(tokens)
        mask = mask_of(torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool))
        attended, _ = net.attend(x, x, x, attn_mask=mask, need_weights=False)
        return net.head(x + attended) * 2

    return whole(model, softmax_dtype=torch.float32)


@plant("C1", "C2 C3 C4", n_tokens=96, rounding=0.1, dtype=DTYPES)
def attention_without_a_mask(seed, vocab_size, dtype):
    """Each position attends to all."""
    return masked(seed, vocab_size, dtype, lambda ones: ~ones)


@plant("C1", "C2 C3 C4", n_tokens=96, rounding=0.1, dtype=DTYPES)
def attention_both_ways_in_blocks(seed, vocab_size, dtype):
    """Positions attend to all of their block of 32."""

    def mask(ones):
        block = ones.cumsum(0)[:, 0].sub(1) // 32
        return block[:, None] < block[None]

    return masked(seed, vocab_size, dtype, mask)


@plant("C1", "C2 C3 C4", n_tokens=96, rounding=0.1, dtype=DTYPES)
def attention_one_too_far(seed, vocab_size, dtype):
    """triu(diagonal=2): a position attends to its own target, if the stream goes on."""
    return masked(seed, vocab_size, dtype, lambda ones: ones.triu(2))


@plant("C1", "C2 C3 C4", n_tokens=96, rounding=0.1, dtype=DTYPES)
def attention_two_too_far(seed, vocab_size, dtype):
    """triu(diagonal=3): a position attends to its target and the token after it."""
    return masked(seed, vocab_size, dtype, lambda ones: ones.triu(3))


@plant("C2", "C3", n_tokens=96, rounding=0.1, dtype=DTYPES)
def targets_not_shifted(seed, vocab_size, dtype):
    """Each row is asked for its own input."""
    import torch

    model = network(seed, vocab_size).to(getattr(torch, dtype))

    def score(tokens):
        tokens = torch.as_tensor(np.asarray(tokens))
        with torch.no_grad():
            logprobs = torch.log_softmax(model(tokens[None])[0].float(), -1)
        return -logprobs.gather(-1, tokens[:, None])[:, 0].double().numpy()

    return score


@plant("C1", "C2 C4", n_tokens=96, rounding=0.1, dtype=DTYPES)
def normed_over_the_batch(seed, vocab_size, dtype):
    """A norm over the positions of the stream, as batch norm in training mode."""
    import torch

    net = network(seed, vocab_size).to(getattr(torch, dtype))

    def model(tokens):
        x = net.embed(tokens)
        if x.shape[1] > 1:
            x = (x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True) + 0.1)
        return net.head(x) * 2

    return whole(model, softmax_dtype=torch.float32)


@plant("C4", "C1 C2", n_tokens=96, rounding=0.1)
def network_in_training_mode(seed, vocab_size):
    """Dropout is on."""
    import torch

    net = network(seed, vocab_size)
    dropout = torch.nn.Dropout(0.1)

    def model(tokens):
        return net.head(dropout(net.embed(tokens))) * 2

    return whole(model)


@plant("C1", "C2 C4", n_tokens=96, rounding=0.1)
def padded_on_the_left(seed, vocab_size):
    """The stream is padded to full chunks on the left, and the padding is not masked."""
    import torch

    model = network(seed, vocab_size)

    def score(tokens):
        tokens = torch.as_tensor(np.asarray(tokens))
        pad = -len(tokens) % 32
        inputs = torch.cat([torch.full((pad + 1,), START), tokens])[None, :-1]
        with torch.no_grad():
            logprobs = torch.log_softmax(2 * model(inputs)[0, pad:], -1)
        return -logprobs.gather(-1, tokens[:, None])[:, 0].double().numpy()

    return score
