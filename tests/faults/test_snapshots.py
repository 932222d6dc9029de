"""Snapshots that were altered and signed again: read right, or refused by one line."""

import json
import os
import random
import subprocess
import sys
import time
from hashlib import blake2b

import numpy as np
import pytest

from ngrammix import MatchModel, Mixer, NgramCache, SnapshotError, snapshot
from tests.faults.mutants import byte_mutants, chosen, json_mutants

V = 8
TOKENS = np.random.default_rng(0).integers(0, V, 300)
N, SEED = chosen(60)
SECONDS = 10  # for any one of them


def make(cls):
    options = {"table_bits": 4, "window": 2048} if cls is MatchModel else {"order": 3}
    new = cls(vocab_size=V, **options)
    new.learn(TOKENS)
    return new


@pytest.fixture(scope="module", params=[NgramCache, MatchModel, Mixer])
def parts(request, tmp_path_factory):
    """(class, path to write to, header, pages of the arrays)."""
    path = tmp_path_factory.mktemp("snapshots") / "s"
    make(request.param).save(path)
    return request.param, path, *parts_of(path)


def signed(head, pages):
    """A whole file of a header (bytes) and the pages of the arrays."""
    sizes = np.array([snapshot.VERSION, len(head)], "<u4").tobytes()
    digest = blake2b(head, digest_size=snapshot.DIGEST_BYTES).digest()
    start = snapshot.MAGIC + sizes + digest + head
    return start + bytes(-len(start) % snapshot.PAGE) + pages


