"""Honest: small networks in several number formats and batch shapes, and this package's own."""

import numpy as np

from tests.auditing.parts import BOS, Bigram
from tests.auditing.registry import honest

START = 0  # stands before the stream


def network(seed, vocab_size, width=16):
    """Embedding, one layer of causal attention, a matrix of logits."""
    import torch

    torch.manual_seed(seed)

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = torch.nn.Embedding(vocab_size, width)
            self.attend = torch.nn.MultiheadAttention(width, 2, batch_first=True)
            self.head = torch.nn.Linear(width, vocab_size)

        def forward(self, tokens):
            x = self.embed(tokens)
            mask = torch.nn.Transformer.generate_square_subsequent_mask(
                tokens.shape[1], dtype=x.dtype
            )
            attended, _ = self.attend(x, x, x, attn_mask=mask, need_weights=False)
            return self.head(x + attended) * 2

    return Network().eval()


def recurrent(seed, vocab_size, width=16):
    """Embedding, one GRU, a matrix of logits."""
    import torch

    torch.manual_seed(seed)

    class Recurrent(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = torch.nn.Embedding(vocab_size, width)
            self.gru = torch.nn.GRU(width, width, batch_first=True)
            self.head = torch.nn.Linear(width, vocab_size)

        def forward(self, tokens):
            return self.head(self.gru(self.embed(tokens))[0]) * 4

    return Recurrent().eval()


def chunked(model, *, chunk=64, softmax_dtype=None, batch=None):
    """Scores of a model that sees chunks of the stream, `batch` of them in one pass.

    A chunk begins with the last token of the one before. The last chunk is padded on the right.
    """
    import torch

    def score(tokens):
        tokens = torch.as_tensor(np.asarray(tokens))
        n = len(tokens)
        n_chunks = -(-n // chunk)
        targets = torch.zeros(n_chunks * chunk, dtype=torch.long)
        targets[:n] = tokens
        inputs = torch.cat([torch.tensor([START]), targets])[:-1]
        inputs, targets = inputs.view(-1, chunk), targets.view(-1, chunk)
        nats = []
        with torch.no_grad():
            for begin in range(0, n_chunks, batch or max(1, n_chunks)):
                rows = slice(begin, begin + (batch or n_chunks))
                logits = model(inputs[rows])
                logprobs = torch.log_softmax(logits, -1, dtype=softmax_dtype)
                nats.append(-logprobs.gather(-1, targets[rows, :, None]).flatten())
        return torch.cat(nats)[:n] if nats else torch.zeros(0)

    return score


def whole(model, *, softmax_dtype=None):
    """Scores of a model that sees the stream in one pass of its own length."""
    import torch

    def score(tokens):
        tokens = torch.as_tensor(np.asarray(tokens))
        inputs = torch.cat([torch.tensor([START]), tokens])[None, : len(tokens)]
        with torch.no_grad():
            logprobs = torch.log_softmax(model(inputs)[0], -1, dtype=softmax_dtype)
        return -logprobs.gather(-1, tokens[:, None])[:, 0].float().numpy()

    return score


@honest(rounding=1e-4)
def torch_float32(seed, vocab_size):
    score = chunked(network(seed, vocab_size))
    return lambda tokens: score(tokens).numpy()


@honest(rounding=1e-4)
def torch_float32_one_chunk_a_pass(seed, vocab_size):
    score = chunked(network(seed, vocab_size), batch=1)
    return lambda tokens: score(tokens).numpy()


@honest(rounding=1e-4)
def torch_float32_three_chunks_a_pass(seed, vocab_size):
    score = chunked(network(seed, vocab_size), chunk=16, batch=3)
    return lambda tokens: score(tokens).double().numpy()


@honest(rounding=1e-4)
def torch_whole_stream(seed, vocab_size):
    return whole(network(seed, vocab_size))


@honest(rounding=1e-4)
def torch_tensor_of_scores(seed, vocab_size):
    return chunked(network(seed, vocab_size))


@honest(rounding=1e-4)
def torch_gru(seed, vocab_size):
    return whole(recurrent(seed, vocab_size))


@honest(rounding=0.2)
def torch_bfloat16(seed, vocab_size):
    """Weights and logits in bfloat16, the softmax in float32."""
    import torch

    return whole(network(seed, vocab_size).bfloat16(), softmax_dtype=torch.float32)


@honest(rounding=0.2)
def torch_bfloat16_in_batches(seed, vocab_size):
    import torch

    score = chunked(network(seed, vocab_size).bfloat16(), chunk=32, softmax_dtype=torch.float32)
    return lambda tokens: score(tokens).numpy()


@honest(rounding=0.2)
def torch_bfloat16_softmax(seed, vocab_size):
    """The softmax in bfloat16 as well: scores of 8 bits."""
    return whole(network(seed, vocab_size).bfloat16())


def by_document(model, *, softmax_dtype=None):
    """Scores of a model that sees all documents as rows of one batch, padded on the right.

    The start of a document is the last target of the row before.
    """
    import torch

    def score(tokens):
        tokens = np.asarray(tokens)
        inputs = np.concatenate([[START], tokens])[: len(tokens)]
        row = np.cumsum(inputs == BOS) - 1
        place = np.arange(len(tokens)) - np.flatnonzero(inputs == BOS)[row]
        batch = np.zeros((row[-1] + 1, place.max() + 1), np.int64)
        batch[row, place] = inputs
        with torch.no_grad():
            logits = model(torch.from_numpy(batch))
            logprobs = torch.log_softmax(logits, -1, dtype=softmax_dtype)
        return -logprobs[row, place, tokens].float().numpy()

    return score


@honest(rounding=1e-4)
def torch_batch_of_documents(seed, vocab_size):
    """The shape of the batch depends on the longest document; the scores do not."""
    return by_document(network(seed, vocab_size))


@honest(rounding=0.2)
def torch_bfloat16_batch_of_documents(seed, vocab_size):
    import torch

    return by_document(network(seed, vocab_size).bfloat16(), softmax_dtype=torch.float32)


@honest(rounding=0.2)
def torch_autocast(seed, vocab_size):
    """Weights in float32, products in bfloat16."""
    import torch

    score = whole(network(seed, vocab_size), softmax_dtype=torch.float32)

    def score_in_bfloat16(tokens):
        with torch.autocast("cpu", torch.bfloat16):
            return score(tokens)

    return score_in_bfloat16


@honest(rounding=0.4)
def torch_bfloat16_four_layers(seed, vocab_size):
    """A transformer of four layers, all in bfloat16."""
    import torch

    torch.manual_seed(seed)
    layer = torch.nn.TransformerEncoderLayer(32, 4, 64, 0.0, batch_first=True)
    layers = torch.nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
    embed, head = torch.nn.Embedding(vocab_size, 32), torch.nn.Linear(32, vocab_size)
    for module in (layers, embed, head):
        module.eval().bfloat16()

    def model(tokens):
        mask = torch.nn.Transformer.generate_square_subsequent_mask(
            tokens.shape[1], dtype=torch.bfloat16
        )
        return head(layers(embed(tokens), mask=mask, is_causal=True)) * 3

    return whole(model, softmax_dtype=torch.float32)


@honest(rounding=1e-4)
def numpy_float32(seed, vocab_size):
    """Hidden states times a matrix in float32: the sums depend on the shape of the batch."""
    rng = np.random.default_rng(seed)
    embed = rng.normal(size=(vocab_size + 1, 48)).astype(np.float32)
    head = rng.normal(size=(48, vocab_size)).astype(np.float32) * np.float32(0.5)

    def score(tokens):
        tokens = np.asarray(tokens)
        rows = np.concatenate([[vocab_size], tokens])[: len(tokens)]
        logits = embed[rows] @ head
        if not len(tokens):
            return logits[:, 0]
        logits -= logits.max(1, keepdims=True)
        return np.log(np.exp(logits).sum(1)) - logits[np.arange(len(tokens)), tokens]

    return score


def _sums_in_random_order(seed, vocab_size, dtype):
    """Scores of hidden states times a matrix, added up in another order in each call (a GPU's)."""
    import torch

    torch.manual_seed(seed)
    embed = torch.randn(vocab_size + 1, 48).to(dtype)
    head = (torch.randn(48, vocab_size) * 0.5).to(dtype)
    rng = np.random.default_rng()

    def score(tokens):
        tokens = torch.as_tensor(np.asarray(tokens))
        order = torch.from_numpy(rng.permutation(48))
        rows = torch.cat([torch.tensor([vocab_size]), tokens])[: len(tokens)]
        parts = zip(embed[rows][:, order].split(12, 1), head[order].split(12), strict=True)
        logits = sum(part @ matrix for part, matrix in parts).float()
        logprobs = torch.log_softmax(logits, -1)
        return -logprobs.gather(-1, tokens[:, None])[:, 0].numpy()

    return score


@honest(rounding=1e-4)
def float32_sums_in_random_order(seed, vocab_size):
    import torch

    return _sums_in_random_order(seed, vocab_size, torch.float32)


@honest(rounding=0.3)
def bfloat16_sums_in_random_order(seed, vocab_size):
    import torch

    return _sums_in_random_order(seed, vocab_size, torch.bfloat16)


# This package's


@honest()
def mixer_alone(seed, vocab_size):
    from ngrammix import Mixer

    def score(tokens):
        tokens = np.asarray(tokens)
        mixer = Mixer(vocab_size=vocab_size, order=3, check_overlaps=False)
        return mixer.score(np.zeros((len(tokens), vocab_size)), tokens)

    return score


@honest(rounding=1e-6)
def mixer_with_a_model(seed, vocab_size):
    from ngrammix import Mixer

    lm = Bigram(seed, vocab_size)
    logits = np.log(lm.p).astype(np.float32)

    def score(tokens):
        tokens = np.asarray(tokens)
        mixer = Mixer(vocab_size=vocab_size, order=5, check_overlaps=False)
        return mixer.score(logits[lm.rows(tokens)], tokens)

    return score


@honest()
def cache_token_by_token(seed, vocab_size):
    from ngrammix import NgramCache

    def score(tokens):
        cache, tokens = NgramCache(vocab_size=vocab_size, order=3), np.asarray(tokens)
        nats = np.empty(len(tokens))
        for t, token in enumerate(tokens.tolist()):
            context = tokens[max(0, t - 2) : t]
            nats[t] = -cache.log_prob(context, token)
            cache.update(context, token)
        return nats

    return score
