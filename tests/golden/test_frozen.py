"""Frozen bytes of every snapshot: today's code reads the files of format version 4 and writes them.

``python tests/golden/test_frozen.py`` writes the files anew, which only a new format version needs;
no test ever does. They are compressed, because the arrays of a mixer are nearly all equal.
"""

import hashlib
import json
import lzma
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from ngrammix import MatchModel, Mixer, NgramCache

FOLDER = Path(__file__).with_name("frozen")
V, N_BEFORE = 20, 400
LIMIT = 1 << 20  # bytes: the cache is full, and the match model is as small as it gets
CLASSES = {"cache": NgramCache, "mixer": Mixer, "match": MatchModel}


def stream():
    """(logits (T, V), tokens (T,)) of integer arithmetic alone; the tokens come back."""
    t = np.arange(2 * N_BEFORE)
    tokens = (t * t // 7 + t // 50) % V
    logits = (np.outer(t + 3, np.arange(V) + 1) * 31 % 64) / 16.0
    return logits, tokens


def learned(name):
    """Cache, mixer or match model that has learned the first half of the stream."""
    logits, tokens = (part[:N_BEFORE] for part in stream())
    if name == "match":
        model = MatchModel(vocab_size=V, min_length=3, table_bits=6, window=2048)
        model.learn(tokens)
        return model
    if name == "cache":
        cache = NgramCache(vocab_size=V, order=4)
        cache.learn(tokens)
        cache.update([1, 2, 3], 4)
        return cache
    mixer = Mixer(vocab_size=V, order=3, memory_limit=LIMIT)
    mixer.score(logits, tokens)
    return mixer


def digest(*arrays):
    """SHA-256 of arrays of integers, as little-endian int64."""
    values = [np.ascontiguousarray(array, "<i8").tobytes() for array in arrays]
    return hashlib.sha256(b"".join(values)).hexdigest()


def continued(name, model):
    """Figures of the second half of the stream, once the first half was learned."""
    logits, tokens = (part[N_BEFORE:] for part in stream())
    figures = {"position": model.position}
    if name == "match":
        matches = model.observe(tokens)
        return figures | {"matches": digest(matches.length, matches.hint, matches.distance)}
    if name == "cache":
        evidence = model.observe(tokens)
        counts = evidence.followers, evidence.target_count, evidence.hint_count, evidence.age
        return figures | {
            "ngrams": len(model),
            "evidence": digest(*counts, evidence.matched_order),
            "distribution": model.distribution().round(9).tolist(),
        }
    nats = model.score(logits, tokens)
    figures["experts"] = model.experts
    return figures | {"bits": float(nats.sum() / np.log(2)), "regret_bits": model.regret_bits}


@pytest.fixture(params=CLASSES)
def frozen(request, tmp_path):
    """(name, path of the frozen file, figures) of each class."""
    path = tmp_path / request.param
    path.write_bytes(lzma.decompress((FOLDER / f"{request.param}.xz").read_bytes()))
    return request.param, path, json.loads((FOLDER / "figures.json").read_text())[request.param]


def test_a_frozen_snapshot_continues_with_the_same_figures(frozen):
    name, path, figures = frozen
    found = continued(name, CLASSES[name].load(path))
    assert found.keys() == figures.keys()
    for key, value in figures.items():
        assert found[key] == (pytest.approx(value, rel=1e-9) if "bits" in key else value), key


def test_a_loaded_snapshot_is_saved_with_the_same_bytes(frozen, tmp_path):
    name, path, _ = frozen
    CLASSES[name].load(path).save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", ["cache", "match"])
def test_the_same_tokens_are_saved_with_the_same_bytes(name, tmp_path):
    """Not of the mixer: the last digits of its weights may depend on the processor."""
    learned(name).save(tmp_path / name)
    frozen = lzma.decompress((FOLDER / f"{name}.xz").read_bytes())
    assert (tmp_path / name).read_bytes() == frozen


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    figures = {}
    with TemporaryDirectory() as folder:
        for name, kind in CLASSES.items():
            path = Path(folder) / name
            learned(name).save(path)
            (FOLDER / f"{name}.xz").write_bytes(lzma.compress(path.read_bytes(), preset=9))
            figures[name] = continued(name, kind.load(path))
    (FOLDER / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
