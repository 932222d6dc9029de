"""The round trip: tokens come back from a code of the claimed size, or the scorer is found."""

import sys
from math import inf, log, log2, nan
from threading import Event
from zlib import crc32

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eval import Documents, ScoreConfig, load_model, score, wrap
from eval.auditing.codec import range_coder
from eval.auditing.codec.audit_codec import audit_codec, decode_file
from eval.auditing.codec.range_coder import (
    ENDING,
    ROUNDING,
    TOTAL,
    NotCodedError,
    TokenDecoder,
    TokenEncoder,
    bucket_size,
    bucket_table,
    integer_weights,
    token_table,
)
from eval.auditing.codec.round_trip import cost_of
from tests.toy import ToyModel

constriction = pytest.importorskip("constriction")
TEXT = (
    b"It was the best of times, it was the worst of times, it was the age of wisdom, it was the "
    b"age of foolishness, it was the epoch of belief, it was the epoch of incredulity."
)
TOKENS = np.frombuffer(TEXT, np.uint8).astype(np.int64)


def distribution(rng, vocab_size, peak):
    """Probabilities from flat to nearly certain, some of them below every integer's share."""
    logits = rng.normal(size=vocab_size) * peak
    p = np.exp(logits - logits.max())
    return p / p.sum()


@st.composite
def streams(draw):
    """Distributions (N, V) and tokens (N,), drawn from them or against them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    vocab_size = draw(st.one_of(st.integers(1, 40), st.sampled_from([256, 257, 1024, 4097])))
    n_tokens = draw(st.integers(0, 60))
    peaks = draw(st.sampled_from([0.0, 1.0, 8.0, 60.0])), draw(st.sampled_from([0.0, 300.0]))
    p = [distribution(rng, vocab_size, rng.choice(peaks)) for _ in range(n_tokens)]
    if draw(st.booleans()):
        tokens = [int(rng.choice(vocab_size, p=each)) for each in p]
    else:
        tokens = [int(rng.integers(vocab_size)) for _ in p]
    return p, [t if each[t] > 0 else int(each.argmax()) for t, each in zip(tokens, p, strict=True)]


@given(streams())
def test_any_tokens_come_back_from_a_code_of_the_size_of_their_information(stream):
    p, tokens = stream
    encoder = TokenEncoder()
    checksums = [encoder.put(token, each) for token, each in zip(tokens, p, strict=True)]
    code = encoder.code()
    decoder = TokenDecoder(code)
    assert [decoder.get(each) for each in p] == list(zip(tokens, checksums, strict=True))
    bits = -sum(log2(each[token]) for token, each in zip(tokens, p, strict=True))
    margin = max(0.001 * bits, ROUNDING * len(p))
    assert sum(map(table_bits, tokens, p)) - ENDING <= 8 * len(code) <= bits + margin + ENDING


def table_bits(token, p):
    """Information of a token by its tables."""
    bucket, place = divmod(token, bucket_size(len(p)))
    return 48 - log2(bucket_table(p)[bucket]) - log2(token_table(p, bucket)[place])


@given(streams())
def test_tables_are_integers_of_24_bits_that_no_token_loses_by(stream):
    for each, token in zip(*stream, strict=True):
        size = bucket_size(len(each))
        bucket, place = divmod(token, size)
        tables = bucket_table(each), token_table(each, bucket)
        assert sum(len(token_table(each, i)) for i in range(len(tables[0]))) == len(each)
        for table in tables:
            assert table.dtype == np.int64
            assert table.min() >= 1
            assert table.sum() == TOTAL
        coded = tables[0][bucket] * tables[1][place] / TOTAL**2
        floor = (1 - len(tables[0]) / TOTAL) * (1 - len(tables[1]) / TOTAL)
        assert coded >= each[token] * floor * (1 - 1e-6)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50))
def test_an_integer_table_sums_to_two_to_the_24(steps):
    table = integer_weights(np.cumsum(steps))
    assert (table.sum(), table.min() >= 1) == (TOTAL, True)


def own_interval(tables, indices):
    """(low, width, bits) of a range coder in whole numbers of Python, apart from the library."""
    low, width, shift = 0, (1 << 64) - 1, 0
    for table, index in zip(tables, indices, strict=True):
        scale = width >> 24
        low, width = low + scale * int(table[:index].sum()), scale * int(table[index])
        if width < 1 << 32:
            low, width, shift = low << 32, width << 32, shift + 32
    return low, width, shift + 64


@given(streams())
def test_the_library_codes_by_exactly_our_integers(stream):
    encoder, tables, indices = TokenEncoder(), [], []
    for each, token in zip(*stream, strict=True):
        encoder.put(token, each)
        bucket, place = divmod(token, bucket_size(len(each)))
        for index, table in ((bucket, bucket_table(each)), (place, token_table(each, bucket))):
            if len(table) > 1:
                tables.append(table)
                indices.append(index)
    low, width, bits = own_interval(tables, indices)
    code = encoder.code()
    assert 8 * len(code) <= bits
    assert low <= int.from_bytes(code, "big") << (bits - 8 * len(code)) < low + width


def test_tables_are_the_same_on_every_machine():
    p = (np.arange(1000) * 7919 % 1009 + 1).astype(np.float64)
    assert crc32(bucket_table(p).astype("<i8").tobytes()) == 1339765518
    assert crc32(token_table(p, 7).astype("<i8").tobytes()) == 708872417


@pytest.mark.parametrize("token", [0, 255])
def test_a_stream_of_one_token_is_as_long_as_another(token):
    report = audit_codec(tokens=np.full(4000, token), stepper=Uniform)
    assert report.conditions["code_bits"] == pytest.approx(32_000, abs=ENDING)


def test_a_code_that_no_tokens_have_is_refused():
    p = [np.array([0.25, 0.25, 0.5])] * 40
    with pytest.raises(NotCodedError, match="no entry"):
        [TokenDecoder(b"\xff" * 12).get(each) for each in p]
    with pytest.raises(NotCodedError, match="token 0 has the probability 0"):
        TokenDecoder(b"").get(np.array([0.0, 1.0]))
    decoder = TokenDecoder(b"")
    with pytest.raises(NotCodedError, match="the code ends before the token"):
        [decoder.get(each) for each in p]


def test_a_missing_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "constriction", None)
    range_coder.library.cache_clear()
    with pytest.raises(ValueError) as caught:
        audit_codec(tokens=TOKENS)
    range_coder.library.cache_clear()
    assert str(caught.value) == (
        "a round trip needs the library constriction, which is missing; "
        "pip install 'ngrammix[codec]'"
    )


class Uniform:
    """The base of planted scorers: every token is equally likely, and charged so."""

    def __init__(self, tokens=None):
        self.tokens, self.position = tokens, 0

    def probs(self):
        return np.full(256, 1 / 256)

    def commit(self, token):
        self.position += 1
        return log(256)


class Adaptive(Uniform):
    """An honest scorer: counts of the tokens before."""

    def __init__(self, tokens=None):
        super().__init__(tokens)
        self.counts = np.ones(256)

    def probs(self):
        return self.counts / self.counts.sum()

    def commit(self, token):
        self.position += 1
        nats = -log(self.counts[token] / self.counts.sum())
        self.counts[token] += 1
        return nats


class Silent(Adaptive):
    """An honest scorer that names no charge, and shows float32."""

    def probs(self):
        return super().probs().astype(np.float32)

    def commit(self, token):
        super().commit(token)


class Peeks(Adaptive):
    """Its distribution knows the next token."""

    def probs(self):
        p = super().probs()
        if self.tokens is not None and self.position < len(self.tokens):
            p[self.tokens[self.position]] += 1
        return p / p.sum()

    def commit(self, token):
        nats = -log(self.probs()[token])
        super().commit(token)
        return nats


class PeeksOnce(Peeks):
    """It looks at one token far from the start, and moves its distribution by little."""

    def probs(self):
        p = Adaptive.probs(self)
        if self.position == 100:
            p[self.tokens[self.position]] += 1e-4
        return p / p.sum()


class Unnormalised(Adaptive):
    """Its probabilities sum to 2."""

    def probs(self):
        return 2 * super().probs()

    def commit(self, token):
        nats = -log(self.probs()[token])
        super().commit(token)
        return nats


class UpdatesFirst(Adaptive):
    """It charges for the distribution after the update."""

    def commit(self, token):
        super().commit(token)
        return -log(self.probs()[token])


class Flatters(Adaptive):
    """It charges half a percent less than it shows."""

    def commit(self, token):
        return 0.995 * super().commit(token)


class Chance(Adaptive):
    """Its distributions change from run to run."""

    rng = np.random.default_rng(0)

    def probs(self):
        p = super().probs() * self.rng.uniform(0.5, 1.5, 256)
        return p / p.sum()

    def commit(self, token):
        super().commit(token)


class Leaks(Adaptive):
    """It keeps its counts from run to run."""

    kept = np.ones(256)

    def __init__(self, tokens=None):
        super().__init__(tokens)
        self.counts = self.kept


class Rounds(Adaptive):
    """An honest scorer on hardware that rounds by chance."""

    rng = np.random.default_rng(0)

    def probs(self):
        p = super().probs() * (1 + 1e-6 * self.rng.normal(size=256))
        return p / p.sum()

    def commit(self, token):
        super().commit(token)


@pytest.mark.parametrize(
    ("returned", "charged"),
    [
        (log(256), log(256)),
        (np.float32(log(256)), log(256)),
        (torch.tensor(log(256)), log(256)),
        (None, None),
        (True, None),
        ("learned", None),
        (np.zeros(3), None),
        (torch.zeros(3), None),
    ],
)
def test_commit_may_return_what_it_likes(returned, charged):
    assert cost_of(returned) == (charged if charged is None else pytest.approx(charged))
    report = audit_codec(tokens=TOKENS, stepper=lambda: Shows(charge=returned), name="x")
    assert report.verdict == "legal", report


@pytest.mark.parametrize("scorer", [Uniform, Adaptive, Silent])
def test_honest_scorers_come_back(scorer, tmp_path):
    report = audit_codec(tokens=TOKENS, stepper=scorer, keep=tmp_path / "kept")
    assert report.verdict == "legal", report
    assert [check.condition for check in report.checks] == ["C1", "C2", "C3"]
    assert all(check.tried == len(TOKENS) for check in report.checks)
    assert np.array_equal(decode_file(tmp_path / "kept", stepper=scorer), TOKENS)


@pytest.mark.parametrize(
    ("scorer", "condition", "position", "kind"),
    [
        (Peeks, "C1", 0, "future"),
        (PeeksOnce, "C1", 100, "future"),
        (Unnormalised, "C2", 0, "sum"),
        (UpdatesFirst, "C3", 0, "shown"),
        (Chance, "C4", 0, "repeat"),
        (Leaks, "C4", 0, "repeat"),
    ],
)
def test_planted_scorers_are_found(scorer, condition, position, kind):
    report = audit_codec(tokens=TOKENS, stepper=lambda tokens: scorer(tokens), name="planted")
    assert report.verdict == "guilty"
    (finding,) = report.findings
    assert (finding.condition, finding.witness.kind) == (condition, kind)
    assert finding.position == position


def test_half_a_percent_less_is_found():
    tokens = np.tile(np.random.default_rng(0).integers(0, 256, 1500), 2)
    report = audit_codec(tokens=tokens, stepper=Flatters)
    (finding,) = report.findings
    assert finding.condition == "C3"
    assert finding.message.startswith("a code must be at most 0.1% longer than what is charged")


def test_rounding_by_chance_is_no_guilt():
    report = audit_codec(tokens=TOKENS, stepper=Rounds)
    assert report.verdict == "unknown"
    (problem,) = report.problems
    assert problem.startswith("Two runs of the scorer round otherwise, so nothing can be decoded")


class Shows(Uniform):
    """It shows or charges at position 3 what it is told to."""

    def __init__(self, p=None, charge=None):
        super().__init__()
        self.p, self.charge = p, charge

    def probs(self):
        return super().probs() if self.position != 3 or self.p is None else self.p(super().probs())

    def commit(self, token):
        nats = super().commit(token)
        return nats if self.position != 4 or self.charge is None else self.charge


def put(value):
    """A function that changes the probability of token 7."""

    def change(p):
        p[7] = value
        return p

    return change


@pytest.mark.parametrize(
    ("p", "charge", "condition", "message"),
    [
        (put(nan), None, "C2", "probabilities must be in 0..1 and not all 0, got nan for token 7"),
        (put(-1), None, "C2", "probabilities must be in 0..1 and not all 0, got -1 for token 7"),
        (put(inf), None, "C2", "probabilities must be in 0..1 and not all 0, got inf for token 7"),
        (put(1.5), None, "C2", "probabilities must be in 0..1 and not all 0, got 1.5 for token 7"),
        (np.zeros_like, None, "C2", "probabilities must be in 0..1 and not all 0, got 0 for all"),
        (None, -1.0, "C2", "a charge must be at least 0 nats, got -1.0 for token 119"),
        (None, nan, "C2", "a charge must be at least 0 nats, got nan for token 119"),
        (lambda p: p * (np.arange(256) != TOKENS[3]), 5.0, "C3", "a token must be charged for the"),
    ],
)
def test_what_is_no_distribution_or_no_cost_is_found(p, charge, condition, message):
    report = audit_codec(tokens=TOKENS, stepper=lambda: Shows(p, charge), name="shows")
    (finding,) = report.findings
    assert (finding.condition, finding.position) == (condition, 3)
    assert finding.message.startswith(message)
    assert "position 3" in finding.message


def raises(p):
    raise KeyError("seven\nlines")


def ends(p):
    sys.exit(3)


@pytest.mark.parametrize(
    ("p", "problem"),
    [
        (
            lambda p: p[:200],
            "probabilities must be of 256 tokens, got 200 at position 3; return one for each token "
            "of the vocabulary",
        ),
        (
            lambda p: p[None],
            "ValueError: probabilities must be a row of numbers, got shape (1, 256) and dtype "
            "float64 at position 3",
        ),
        (
            lambda p: p * (np.arange(256) != TOKENS[3]),
            f"a token must have a probability > 0 to be coded, got 0 for token {TOKENS[3]} at "
            "position 3; give every token a small share",
        ),
        (raises, "the scorer raised KeyError: 'seven\\nlines'"),
        (ends, "the scorer raised SystemExit: 3"),
    ],
)
def test_a_scorer_that_fails_gets_no_verdict(p, problem):
    report = audit_codec(tokens=TOKENS, stepper=lambda: Shows(p, inf), name="fails")
    assert report.verdict == "unknown"
    assert report.problems == (f"While the tokens were coded, {problem}.",)


def test_a_scorer_that_fails_in_the_decoder_gets_no_verdict():
    made = []

    def factory():
        made.append(Shows(raises if made else None))
        return made[-1]

    report = audit_codec(tokens=TOKENS, stepper=factory)
    assert report.problems == (
        "While the tokens were decoded, the scorer raised KeyError: 'seven\\nlines'.",
    )


def test_a_scorer_that_hangs_gets_no_verdict():
    report = audit_codec(
        tokens=TOKENS, stepper=lambda: Shows(lambda p: Event().wait()), budget_seconds=0.1
    )
    assert report.verdict == "unknown"
    (problem,) = report.problems
    assert problem.startswith("While the tokens were coded, the scorer did not return in 1 s")


def test_tokens_beyond_the_vocabulary_get_no_verdict():
    report = audit_codec(tokens=[1, 300], stepper=Uniform)
    assert report.problems == (
        "While the tokens were coded, tokens must be below the 256 of the scorer's distribution, "
        "got 300 at position 1; pass tokens of its vocabulary.",
    )


def test_claims_of_another_run_are_held_against_the_code():
    nats = np.full(len(TOKENS), log(256))
    assert audit_codec(tokens=TOKENS, stepper=Uniform, claimed_nats=nats).verdict == "legal"
    report = audit_codec(tokens=TOKENS, stepper=Uniform, claimed_nats=0.9 * nats)
    (finding,) = report.findings
    assert (finding.condition, finding.position) == ("C3", 0)


def test_a_short_budget_codes_fewer_tokens(monkeypatch):
    now = iter(range(10**6))
    monkeypatch.setattr("eval.auditing.codec.trial.monotonic", lambda: float(next(now)))
    monkeypatch.setattr("eval.auditing.codec.round_trip.monotonic", lambda: float(next(now)))
    report = audit_codec(tokens=TOKENS, stepper=Uniform, budget_seconds=100)
    assert report.verdict == "unknown"
    assert 20 < report.checks[0].tried < 60
    assert f"of {len(TOKENS)} tokens" in report.checks[0].note
    report = audit_codec(tokens=TOKENS, stepper=Uniform, budget_seconds=1)
    assert report.problems == ("The budget of 1 s ended before a token was coded.",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokens": None}, "a round trip needs tokens or data, got neither; pass one of them"),
        ({"data": "x"}, "a round trip needs tokens or data, got both; pass one of them"),
        (
            {"n_tokens": 0},
            "n_tokens must be an integer in 1..1073741760, got 0; leave it out for the default",
        ),
        (
            {"budget_seconds": 0},
            "budget_seconds must be a number > 0, got 0; leave it out for 50",
        ),
        (
            {"model": "demo"},
            "a round trip has one scorer, got a model and a stepper; pass one of them",
        ),
        (
            {"model": len, "stepper": None},
            "a model must have logits, context and a tokenizer, got builtin_function_or_method; "
            "make one with eval.wrap(network, context=..., tokenizer=...)",
        ),
        (
            {"stepper": 3},
            "stepper must be a function, got int; pass it without calling it",
        ),
        (
            {"tokens": None, "data": "x"},
            "a stepper needs the tokens that it codes, got none; pass tokens, not data",
        ),
        (
            {"claimed_nats": [1.0]},
            f"claimed_nats must be at least {len(TOKENS)} finite numbers >= 0, one for each token, "
            "got shape (1,) and dtype float64; pass what the scorer returns, in nats",
        ),
    ],
)
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises(ValueError) as caught:
        audit_codec(**{"tokens": TOKENS, "stepper": Uniform} | options)
    assert str(caught.value) == message


class WholeWindow(ToyModel):
    """A model whose logits depend on every token of its window, and on where that begins."""

    def logits(self, tokens):
        sums = np.cumsum(1 + tokens, axis=1) % 97
        return np.cos(np.arange(self.vocab_size) * (1 + sums[..., None])).astype(np.float32)


CONFIGS = [
    ScoreConfig(),
    ScoreConfig(mixer="none"),
    ScoreConfig(mixer="gate+guard", order=3, stride=3),
    ScoreConfig(mixer="tilt+gate+switch", context=5, stride=5),
    ScoreConfig(bos="none"),
    ScoreConfig(windows="stream", memory_limit="4MiB"),
]
DOCUMENTS = [TEXT[:70], TEXT[70:71], TEXT[71:]]


@pytest.mark.parametrize("config", CONFIGS, ids=range(len(CONFIGS)))
@pytest.mark.parametrize("model", [WholeWindow(), None], ids=["model", "cache"])
def test_the_scorers_of_score_come_back_and_charge_what_score_charges(model, config, tmp_path):
    data = Documents(DOCUMENTS)
    path = tmp_path / "kept"
    report = audit_codec(model, data=data, config=config, keep=path)
    assert report.verdict == "legal", report
    result = score(model, data, config)
    assert report.conditions["claimed_bits"] == pytest.approx(result.bits, rel=1e-9)
    assert report.conditions["shown_bits"] == pytest.approx(result.bits, rel=1e-9)
    assert report.conditions["tokens"] == result.tokens
    assert [check.condition for check in report.checks] == ["C1", "C2", "C3", "C1"]
    decoded = decode_file(path, model, config=config)
    text = TEXT[1:70] + TEXT[72:] if config.bos == "none" else TEXT
    no_bos = decoded[(decoded > 0) & (decoded < 256)]
    assert bytes(no_bos.tolist()) == text


def test_the_demo_comes_back(tmp_path):
    text = "It was the best of times, it was the worst of times, it was the age of wisdom."
    path = tmp_path / "kept"
    config = ScoreConfig(context=32, stride=8)
    report = audit_codec("demo", data=Documents([text] * 2), config=config, keep=path)
    assert report.verdict == "legal", report
    assert report.subject.startswith("demo-")
    assert report.conditions["code_bits"] <= 1.001 * report.conditions["claimed_bits"] + ENDING
    tokens = decode_file(path, "demo", config=config)
    assert load_model("demo").tokenizer.decode_bytes(tokens) == 2 * text.encode()


class Hum(torch.nn.Module):
    """A small causal network."""

    def __init__(self, dtype):
        super().__init__()
        torch.manual_seed(0)
        self.embed = torch.nn.Embedding(64, 16, dtype=dtype)
        self.head = torch.nn.Linear(16, 64, dtype=dtype)

    def forward(self, tokens):
        hidden = self.embed(tokens).cumsum(1)
        return self.head(torch.tanh(hidden)) * 4


@pytest.mark.parametrize("mixer", ["tilt+gate+guard", "none"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_networks_of_every_dtype_come_back(dtype, mixer, tmp_path):
    model = wrap(Hum(dtype), context=12, tokenizer=None, name="hum")
    tokens = np.random.default_rng(0).integers(0, 64, 150)
    config = ScoreConfig(mixer=mixer)
    report = audit_codec(model, tokens, config=config, keep=tmp_path / "kept")
    assert report.verdict == "legal", report
    assert np.array_equal(decode_file(tmp_path / "kept", model, config=config), tokens[1:])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_an_honest_stepper_of_few_bits_is_not_accused(dtype):
    class Narrow(Adaptive):
        def probs(self):
            logits = torch.from_numpy(np.log(self.counts**4 + 1e-3)).to(dtype)
            return torch.softmax(logits, 0)

        def commit(self, token):
            nats = -float(np.log(float(self.probs()[token])))
            self.counts[token] += 1
            return nats

    tokens = np.tile([3, 3, 3, 4], 100)
    assert audit_codec(tokens=tokens, stepper=Narrow).verdict == "legal"


class SeesTheNext(ToyModel):
    """At every place but the last of its window the logits know the next token a little."""

    def logits(self, tokens):
        logits = super().logits(tokens)
        rows, places = np.indices(tokens[:, 1:].shape)
        logits[rows, places, tokens[:, 1:]] += self.gain
        return logits


@pytest.mark.parametrize("mixer", ["tilt+gate+guard", "none"])
@pytest.mark.parametrize("gain", [0.05, 3.0])
def test_a_model_that_sees_later_tokens_charges_less_than_its_code(gain, mixer):
    model = SeesTheNext()
    model.gain = np.float32(gain)
    tokens = np.random.default_rng(0).integers(0, 256, 300)
    (finding,) = audit_codec(model, tokens, config=ScoreConfig(mixer=mixer)).findings
    assert (finding.condition, finding.witness.kind) == ("C1", "future")
    assert "with later tokens in the window, and without them" in finding.message


class RoundsByLength(ToyModel):
    """An honest model in few bits: windows of other lengths round otherwise."""

    def logits(self, tokens):
        noise = np.random.default_rng([self.seed, *tokens.shape]).normal(size=(257,))
        return super().logits(tokens) + (0.05 * noise).astype(np.float32)


@pytest.mark.parametrize("seed", range(8))
def test_a_model_that_rounds_by_the_length_of_its_window_is_not_accused(seed):
    model = RoundsByLength()
    model.seed = seed
    tokens = np.random.default_rng(seed).integers(0, 256, 150)
    assert audit_codec(model, tokens, config=ScoreConfig(mixer="none")).verdict == "legal"


def test_wild_arguments_of_the_end_are_refused(tmp_path):
    with pytest.raises(ValueError, match="a round trip needs at least 2 tokens where no BOS is"):
        audit_codec(wrap(Hum(torch.float32), context=4, tokenizer=None), [1])
    with pytest.raises(ValueError, match="a round trip needs at least one token, got none"):
        audit_codec(ToyModel(), data=Documents([b""]))
    with pytest.raises(ValueError, match=r"tokens must be in \[0, 257\), got 900"):
        audit_codec(ToyModel(), [1, 900])
