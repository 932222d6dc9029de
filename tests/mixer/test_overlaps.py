"""Windows that overlap are found by where repeats begin and end; the text's own repeats are not."""

import warnings

import numpy as np
import pytest

from ngrammix import Mixer, OverlapWarning
from tools.overlap_alarms import LOOPS, warning_of

V = 256
START = "targets look scored before: "
END = (
    "; the cache has seen these answers, so the loss is wrong: pass only the new targets of each "
    "window (positions= checks it) and a new Mixer for each evaluation, or check_overlaps=False if "
    "the text itself is so"
)


def text_of(n, seed=0):
    """Tokens of words drawn from a small dictionary: as repetitive as text."""
    rng = np.random.default_rng(seed)
    words = [rng.integers(0, V, rng.integers(2, 9)) for _ in range(400)]
    drawn = (400 * rng.random(n) ** 3).astype(int)
    return np.concatenate([words[i] for i in drawn])[:n]


def rows(tokens, starts, width):
    return np.stack([tokens[start : start + width] for start in starts])


def all_targets(tokens, width, stride, n_rows=4):
    """Windows whose targets are all scored."""
    starts = range(0, len(tokens) - width + 1, stride)
    return [rows(tokens, starts[i : i + n_rows], width) for i in range(0, len(starts), n_rows)]


def eval_val(tokens, width, stride):
    """Parameter Golf's public loop: the last targets of each window, of short last windows too."""
    n, calls = len(tokens), []
    for start in range(0, n, stride):
        length = min(start + width, n) - start
        if length >= stride or start == 0:
            first = max(length - stride, 0) if start else 0
            calls.append(tokens[start + first : start + length])
    return calls


def estimate_loss(tokens, width, n_rows, n_calls):
    """nanoGPT's loop: random windows."""
    rng = np.random.default_rng(1)
    return [
        rows(tokens, rng.integers(0, len(tokens) - width, n_rows), width) for _ in range(n_calls)
    ]


def consecutive(tokens, width):
    return [tokens[i : i + width] for i in range(0, len(tokens), width)]


def masked(tokens, width, stride):
    """The perplexity recipe of Hugging Face: labels of the overlap are -100."""
    calls, end = [], 0
    for start in range(0, len(tokens), stride):
        y = tokens[None, start : start + width].copy()
        y[:, : max(end - start, 0)] = -100
        end = start + y.shape[1]
        calls.append(y)
        if end == len(tokens):
            return calls
    return calls


def flat(calls):
    return [call.reshape(-1) for call in calls]


def both(tokens, width):
    """x and y are scored."""
    pairs = [
        (tokens[i : i + width], tokens[i + 1 : i + width + 1])
        for i in range(0, len(tokens) - width, width)
    ]
    return [call for pair in pairs for call in pair]


TEXT = text_of(20_000)
WRONG = {
    "all targets, 1024 by 64": all_targets(TEXT[:6000], 1024, 64),
    "all targets, flat": flat(all_targets(TEXT[:6000], 1024, 64)),
    "all targets, one window a call": flat(all_targets(TEXT[:4000], 128, 64, 1)),
    "all targets, 64 by 16": all_targets(TEXT[:3000], 64, 16),
    "all targets, half, flat": flat(all_targets(TEXT, 256, 128)),
    "the last tokens four times": eval_val(TEXT[:19_968], 256, 64),
    "the last tokens at any length": eval_val(TEXT[:19_971], 256, 64),
    "the last tokens sixteen times": eval_val(TEXT[:19_968], 1024, 64),
    "the last tokens partly twice": eval_val(TEXT[:19_968], 512, 256),
    "random windows": estimate_loss(TEXT, 64, 12, 40),
    "random windows, flat": flat(estimate_loss(TEXT, 64, 12, 40)),
    "random windows of 1024, flat": flat(estimate_loss(TEXT, 1024, 4, 8)),
    "random windows, one a call": estimate_loss(TEXT, 128, 1, 200),
    "two evaluations": [*consecutive(TEXT, 128), *consecutive(TEXT, 128)],
    "two evaluations in one call each": [TEXT, TEXT],
    "the second evaluation elsewhere": [*consecutive(TEXT, 128), *consecutive(TEXT[37:], 128)],
    "inputs and targets": both(TEXT, 128),
}
RIGHT = {
    "consecutive": consecutive(TEXT, 128),
    "one call": [TEXT],
    "batches": all_targets(TEXT, 128, 128),
    "batches, flat": flat(all_targets(TEXT, 128, 128)),
    "sliding": [TEXT[:256], *consecutive(TEXT[256:], 32)],
    "masked": masked(TEXT, 256, 64),
    "zeros": consecutive(np.zeros(9000, np.int64), 64),
    "a period of half a window": consecutive(np.resize(TEXT[:32], 9000), 64),
    "a period of 50": consecutive(np.resize(TEXT[:50], 9000), 64),
    "a copied piece": consecutive(np.concatenate([TEXT[:9000], TEXT[3333:5555], TEXT[9000:]]), 128),
    "short calls": consecutive(np.resize(TEXT[:8], 900), 8),
    "single tokens": consecutive(TEXT[:200], 1),
}  # fmt: skip


