"""Readers of ngrammix: snapshots of caches, mixers and match models, and sizes in bytes."""

from pathlib import Path

import numpy as np

from tests.fuzz.reader import Reader, json_reader, signed_snapshot, write
from tests.fuzz.verdict import WrongError


def read_cache(data: bytes, folder: Path) -> None:
    """A cache that loads holds together, learns, and is saved as it was loaded."""
    from ngrammix import NgramCache, snapshot

    path = write(folder, signed_snapshot(data))
    cache = NgramCache.load(path)
    cache.check()
    cache.save(folder / "again")
    if not same(snapshot.read(path), snapshot.read(folder / "again")):
        raise WrongError("saved again, it differs")
    cache.learn(np.arange(8) % cache.vocab_size)
    cache.check()


def read_mixer(data: bytes, folder: Path) -> None:
    """A mixer that loads gives finite costs."""
    from ngrammix import Mixer

    mixer = Mixer.load(write(folder, signed_snapshot(data)))
    if mixer.vocab_size > 1000:
        return  # its logits would take too long
    costs = mixer.score(np.zeros((3, mixer.vocab_size)), np.arange(3) % mixer.vocab_size)
    if not np.isfinite(costs).all():
        raise WrongError(f"costs {costs}")


def read_match(data: bytes, folder: Path) -> None:
    """A match model that loads observes tokens, and its hints are tokens."""
    from ngrammix import MatchModel

    model = MatchModel.load(write(folder, signed_snapshot(data)))
    matches = model.observe(np.arange(40) % min(model.vocab_size, 4))
    if (matches.hint[matches.length > 0] >= model.vocab_size).any():
        raise WrongError("a hint that is no token")


def read_raw(data: bytes, folder: Path) -> None:
    """A file that nobody signed is hardly ever a snapshot."""
    from ngrammix import snapshot

    snapshot.read(write(folder, data))


def read_size(data: bytes, folder: Path) -> None:
    """A size that is read is a number of bytes."""
    from ngrammix.checks import as_bytes

    if as_bytes(data.decode("utf-8", "surrogateescape")) < 0:
        raise WrongError("a size below 0")


def same(one: object, other: object) -> bool:
    """Whether the contents of two snapshots are equal."""
    (values, arrays), (values_2, arrays_2) = one, other
    return values == values_2 and all(
        np.array_equal(array, arrays_2.get(name)) for name, array in arrays.items()
    )


READERS = {
    "snapshot": Reader(read_raw),
    "cache": json_reader(read_cache),
    "mixer": json_reader(read_mixer),
    "match-model": json_reader(read_match),
    "size": Reader(read_size, named=None),
}
