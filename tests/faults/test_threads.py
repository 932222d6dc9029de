"""One object in two threads: an error at once, nothing changed, and the first thread goes on."""

import os
import signal
import sys
import threading
import time
import warnings
from contextlib import contextmanager
from inspect import isfunction, signature
from pathlib import Path

import numpy as np
import pytest

from ngrammix import MatchModel, Mixer, NgramCache, RankMixer, prefetch, read_logits
from ngrammix.cache.pipeline import Chunk
from ngrammix.exclusive import USER
from ngrammix.kernels import index
from quant import Calibration, Hessian

pytestmark = pytest.mark.kernels

V = 16
IS_PLAIN = os.environ.get("NUMBA_DISABLE_JIT") == "1"  # a hundred times slower: shorter streams
TOKENS = np.random.default_rng(0).integers(0, V, 400 if IS_PLAIN else 3000)
OTHER_THREAD = -1

# What needs no guard: constants, one integer, and sums of sizes.
FREE = {
    NgramCache: {"nbytes", "position", "__len__"},
    MatchModel: {"nbytes"},
    Mixer: {"vocab_size", "order", "experts", "cache", "position", "nbytes"},
}
FORBIDDEN = "must be used by one thread at a time, got "


def make(cls):
    if cls is RankMixer:
        pytest.importorskip("torch")
        return RankMixer(TOKENS, vocab_size=V, order=3)
    if cls is Hessian:
        return Hessian(V)
    options = {"min_length": 3} if cls is MatchModel else {"order": 3}
    new = cls(vocab_size=V, **options)
    new.learn(TOKENS[:100])
    return new


def members(cls):
    """(name, function) of the public methods and properties that belong to an object."""
    for name, member in vars(cls).items():
        function = member.fget if isinstance(member, property) else member
        if isfunction(function) and (not name.startswith("_") or name == "__len__"):
            yield name, function


def guards(thing):
    """The dicts that hold the thread which is in."""
    users = {"_guard": thing._guard.user}
    return users | ({"_cache": thing.cache._guard.user} if isinstance(thing, Mixer) else {})


@contextmanager
def another_thread_in(*users):
    for user in users:
        user[USER] = OTHER_THREAD
    try:
        yield
    finally:
        for user in users:
            assert user.pop(USER) == OTHER_THREAD


def call(thing, name, function):
    """Call a method with any arguments: its guard comes first."""
    required = [
        p for p in list(signature(function).parameters.values())[1:] if p.default is p.empty
    ]
    named = {p.name: None for p in required if p.kind == p.KEYWORD_ONLY}
    positional = [None for p in required if p.kind == p.POSITIONAL_OR_KEYWORD]
    return function(thing, *positional, **named)


@pytest.mark.parametrize("cls", [NgramCache, MatchModel, Mixer, RankMixer, Hessian])
def test_every_method_refuses_a_second_thread(cls):
    thing = make(cls)
    n_guarded = 0
    for name, function in members(cls):
        if name in FREE.get(cls, {"n_columns"}):
            continue
        n_guarded += 1
        with another_thread_in(*guards(thing).values()), pytest.raises(ValueError) as error:
            call(thing, name, function)
        named = function.__name__
        assert str(error.value) == (
            f"a {cls.__name__} {FORBIDDEN}{named} while another thread is in; give each thread its "
            f"own {cls.__name__}, or hold a lock of yours around each call"
        )
    assert n_guarded >= 2


def test_every_method_of_a_calibration_does():
    for name, function in members(Calibration):
        assert hasattr(function, "__wrapped__"), name


def test_what_may_run_beside_what():
    """`observe` has the tokens, `score_observed` the experts, and all else has both."""
    mixer = make(Mixer)
    users = guards(mixer)
    beside_scoring = {"observe", "boundary"}
    beside_observing = {"score_observed", "state_dict", "regret_bits", "bound_bits"}
    for held, allowed in (("_guard", beside_scoring), ("_cache", beside_observing)):
        for name, function in members(Mixer):
            if name in FREE[Mixer]:
                continue
            with another_thread_in(users[held]):
                try:
                    call(mixer, name, function)
                    is_refused = False
                except Exception as error:
                    is_refused = FORBIDDEN in str(error)
            assert is_refused == (name not in allowed), (held, name)
    with another_thread_in(users["_guard"]), pytest.raises(ValueError, match=FORBIDDEN):
        mixer.score(np.zeros((1, V)), [0])
    with another_thread_in(users["_cache"]), pytest.raises(ValueError, match=FORBIDDEN):
        mixer.cache.learn([0])
    assert mixer.position == 100