def warned(calls, verb="score_nll", **options):
    mixer = Mixer(vocab_size=V, **options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for targets in calls:
            if verb == "observe":
                mixer.observe(targets.reshape(-1))
            elif verb == "score_nll":
                mixer.score_nll(np.full(targets.shape, 5.5), targets)
            else:
                getattr(mixer, verb)(np.zeros((*targets.shape, V)), targets)
    assert all(warning.category is OverlapWarning for warning in caught)
    assert all(warning.filename == __file__ for warning in caught)
    assert len(caught) <= 1
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize("name", WRONG)
def test_overlaps_and_second_evaluations_are_found(name):
    (text,) = warned(WRONG[name])
    assert text.startswith(START)
    assert text.endswith(END)
    assert not warned(WRONG[name], check_overlaps=False)


@pytest.mark.parametrize("name", RIGHT)
def test_loops_that_score_each_token_once_are_not(name):
    assert not warned(RIGHT[name])


@pytest.mark.parametrize("verb", ["score", "trace", "cross_entropy", "score_nll"])
def test_every_way_to_score_is_watched(verb):
    calls = estimate_loss(TEXT, 64, 12, 12)
    assert warned(calls, verb, order=3)
    assert warned(flat(calls), verb, experts="gate")
    assert not warned(consecutive(TEXT[:4000], 64), verb, order=3)


def test_halves_are_watched():
    assert warned(flat(all_targets(TEXT[:6000], 1024, 64, 1)), "observe")
    assert not warned(consecutive(TEXT, 128), "observe")


TEXTS = {
    "all targets, 64 by 16": "3 of 3 repeats of 16 tokens or more join the end of a row to the "
    "beginning of another",
    "inputs and targets": "127 tokens from position 128 on, where a row begins, are those "
    "before it",
    "the last tokens four times": "64 tokens from position 19968 on are again those from position "
    "19904 on",
    "two evaluations": "128 tokens from position 20000 on are again those from position 0 on",
}


@pytest.mark.parametrize("name", TEXTS)
def test_the_warning_names_the_repeat(name):
    assert warned(WRONG[name]) == [START + TEXTS[name] + END]


def documents(tokens):
    return np.split(tokens, np.flatnonzero(tokens == np.bincount(tokens).argmax())[4::5])


def score_documents(parts, width=1 << 20):
    mixer = Mixer(vocab_size=V)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for part in parts:
            mixer.boundary()
            for window in consecutive(part, width):
                mixer.score_nll(np.full(len(window), 5.5), window)
    return [str(warning.message) for warning in caught]


def test_documents_that_come_again_are_text_but_not_all_of_them():
    parts = documents(TEXT)
    assert len(parts) > 50
    assert not score_documents(parts)
    assert not score_documents([*parts[:9], parts[3], *parts[9:20], parts[3], parts[3]])
    assert not score_documents([parts[0]] * 9)
    assert not score_documents([TEXT[:900], TEXT[2000:4000], TEXT[:900]], width=64)
    (text,) = score_documents([*parts, *parts])
    assert "come again" in text or "are again those" in text


def test_it_never_changes_a_score_and_warns_once():
    calls = estimate_loss(TEXT, 64, 12, 30)
    nats = []
    for check in (True, False):
        mixer = Mixer(vocab_size=V, check_overlaps=check)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            nats.append([mixer.score_nll(np.full(y.shape, 5.5), y) for y in calls])
        assert len(caught) == check
    np.testing.assert_array_equal(*nats)


def test_positions_say_that_targets_are_new(recwarn):
    tokens = np.concatenate([TEXT[:5000], TEXT[:5000]])
    mixer = Mixer(vocab_size=V)
    for i in range(0, len(tokens), 100):
        y = tokens[i : i + 100]
        mixer.cross_entropy(np.zeros((100, V), np.float32), y, positions=i)
    assert not recwarn


def test_a_loaded_mixer_goes_on_without_a_word(tmp_path, recwarn):
    mixer = Mixer(vocab_size=V)
    mixer.score_nll(np.full(5000, 5.5), TEXT[:5000])
    mixer.save(tmp_path / "state")
    loaded = Mixer.load(tmp_path / "state")
    for part in consecutive(TEXT[5000:9000], 128):
        loaded.score_nll(np.full(len(part), 5.5), part)
    assert not recwarn


def test_the_switch_is_a_flag():
    with pytest.raises(ValueError) as error:
        Mixer(vocab_size=5, check_overlaps="no")
    assert str(error.value) == "check_overlaps must be True or False, got 'no'; leave it out"


@pytest.mark.parametrize("name", ["logs/Apache_2k.log", "code/linux-kernel.txt", "canterbury/ptt5"])
def test_real_text_sets_nothing_off(shared, name):
    raw = np.frombuffer(shared(f"data/{name}").read_bytes()[:100_000], np.uint8)
    for cut in LOOPS.values():
        assert warning_of(raw.astype(np.int64), cut(raw.astype(np.int64))) is None
