"""The memory of logits: batches stay within it, no figure moves, what does not fit is named."""

import copy
import json
import re
import subprocess
import sys
import tracemalloc
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.config import ScoreConfig
from eval.data.document import Document, Documents
from eval.models import logits_memory as memory
from eval.models.load_model import load_model
from eval.models.wrap import wrap
from eval.scoring.score import score
from eval.tokenizers.byte_tokenizer import ByteTokenizer
from tests.toy import ToyModel

ROW = 257 * 4  # bytes of a row of the toy's logits
TEXT = b"the cat sat on the mat, the cat sat on the mat"
DATA = Documents([Document("a", TEXT), Document("b", b"on"), Document("c", TEXT[:20])])
VARYING = ("seconds", "tokens_per_second", "logits_memory", "signature")


class LastRows(ToyModel):
    """The toy, computing the logits of the last positions alone; it notes how many it computed."""

    keeps_rows = True

    def __init__(self, **options):
        super().__init__(**options)
        self.n_rows = []

    def logits(self, tokens, n_last=None):
        logits = super().logits(tokens)[:, -n_last if n_last else 0 :]
        self.n_rows.append(logits.shape[0] * logits.shape[1])
        return logits


def figures(result):
    return {key: value for key, value in asdict(result).items() if not key.startswith(VARYING)}


@settings(max_examples=15)
@given(
    st.integers(1, 16), st.integers(1, 16), st.integers(1, 9), st.integers(1, 140),
    st.sampled_from(["document", "stream"]),
)  # fmt: skip
def test_no_figure_depends_on_the_memory_of_logits(context, stride, batch, n_rows, windows):
    """The toy's rows do not depend on their batch: equal to the bit, with and without the rows."""
    options = {"context": context, "stride": min(stride, context), "order": 3, "batch": batch}
    options["causality_check"] = False  # it asks for logits of its own
    config = ScoreConfig(**options, windows=windows)
    limited = ScoreConfig(**options, windows=windows, logits_memory=n_rows * ROW + 3)
    expected = figures(score(ToyModel(), DATA, config))
    for model in (ToyModel(), LastRows()):
        result = score(model, DATA, limited)
        assert figures(result) == expected
        is_free = batch * context <= n_rows
        assert result.logits_memory == (None if is_free else n_rows * ROW + 3)
    assert max(model.n_rows) <= max(n_rows, 1)
    assert not is_free or sum(model.n_rows) <= 2 * batch * result.tokens


def test_rows_that_are_not_scored_have_no_logits():
    model = LastRows(context=64)
    score(model, DATA, ScoreConfig(context=16, stride=2, batch=1, causality_check=False))
    assert sum(model.n_rows) == len(TEXT) + 2 + 20


def test_the_peak_is_that_of_the_logits_and_little_more():
    class Wide(LastRows):
        vocab_size = 20_000

        def logits(self, tokens, n_last=None):
            return np.zeros((len(tokens), n_last or tokens.shape[1], 20_000), np.float32)

    data = Documents([Document(f"{i}", bytes(97) + bytes(range(i))) for i in range(20)])
    peaks = []
    for limit in (None, "4MiB"):
        config = ScoreConfig(
            context=128, stride=64, mixer="none", logits_memory=limit, causality_check=False
        )
        tracemalloc.start()
        score(Wide(context=128), data, config)
        peaks.append(tracemalloc.get_traced_memory()[1] / 2**20)
        tracemalloc.stop()
    assert peaks[0] > 8 * 100 * 20_000 * 4 / 2**20  # batches of 8 windows
    assert peaks[1] < 4 * 2 + 4  # the logits, a copy of one window's, and all else


def test_a_window_whose_rows_do_not_fit_is_tried_where_the_model_computes_all():
    calls = []

    class Noted(ToyModel):
        def logits(self, tokens):
            calls.append(tokens.shape)
            return super().logits(tokens)

    score(Noted(), DATA, ScoreConfig(logits_memory=5 * ROW, causality_check=False))
    assert max(calls) == (1, 16)


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        ("much", "logits_memory must be a number of bytes > 0, got 'much'; pass an int, or text "
         'such as "2GiB" (2G: the same; 2GB: by 1000)'),
        (ROW - 1, f"logits_memory must be at least the {ROW} bytes of one row of 257 logits, got "
         f"{ROW - 1}; raise it"),
    ],
)  # fmt: skip
def test_limits_that_are_refused(limit, text):
    with pytest.raises(ValueError) as error:
        score(ToyModel(), DATA, ScoreConfig(logits_memory=limit))
    assert str(error.value) == text


FAILED = [
    MemoryError(),
    MemoryError("Unable to allocate 159. GiB for an array"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 19.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't "
                 "allocate memory: you tried to allocate 159318540288 bytes."),
    RuntimeError("[enforce fail] . DefaultCPUAllocator: not enough memory: you tried 7 bytes"),
    RuntimeError("MPS backend out of memory"),
]  # fmt: skip


@pytest.mark.parametrize("failure", FAILED)
@pytest.mark.parametrize("make", [ToyModel, LastRows])
def test_an_allocation_that_fails_is_one_line_with_the_options(failure, make):
    model = make()

    def fail(tokens, n_last=None):
        raise failure

    model.logits = fail
    with pytest.raises(ValueError) as error:
        score(model, DATA, ScoreConfig(context=16, stride=4, batch=2, limit=20))
    assert str(error.value) == (
        "a forward pass must fit in memory, got 2 windows of 16 tokens, whose 32 x 257 logits take "
        "0.00 GiB beside what toy itself needs; pass a smaller --logits-memory, --batch or "
        "--context"
    )


