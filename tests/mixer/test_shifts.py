"""Labels that are not shifted are found by what the logits predict; right loops are left alone."""

import warnings

import numpy as np
import pytest
import torch

from ngrammix import Mixer, ShiftWarning

V = 40
TEXT = (
    "targets look like the inputs: the logits give the target after each one {} nats more than its "
    "own, in the mean of {}; labels of Hugging Face are not shifted: pass logits[..., :-1, :] and "
    "targets[..., 1:]"
)


def bigram_text(n, seed=0):
    """(tokens (n,), logits (n, V)): row t is for token t + 1, of a model that knows the text."""
    rng = np.random.default_rng(seed)
    table = rng.normal(scale=3, size=(V, V))
    p = np.exp(table) / np.exp(table).sum(1, keepdims=True)
    tokens = [0]
    for _ in range(n - 1):
        tokens.append(rng.choice(V, p=p[tokens[-1]]))
    tokens = np.array(tokens)
    return tokens, table[tokens]


def warned(*calls):
    mixer = Mixer(vocab_size=V)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for logits, targets in calls:
            mixer.score(logits, targets)
    assert all(w.category is ShiftWarning and w.filename == __file__ for w in caught)
    return [str(warning.message) for warning in caught]


TOKENS, LOGITS = bigram_text(600)


def test_labels_that_are_the_inputs_are_found_once():
    log_p = torch.log_softmax(torch.from_numpy(LOGITS), 1).numpy()
    gain = (log_p[np.arange(599), TOKENS[1:]] - log_p[np.arange(599), TOKENS[:-1]]).mean()
    assert warned((LOGITS, TOKENS), (LOGITS, TOKENS[::-1])) == [TEXT.format(f"{gain:.1f}", 599)]
    rows = LOGITS.reshape(3, 200, V), TOKENS.reshape(3, 200)
    assert len(warned(rows)) == 1
    assert not warned((LOGITS[:40], TOKENS[:40]))  # too few to tell


@pytest.mark.parametrize("seed", range(5))
def test_shifted_labels_are_not(seed):
    tokens, logits = bigram_text(600, seed)
    assert not warned((logits[:-1], tokens[1:]))


@pytest.mark.parametrize("scale", [0, 1, 5, 30])
def test_a_model_that_knows_nothing_is_not(rng, scale):
    for _ in range(20):
        logits, targets = scale * rng.normal(size=(200, V)), rng.integers(0, V, 200)
        assert not warned((logits, targets))
    assert not warned((logits, np.zeros(200, np.int64)))  # each target is the next one


def test_real_models_are_not(parameter_golf):
    logits, targets = parameter_golf[:2]
    mixer = Mixer(vocab_size=1024)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mixer.score(logits[:4000], targets[:4000])
    with pytest.warns(ShiftWarning):
        Mixer(vocab_size=1024).score(logits[1:4000], targets[:3999])