def run_threads(n, work, seconds=0.7):
    """Errors of `n` threads that call ``work(index)`` again and again."""
    errors, until = [], time.monotonic() + seconds

    def loop(index):
        while time.monotonic() < until:
            try:
                work(index)
            except ValueError as error:
                if FORBIDDEN not in str(error):
                    errors.append(error)
            except BaseException as error:
                errors.append(error)

    threads = [threading.Thread(target=loop, args=(i,)) for i in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return errors


@pytest.fixture
def often():
    """Threads take turns a hundred times as often."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(5e-5)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_eight_threads_in_one_cache_leave_whole_tables(n_threads, often):
    cache = NgramCache(vocab_size=V, order=4, memory_limit="4MiB", n_threads=n_threads)
    learned = [[] for _ in range(8)]
    long = np.tile(TOKENS, 1 if IS_PLAIN else 8)

    def work(i):
        size = (1, 7, len(TOKENS), len(long))[i % 4]
        if i == 7:
            cache.stats(), cache.peek(), cache.distribution(), cache.log_prob([1, 2], 3)
            return
        cache.learn(long[:size])
        learned[i].append(size)

    assert run_threads(8, work) == []
    assert cache._guard.user == {}
    assert cache.position == sum(map(sum, learned)) > 0
    cache.check()


def test_eight_threads_in_one_mixer_score_one_stream(often, tmp_path):
    """Each call that came in is in the stream, whole; all others changed nothing."""
    mixer = Mixer(vocab_size=V, order=3, check_overlaps=False)
    done = []
    logits = np.random.default_rng(1).normal(size=(50, V))

    def work(i):
        tokens = TOKENS[i * 50 : i * 50 + (50, 1, 9)[i % 3]]
        scores = mixer.score(logits[: len(tokens)], tokens)
        assert np.isfinite(scores).all()
        done.append(len(tokens))
        if i == 7:
            assert abs(mixer.probs(logits[0]).sum() - 1) < 1e-9
            mixer.save(tmp_path / "m")

    assert run_threads(8, work) == []
    assert mixer.position == sum(done) > 0
    mixer.cache.check()
    assert mixer.regret_bits <= mixer.bound_bits
    mixer.save(tmp_path / "m")
    assert Mixer.load(tmp_path / "m").position == mixer.position


def test_observe_in_one_thread_and_score_in_another_are_one_stream():
    logits = np.random.default_rng(1).normal(size=(len(TOKENS), V))
    alone = Mixer(vocab_size=V, order=4).score(logits, TOKENS)
    mixer, nats = Mixer(vocab_size=V, order=4), []
    pieces = np.array_split(TOKENS, 20)
    for observed in prefetch((mixer.observe(piece) for piece in pieces), n_ahead=4):
        at = observed.position + np.arange(len(observed))
        reader = read_logits(logits[at], observed.tokens, at)
        nats.append(mixer.score_observed(observed, reader.lookup(observed.hint_tokens)).nats)
        assert mixer.regret_bits <= mixer.bound_bits
    np.testing.assert_array_equal(np.concatenate(nats), alone)


def test_eight_threads_in_one_hessian_count_every_row(often):
    hessian, rows = Hessian(8), np.ones((500, 8))
    n = [0] * 8

    def work(i):
        hessian.add(rows)
        n[i] += 500

    assert run_threads(8, work, 0.3) == []
    assert hessian.n_rows == sum(n) > 0
    np.testing.assert_array_equal(hessian.matrix(), np.ones((8, 8)))


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_thousand_caches_leak_no_memory_and_no_thread():
    def resident():
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.partition("VmRSS:")[2].split()[0])

    def use(n):
        for _ in range(n):
            cache = NgramCache(vocab_size=V, order=3, n_threads=2)
            cache.learn(TOKENS)
            with another_thread_in(cache._guard.user), pytest.raises(ValueError, match=FORBIDDEN):
                cache.learn(TOKENS)

    use(2 if IS_PLAIN else 200)
    before, n_threads = resident(), threading.active_count()
    use(5 if IS_PLAIN else 1000)
    assert resident() - before < 16 << 20
    assert threading.active_count() == n_threads


HALF = "must be whole, got one in the middle of a change"


def test_an_interrupt_frees_the_object_and_never_leaves_broken_tables():
    """Either the cache is whole, and its sums hold, or it says that it is not."""
    rng = np.random.default_rng(2)

    def interrupt(*_):
        raise KeyboardInterrupt

    old = signal.signal(signal.SIGALRM, interrupt)
    n_whole = n_cut = 0
    slow = 50 if IS_PLAIN else 1
    cache = NgramCache(vocab_size=V, order=4)
    cache.learn(TOKENS[:10])  # compiles, which takes longer than the time between interrupts
    cache.check()
    cache.clear()
    try:
        stop = time.monotonic() + 1.5 * min(slow, 4)
        while time.monotonic() < stop:
            try:
                signal.setitimer(signal.ITIMER_REAL, slow * rng.uniform(5e-5, 2e-3))
                while True:
                    cache.learn(TOKENS[: rng.integers(1, 300 // min(slow, 30))])
            except KeyboardInterrupt:
                pass
            assert cache._guard.user == {}
            if not cache._guard.n_unfinished:
                cache.check()
                n_whole += 1
                continue
            n_cut += 1
            for refused in (cache.check, lambda: cache.save("never"), lambda: cache.learn([0])):
                with pytest.raises(ValueError, match=HALF):
                    refused()
            cache.clear()
            cache.check()
            assert cache.position == 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert n_whole > 0
    assert n_cut > 0


def learn_one_by_one(cache):
    for token in TOKENS:
        cache.learn([token])


def test_an_interrupt_while_an_index_grows_is_seen(monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    cache = NgramCache(vocab_size=V, order=4)
    cache.learn(TOKENS[:40])
    monkeypatch.setattr(index, "fill_slots", interrupt)
    with pytest.raises(KeyboardInterrupt):
        learn_one_by_one(cache)
    monkeypatch.undo()
    with pytest.raises(ValueError, match=HALF):
        cache.learn([0])


def test_a_signal_handler_may_look_and_not_change(monkeypatch):
    cache = make(NgramCache)
    seen = []
    count = Chunk.count

    def interrupted(self, *arguments):
        seen.append((cache.position, len(cache), cache.stats()["position"], repr(cache)))
        for refused in (lambda: cache.learn([0]), cache.peek, lambda: cache.save("never")):
            with pytest.raises(ValueError) as error:
                refused()
            assert str(error.value) == (
                f"a NgramCache {HALF}, which Ctrl-C or a fork cut short, or a signal handler "
                "interrupted; make a new one, or load the last snapshot"
            )
        return count(self, *arguments)

    monkeypatch.setattr(Chunk, "count", interrupted)
    cache.learn([1, 2, 3])
    monkeypatch.undo()
    assert [position for position, *_ in seen] == [103]  # the stream has them already
    assert cache.position == 103
    cache.check()


def test_a_mixer_that_was_cut_short_says_so(monkeypatch):
    mixer = make(Mixer)

    def cut(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(mixer._experts.guard, "mix", cut)
    with pytest.raises(KeyboardInterrupt):
        mixer.score(np.zeros((2, V)), [0, 1])
    monkeypatch.undo()
    for refused in (lambda: mixer.score(np.zeros((1, V)), [0]), lambda: mixer.save("never")):
        with pytest.raises(ValueError, match=f"a Mixer {HALF}"):
            refused()
    assert mixer.regret_bits <= mixer.bound_bits


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_works_or_raises_and_never_hangs(tmp_path):
    cache = make(NgramCache)
    before = cache.distribution()
    out = tmp_path / "out"

    def in_child(use):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads
            child = os.fork()
        if child == 0:
            try:
                out.write_text(use())
            except ValueError as error:
                out.write_text(str(error))
            finally:
                os._exit(0)
        for _ in range(500):
            if os.waitpid(child, os.WNOHANG)[0]:
                return out.read_text()
            time.sleep(0.02)
        os.kill(child, signal.SIGKILL)
        return "hang"

    def learn():
        cache.learn(TOKENS[:50])
        cache.check()
        return f"{cache.position}"

    assert in_child(learn) == "150"
    with another_thread_in(cache._guard.user):
        assert FORBIDDEN in in_child(learn)
    with cache._guard.changing():
        assert HALF in in_child(learn)
    np.testing.assert_array_equal(cache.distribution(), before)
    assert cache.position == 100