def test_other_errors_of_a_model_stay_what_they_are():
    model = ToyModel()

    def fail(tokens):
        raise RuntimeError("shapes cannot be multiplied")

    model.logits = fail
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        score(model, DATA)


@pytest.mark.parametrize("allocate", [lambda shape: torch.empty(shape), np.empty])
def test_real_allocations_that_fail(allocate):
    def network(tokens):
        return allocate((1 << 30, 1 << 14))

    model = wrap(network, context=8, tokenizer=ByteTokenizer(256), vocab_size=257)
    with pytest.raises(ValueError, match="a forward pass must fit in memory, got 1 windows of 2 "):
        score(model, Documents([Document("a", b"on")]))


def test_the_default_is_one_gib_and_on_a_device_a_quarter(monkeypatch):
    model = ToyModel()
    monkeypatch.setattr(memory, "host_memory", lambda: 1 << 40)
    assert memory.logits_memory(None, model) == 1 << 30
    monkeypatch.setattr(memory, "host_memory", lambda: 2 << 30)
    assert memory.logits_memory(None, model) == 1 << 29
    model.device = torch.device("cuda:1")
    devices = []

    class Properties:
        total_memory = 80 << 30

    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: devices.append(device) or Properties
    )
    assert memory.logits_memory(None, model) == 20 << 30
    assert devices == ["cuda:1"]


@pytest.mark.parametrize(
    ("dtype", "size"), [(torch.bfloat16, 4), (torch.float32, 4), (torch.float64, 8)]
)
def test_a_row_is_counted_as_float32_or_wider(dtype, size):
    network = torch.nn.Embedding(257, 257, dtype=dtype)
    assert memory.bytes_a_row(wrap(network, context=8, tokenizer=None)) == 257 * size


def run_limited(gib, code, cwd):
    """Run Python code in a process that may take so much address space."""
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_AS, 2 * ({gib << 30},))\n"
    return subprocess.run(
        [sys.executable, "-c", limit + code], capture_output=True, text=True, cwd=cwd, timeout=300
    )


def test_the_memory_of_the_process_bounds_the_default(tmp_path):
    run = run_limited(
        2, "from eval.models.logits_memory import host_memory; print(host_memory())", tmp_path
    )
    assert run.stdout == f"{2 << 30}\n", run.stderr


@pytest.fixture
def qwen(tmp_path):
    """A folder with the vocabulary and positions of Qwen2.5, its rows 8 numbers wide."""
    pytest.importorskip("transformers")
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=151_936, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, intermediate_size=16, max_position_embeddings=32_768,
        bos_token_id=0, tie_word_embeddings=True, initializer_range=1.0,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(tmp_path / "qwen")
    return tmp_path


def nats_of_every_token(network, raw, bos, context, stride):
    """Sum of nats in float64, a window at a time, as anybody would write it."""
    stream = torch.tensor([bos, *raw])
    total, done = 0.0, 0
    while done < len(raw):
        stop = min(max(context, done + stride), len(raw))
        start = max(0, stop - context)
        with torch.no_grad():
            logits = network(stream[None, start:stop]).logits[0, done - start :]
        log_p = torch.log_softmax(logits, dim=1)
        total -= log_p.gather(1, stream[done + 1 : stop + 1, None]).sum().item()
        done = stop
    return total


@pytest.mark.parametrize(
    "config",
    [ScoreConfig(logits_memory="30MiB"),
     ScoreConfig(logits_memory="20MB", context=200, stride=80)],
)  # fmt: skip
def test_a_vocabulary_of_qwen_is_scored_as_in_float64(qwen, rng, config):
    model = load_model(str(qwen / "qwen"), tokenizer="bytes", device="cpu")
    raw = rng.integers(97, 123, 600, np.uint8).tobytes()
    result = score(model, Documents([Document("a", raw)]), config, tokenizer=ByteTokenizer(300))
    network = copy.deepcopy(model.network).double()
    nats = nats_of_every_token(network, raw, 300, result.context, result.stride)
    assert result.bits_model == pytest.approx(nats / np.log(2), rel=1e-6)


@pytest.mark.skipif(
    torch.version.cuda is not None, reason="the libraries of CUDA take the 5 GiB of addresses"
)
@pytest.mark.parametrize(
    "option", [pytest.param([], marks=pytest.mark.slow), ["--logits-memory", "40GiB"]]
)
def test_a_process_with_little_memory_scores_by_default(qwen, option):
    """9,000 rows of logits take 5.1 GiB: more than the process may have."""
    (qwen / "a.txt").write_bytes(b"ab" * 4500)
    arguments = ["score", "--model", "qwen", "--tokenizer", "bytes", "--bos", "300"]
    arguments += ["--data", "a.txt", "--json", "--mixer", "none", "--device", "cpu", *option]
    code = f"import sys\nfrom eval.cli import main\nsys.exit(main({arguments}))"
    run = run_limited(5, code, qwen)
    if option:
        assert run.returncode == 2
        assert re.fullmatch(
            "ngrammix: error: a forward pass must fit in memory, got 1 windows of 9,000 tokens, "
            "whose 9,000 x 151,936 logits take 5.09 GiB beside what qwen-[0-9a-f]{8} itself needs; "
            "pass a smaller --logits-memory, --batch or --context\n",
            run.stderr,
        )
    else:
        assert run.returncode == 0, run.stderr
        assert json.loads(run.stdout)["tokens"] == 9000