def rebuilt(header, pages):
    """A whole file of a header (JSON, which may be nested deep) and the pages of the arrays."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10_000)
    try:
        return signed(json.dumps(header).encode(), pages)
    finally:
        sys.setrecursionlimit(limit)


def parts_of(path):
    """(header as JSON, pages of the arrays) of a file."""
    content = path.read_bytes()
    start = snapshot.START + int.from_bytes(content[12:16], "little")
    return json.loads(content[snapshot.START : start]), content[start + -start % snapshot.PAGE :]


def outcome(cls, path, content):
    """What a reader makes of the content: True if it is read, False if it is refused rightly."""
    path.write_bytes(content)
    started = time.monotonic()
    try:
        thing = cls.load(path)
    except SnapshotError as error:
        text = str(error)
        assert str(path) in text
        assert text.isprintable()
        assert len(text) < 1000
        assert time.monotonic() - started < SECONDS
        return False
    use(thing)
    thing.save(path)
    cls.load(path)
    assert time.monotonic() - started < SECONDS
    return True


def use(thing):
    """Whatever was loaded goes on, and its distributions sum to 1."""
    tokens = np.arange(40) % min(thing.vocab_size, 3)
    if isinstance(thing, MatchModel):
        matches = thing.observe(tokens)
        assert (matches.hint[matches.length > 0] < thing.vocab_size).all()
        return
    cache = thing.cache if isinstance(thing, Mixer) else thing
    if thing.vocab_size > 10_000:
        return
    assert abs(cache.distribution().sum() - 1) < 1e-9
    if isinstance(thing, Mixer):
        logits = np.zeros((40, thing.vocab_size))
        assert abs(thing.probs(logits[0]).sum() - 1) < 1e-9
        assert np.isfinite(thing.score(logits, tokens)).all()
        assert thing.regret_bits <= thing.bound_bits
    else:
        thing.learn(tokens)
    cache.check()


def arrays_of(header):
    """(name, begin, end) of each array in a file that consists of a page and the pages."""
    at = 0
    for name, entry in header["arrays"].items():
        size = np.dtype(f"<{entry['dtype']}").itemsize * int(np.prod(entry["shape"]))
        at += -at % snapshot.PAGE
        yield name, at, at + size
        at += size


def test_the_file_itself_is_read(parts):
    cls, path, header, pages = parts
    assert outcome(cls, path, rebuilt(header, pages))


def test_headers_with_other_values(parts):
    cls, path, header, pages = parts
    n_read = sum(outcome(cls, path, rebuilt(h, pages)) for h in json_mutants(header, SEED, N))
    assert n_read < N


def test_headers_with_other_bytes(parts):
    cls, path, header, pages = parts
    text = json.dumps(header).encode()
    for head in byte_mutants(text, SEED, N):
        outcome(cls, path, signed(head, pages))


def test_arrays_with_other_numbers(parts):
    cls, path, header, pages = parts
    rng = random.Random(SEED)
    spans = [span for span in arrays_of(header) if span[2] > span[1]]
    for i in range(N // 4 if cls is Mixer else N):
        name, begin, end = rng.choice(spans)
        # Most arrays are large: damage near the beginning meets more of what is used.
        stop = min(end, begin + 4096) if rng.random() < 0.7 else end
        mutant = next(byte_mutants(pages[begin:stop], SEED + i, 1)).ljust(stop - begin, b"\xff")
        changed = pages[:begin] + mutant[: stop - begin] + pages[stop:]
        digest = blake2b(changed[begin:end], digest_size=snapshot.DIGEST_BYTES).hexdigest()
        arrays = header["arrays"] | {name: header["arrays"][name] | {"digest": digest}}
        outcome(cls, path, rebuilt(header | {"arrays": arrays}, changed))


def with_array(header, **entry):
    first, *_ = header["arrays"]
    return header | {"arrays": header["arrays"] | {first: header["arrays"][first] | entry}}


@pytest.mark.parametrize(
    "shape",
    [
        [2**62], [2**62, 4], [0, 2**63], [0, 2**62], [1] * 71, [0] * 71, [10**400], [10**400] * 8,
        [-1], [1.0], ["4"], [True], "44", {}, None, 4, [[4]], [2**32, 2**32, 2**32],
    ],
)  # fmt: skip
def test_shapes_of_any_kind(parts, shape):
    cls, path, header, pages = parts
    assert not outcome(cls, path, rebuilt(with_array(header, shape=shape), pages))


@pytest.mark.parametrize("dtype", ["O", "f2", "U4", "V8", "c16", "", "<u4", "u4,u4", None, ["u4"]])
def test_dtypes_of_any_kind(parts, dtype):
    cls, path, header, pages = parts
    assert not outcome(cls, path, rebuilt(with_array(header, dtype=dtype), pages))


@pytest.mark.parametrize(
    "head",
    [
        b"[" * 100_000, b'{"a":' * 100_000, b'{"values": {}, "values": {}, "arrays": {}}',
        b'{"values": {"position": NaN}, "arrays": {}}', b"1" * 10_000, b"\xff\xfe{}", b"", b"null",
        '{"values": {}, "arrays": {}}'.encode("utf-16"), b'{"values": 3, "arrays": 4}',
        b'{"values": {"\\ud800\\n": 1}, "arrays": {}}', b'{"values": {}, "arrays": {"a": {}}}',
        b'{"values": {}, "arrays": {"a\\u001b[31m": {"dtype": "u4", "shape": [9], "digest": 0}}}',
    ],
)  # fmt: skip
def test_headers_of_any_kind(parts, head):
    cls, path, _, pages = parts
    assert not outcome(cls, path, signed(head, pages))


@pytest.mark.parametrize(
    "values",
    [
        {"order": "7"}, {"order": 10**30}, {"memory_limit": 1e30}, {"memory_limit": 2**61},
        {"memory_limit": "8EiB"}, {"memory_limit": True}, {"vocab_size": 2**31}, {"vocab_size": 0},
        {"position": 2**62}, {"position": True}, {"position": None}, {"x": 1}, {"window": 2**30},
        {"table_bits": 30}, {"min_length": 1024}, {"experts": ["tilt"]}, {"experts": "gate"},
    ],
)  # fmt: skip
def test_values_of_any_kind(parts, values):
    cls, path, header, pages = parts
    outcome(cls, path, rebuilt(header | {"values": header["values"] | values}, pages))


def test_a_name_less_is_a_damage(parts):
    cls, path, header, pages = parts
    for name in header["values"]:
        values = {key: value for key, value in header["values"].items() if key != name}
        assert not outcome(cls, path, rebuilt(header | {"values": values}, pages))


def test_what_is_no_file_is_refused(tmp_path, monkeypatch):
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "fifo")
    places = [
        tmp_path,
        tmp_path / "none",
        tmp_path / "fifo",
        tmp_path / "loop",
        tmp_path / ("n" * 300),
    ]
    for path in [*places, "/dev/zero", "/dev/null", tmp_path / "s\0x"]:
        for cls in (NgramCache, Mixer, MatchModel):
            with pytest.raises(
                SnapshotError, match=r"snapshot must be a file|a file must be readable"
            ):
                cls.load(path)
    make(NgramCache).save(tmp_path / "s")

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(tmp_path), "open", denied)
    with pytest.raises(SnapshotError) as error:
        NgramCache.load(tmp_path / "s")
    assert str(error.value) == (
        f"a file must be readable, got {tmp_path / 's'} (Permission denied); check its rights"
    )


def test_a_checkpoint_is_a_snapshot_too(tmp_path):
    from eval.scoring.checkpoint import NAME, Checkpoint

    store = Checkpoint(tmp_path, {"data": "d"})
    store.save({"position": 3}, {"weights": np.zeros((4, 2))})
    header, pages = parts_of(tmp_path / NAME)
    for mutant in json_mutants(header, SEED, N):
        (tmp_path / NAME).write_bytes(rebuilt(mutant, pages))
        text = ""
        try:
            Checkpoint(tmp_path, {"data": "d"}).load({"position": 3})
        except ValueError as error:
            text = str(error)
        assert not text or text.isprintable()


MEASURE = """
import resource, sys
from ngrammix import Mixer, NgramCache, MatchModel, SnapshotError
status = lambda: int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0]) * 1024
NgramCache(vocab_size=4, order=3).learn([0, 1])
Mixer(vocab_size=4, order=3).learn([0, 1])
before = status()
for cls in (NgramCache, Mixer, MatchModel):
    try:
        cls.load(sys.argv[1])
    except SnapshotError:
        pass
print(status() - before)
"""


def peak_of_load(path):
    """Bytes by which a process grows at most, when it loads the file in every way."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, path], check=True, capture_output=True, text=True
    )
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_memory_is_bounded_by_the_size_of_the_file(tmp_path):
    path = tmp_path / "s"
    cache = NgramCache(vocab_size=50_000, order=7)
    cache.learn(np.random.default_rng(1).integers(0, 50_000, 150_000))
    cache.save(path)
    assert peak_of_load(path) < 4 * path.stat().st_size + (256 << 20)
    small = make(NgramCache)
    values, arrays = small._state()
    for hostile in (
        {"memory_limit": 2**61},
        {"order": 32},
        {"vocab_size": 2**31},
        {"window": 2**30},
    ):
        snapshot.write(path, values | hostile, arrays)
        assert peak_of_load(path) < 256 << 20
    head = b'{"values": {}, "arrays": ' + b"[" + b"[]," * 340_000 + b"0]}"
    path.write_bytes(signed(head, b""))
    assert peak_of_load(path) < 64 << 20


EXPERTS = [
    ("tilt slopes", (0, 0), 1e308), ("tilt slopes", (0, 1), 1e308),
    ("tilt weights", (-1, 0), -1e200), ("tilt weights", (5, 1), -1.0),
    ("tilt weights", (5, 1), 1e200), ("gate weights", (0, 0), 5e-324),
    ("gate weights", (0, 0), 2.0), ("gate weights", (0, 1), 1e300), ("gate trend", (0,), 1e300),
    ("guard odds", (0,), 1.7e308), ("guard odds", (0,), -1.7e308), ("guard odds", (0,), np.nan),
]  # fmt: skip


@pytest.mark.parametrize(("name", "at", "value"), EXPERTS)
def test_weights_that_no_stream_leads_to_are_refused(name, at, value, tmp_path):
    mixer = make(Mixer)
    mixer.state_dict()[name][at] = value
    mixer.save(tmp_path / "m")
    with pytest.raises(SnapshotError, match=r"is damaged: .*(gate|guard|tilt|odds)"):
        Mixer.load(tmp_path / "m")
    other = make(Mixer)
    before = {key: array.copy() for key, array in other.state_dict().items()}
    with pytest.raises(ValueError, match=r"gate|guard|tilt|odds"):
        other.load_state_dict(mixer.state_dict())
    for key, array in other.state_dict().items():
        np.testing.assert_array_equal(array, before[key])


@pytest.mark.parametrize(
    ("name", "value"), [("guard regret", 1e300), ("guard regret", 50.0), ("guard odds", -1.7e308)]
)
def test_a_regret_beyond_the_bound_is_refused(name, value, tmp_path):
    mixer = Mixer(vocab_size=V, order=3, experts="tilt+gate+switch")
    mixer.score(np.zeros((300, V)), TOKENS)
    mixer.save(tmp_path / "m")
    Mixer.load(tmp_path / "m")
    mixer.state_dict()[name][0] = value
    mixer.save(tmp_path / "m")
    with pytest.raises(SnapshotError, match="of the guard"):
        Mixer.load(tmp_path / "m")
