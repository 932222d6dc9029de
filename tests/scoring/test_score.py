"""Scoring: a toy model through the whole way, against a loop that anybody can read."""

import csv
import json
import math
import tracemalloc
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.config import ScoreConfig
from eval.data.document import Document, Documents
from eval.models.load_model import load_demo
from eval.scoring.score import score, split_by_size
from eval.tokenizers.byte_tokenizer import ByteTokenizer
from ngrammix import Mixer, NgramCache
from tests.toy import ToyModel

DOCUMENTS = [Document("a", b"the cat sat on the mat, the cat sat on the mat"), Document("b", b"on")]
TIMES = ("seconds", "tokens_per_second")


def nats_of(folder, column="bits"):
    """Costs of the tokens, in nats, of tokens.csv."""
    with (folder / "tokens.csv").open(newline="", encoding="utf-8") as file:
        return np.array([float(row[column]) for row in csv.DictReader(file)]) * math.log(2)


def without_times(result):
    return {key: value for key, value in asdict(result).items() if not key.startswith(TIMES)}


def test_scoring_equals_the_plain_loop(tmp_path):
    model = ToyModel()
    result = score(
        model, Documents(DOCUMENTS), ScoreConfig(order=4, stride=5), out=tmp_path, write_tokens=True
    )
    mixer = Mixer(vocab_size=model.vocab_size, order=4)
    nats, nats_model = [], []
    for document in DOCUMENTS:
        mixer.boundary()
        inputs = np.concatenate([[256], np.frombuffer(document.raw, np.uint8)])
        for t, byte in enumerate(document.raw):
            # position t is read in the window that scores it: the first, or one of those that end
            # at 16 + 5 i
            stop = 16 if t < 16 else min(16 + 5 * math.ceil((t - 15) / 5), len(document.raw))
            start = max(0, stop - 16) if t >= 16 else 0
            logits = model.logits(inputs[None, start : t + 1])[0, -1]
            trace = mixer.trace(logits[None], [byte])
            nats.append(trace.nats[0])
            nats_model.append(trace.nats_model[0])
    np.testing.assert_allclose(nats_of(tmp_path), nats, atol=1e-6)
    np.testing.assert_allclose(nats_of(tmp_path, "bits_model"), nats_model, atol=1e-6)
    assert result.bits == pytest.approx(sum(nats) / math.log(2), rel=1e-11)
    assert result.bits_model == pytest.approx(sum(nats_model) / math.log(2), rel=1e-11)
    assert result.regret_bits == mixer.regret_bits <= result.bound_bits == 1.0
    assert result.bits_saved == pytest.approx(-result.regret_bits, abs=1e-9)


@pytest.mark.parametrize("windows", ["document", "stream"])
def test_with_everything_off_it_is_an_independent_loop_over_cross_entropy(tmp_path, windows):
    """The embedded model: no cache, no windows of the workbench, torch's own loss."""
    model, texts = (
        load_demo(),
        ["def f(x):\n    return x + 1\n" * 30, "import os\n", "print(1)\n" * 30],
    )
    documents = Documents([Document(str(i), text.encode()) for i, text in enumerate(texts)])
    config = ScoreConfig(mixer="none", stride=100, context=300, windows=windows, batch=1)
    result = score(model, documents, config, out=tmp_path, write_tokens=True)
    ids = [model.tokenizer.encode(Document("", text.encode()))[0].tolist() for text in texts]
    bos = model.tokenizer.bos
    if windows == "stream":
        ids = [[t for i in ids for t in (bos, *i)][1:]]
    nats = []
    for tokens in ids:
        stream, done = torch.tensor([[bos, *tokens]]), 0
        while done < len(tokens):
            stop = min(max(300, done + 100), len(tokens))
            start = max(0, stop - 300)
            with torch.no_grad():
                logits = model.network(stream[:, start:stop]).double()
            losses = F.cross_entropy(logits[0], stream[0, start + 1 : stop + 1], reduction="none")
            nats += losses[done - start :].tolist()
            done = stop
    np.testing.assert_allclose(nats_of(tmp_path), nats, atol=1e-6)
    n_bytes = sum(len(text) for text in texts)
    batched = score(model, documents, replace(config, batch=8))  # float32 rounds otherwise
    assert batched.bits == pytest.approx(result.bits, rel=1e-6)
    assert result.bpb == result.bpb_model
    assert result.bpb == pytest.approx(sum(nats) / math.log(2) / n_bytes, abs=1e-6)
    assert result.bpb_cache is result.regret_bits is result.order is result.bytes_copied is None


def test_the_cache_alone_is_the_cache():
    result = score(None, Documents(DOCUMENTS), ScoreConfig(order=5))
    cache, nats = NgramCache(vocab_size=256, order=5), []
    for document in DOCUMENTS:
        for t, byte in enumerate(document.raw):
            nats.append(-cache.log_prob(list(document.raw[:t]), byte))
            cache.update(list(document.raw[:t]), byte)
    assert result.bits == result.bits_cache == pytest.approx(sum(nats) / math.log(2), rel=1e-11)
    assert result.bpb == pytest.approx(sum(nats) / math.log(2) / 48, rel=1e-11)
    assert (result.bytes, result.tokens, result.documents) == (48, 48, 2)
    assert result.bpb_model is result.regret_bits is result.context is result.stride is None


@given(st.integers(1, 9), st.integers(1, 60), st.sampled_from(["document", "stream"]))
def test_figures_do_not_depend_on_the_batch_size(batch, limit, windows):
    """The toy's rows do not depend on the rows beside them: the figures are the same to the bit."""
    documents = Documents([*DOCUMENTS, *DOCUMENTS])
    results = [
        without_times(
            score(
                ToyModel(),
                documents,
                ScoreConfig(order=3, stride=4, batch=size, limit=limit, windows=windows),
            )
        )
        for size in (1, batch)
    ]
    for result in results:
        result.pop("batch")
        result["signature"] = result["signature"].partition("|conditions:")[0]
    assert results[0] == results[1]


def test_pieces_of_a_document_are_the_document():
    pieces = [Document("a", b"the cat sat on"), Document("a", b" the mat, the cat", begins=False),
              Document("a", b" sat on the mat", begins=False), Document("b", b"on")]  # fmt: skip
    results = [score(ToyModel(), Documents(parts), ScoreConfig()) for parts in (DOCUMENTS, pieces)]
    assert without_times(results[0]) == without_times(results[1])


def test_tokens_of_a_stream_include_those_that_begin_documents():
    apart = score(ToyModel(), Documents(DOCUMENTS), ScoreConfig())
    stream = score(ToyModel(), Documents(DOCUMENTS), ScoreConfig(windows="stream"))
    assert (apart.tokens, stream.tokens) == (48, 49)
    assert (apart.bytes, stream.bytes) == (48, 48)
    assert (apart.documents, stream.documents) == (2, 2)


def test_the_result_holds_every_condition():
    config = ScoreConfig(order=4, stride=5, limit=40)
    result = score(ToyModel(), Documents(DOCUMENTS), config)
    shown, _, held = result.signature.rpartition("|conditions:")
    assert shown == (
        f"BPB|data:{result.data_sha256[:16]}|bytes:40|tokens:40|model:toy|tokenizer:bytes|bos:256|"
        "windows:document|context:16|stride:5|limit:40|order:4|mixer:tilt+gate+guard|version:0.1.0"
    )
    assert len(held) == 8
    assert (result.data, result.batch, result.limit) == ("a, b", 8, 40)
    assert json.loads(result.to_json()) == asdict(result)
    assert result.table().splitlines()[-1] == f"{result.signature} = {result.bpb:.4f}"


class KilledError(Exception):
    """What stands for kill -9 where the process has to live on."""


def killer(at):
    """A callback that ends the run once `at` tokens are scored."""

    def callback(position, figures):
        if position >= at:
            raise KilledError

    return callback


@settings(max_examples=25)
@given(st.lists(st.integers(1, 110), max_size=3), st.integers(1, 40), st.sampled_from(
    [(ToyModel, "tilt+gate+guard"), (ToyModel, "gate+switch"), (ToyModel, "none"), (None, "none")]
), st.booleans())  # fmt: skip
def test_a_run_that_is_killed_ends_as_if_it_had_not_been(
    tmp_path_factory, deaths, every, chosen, has_out
):
    make, mixer = chosen
    config = ScoreConfig(order=3, stride=4, batch=2, mixer=mixer if make else ScoreConfig().mixer)
    folder = tmp_path_factory.mktemp("runs")
    outs = [folder / "straight", folder / "killed"]
    for out in outs:
        out.mkdir()

    def run(out, **options):
        documents = Documents([*DOCUMENTS, *DOCUMENTS])
        options |= {"out": out if has_out else None, "write_tokens": has_out}
        return score(make and make(), documents, config, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eval.scoring.progress.SECONDS", -1.0)
        patch.setattr("eval.scoring.windows.CACHE_WINDOW", 7)
        straight = run(outs[0])
        for at in deaths:
            options = {"checkpoint": folder / "checkpoint", "checkpoint_every": every}
            try:
                run(outs[1], callbacks=[killer(at)], **options)
            except KilledError:
                continue
        resumed = run(outs[1], checkpoint=folder / "checkpoint", checkpoint_every=every)
    assert without_times(resumed) == without_times(straight)
    if has_out:
        for name in ("tokens.csv", "documents.csv"):
            assert (outs[1] / name).read_bytes() == (outs[0] / name).read_bytes()


def test_a_resumed_run_does_not_ask_the_model_again(tmp_path):
    config, counts = ScoreConfig(stride=4, batch=1, causality_check=False), []
    for _ in range(2):
        model = ToyModel()
        score(model, Documents(DOCUMENTS), config, checkpoint=tmp_path, checkpoint_every=10)
        counts.append(model.calls)
    assert counts[0] > 5
    assert counts[1] == 0


OTHER_DATA = (
    "a run must go on with the data it began with, got other tokens, bytes or names of documents "
    "within the first 48 tokens; restore them, and the options that read them (--data, --format, "
    "--column, --split, --token-dtype, --document-end, --token-bytes, --token-bytes-per, "
    "--skip-empty, --on-bad-row), or delete the checkpoint "
    "(of {p}/checkpoint.ngrammix)"
)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"config": ScoreConfig(order=5)},
         "a run must go on with the --order it began with, got 5 where the checkpoint in {p} has "
         "7; pass --order 7, or delete the checkpoint"),
        ({"model": ToyModel(context=8)},
         "a run must go on with the --context it began with, got 8 where the checkpoint in {p} has "
         "16; pass --context 16, or delete the checkpoint"),
        ({"documents": [Document("a", b"the dog"), *DOCUMENTS[1:]]},
         OTHER_DATA),
        ({"documents": [Document("a", DOCUMENTS[0].raw[::-1]), *DOCUMENTS[1:]]},
         OTHER_DATA),
        ({"documents": [Document("c", DOCUMENTS[0].raw), *DOCUMENTS[1:]]},
         "a run must go on with the --data it began with, got 'c, b' where the checkpoint in {p} "
         "has 'a, b'; pass the same --data, --format, --column, --split, --token-dtype, "
         "--document-end, --token-bytes, --token-bytes-per, --skip-empty, --on-bad-row, or delete "
         "the checkpoint"),
        ({"out": True},
         "a run must go on with the --out it began with, got {p}; pass the same, or delete "
         "the checkpoint"),
    ],
)  # fmt: skip
def test_a_run_goes_on_only_with_what_it_began_with(tmp_path, change, text):
    def run(model=None, documents=DOCUMENTS, config=None, out=None):
        score(
            model or ToyModel(),
            Documents(documents),
            config or ScoreConfig(),
            out=tmp_path if out else None,
            checkpoint=tmp_path,
            checkpoint_every=10,
        )

    run()
    with pytest.raises(ValueError) as error:
        run(**change)
    assert str(error.value) == text.format(p=tmp_path)


def test_a_damaged_checkpoint_is_refused(tmp_path):
    path = tmp_path / "checkpoint.ngrammix"
    score(ToyModel(), Documents(DOCUMENTS), checkpoint=tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:100] + b"!" + whole[101:])
    with pytest.raises(ValueError) as error:
        score(ToyModel(), Documents(DOCUMENTS), checkpoint=tmp_path)
    assert str(error.value).startswith(f"{path} is damaged: ")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError) as error:
        score(ToyModel(), Documents(DOCUMENTS), checkpoint=tmp_path / "file")
    assert str(error.value) == (
        f"--checkpoint must be a folder, got the file {tmp_path / 'file'}; choose another name"
    )


@pytest.mark.parametrize(
    ("model", "config", "text"),
    [
        (ToyModel(), ScoreConfig(context=17),
         "context must be at most the 16 tokens that toy reads, got 17; leave it out for all of "
         "them"),
        (ToyModel(), ScoreConfig(context=8, stride=9),
         "stride must be in 1..8 (the context), got 9; a longer one would skip tokens"),
        (ToyModel(tokenizer=ByteTokenizer(300)), ScoreConfig(),
         "tokenizer must have at most the 257 tokens of the model, got 301 in bytes; name the "
         "tokenizer that the model was trained with"),
        (ToyModel(tokenizer=ByteTokenizer()), ScoreConfig(),
         "a document must begin with a token that is not scored, but the tokenizer bytes has no "
         "BOS token; give its id with --bos, or pass --bos none: the first token of each document "
         "is then context only"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(model, config, text):
    with pytest.raises(ValueError) as error:
        score(model, Documents(DOCUMENTS), config)
    assert str(error.value) == text


def test_a_model_that_is_no_number_is_refused_by_its_position():
    class Broken(ToyModel):
        def logits(self, tokens):
            logits = super().logits(tokens)
            logits[tokens == ord("m")] = np.nan
            return logits

    with pytest.raises(ValueError) as error:
        score(Broken(), Documents(DOCUMENTS), ScoreConfig(batch=1))
    assert str(error.value) == (
        "logits must be numbers below +inf, got nan at position 20; "
        "look for an overflow in the model, or compute the logits in float32 (the model is toy)"
    )


def test_memory_does_not_grow_with_the_data(tmp_path):
    """Ten times the documents, the cache held to a limit: the peak is the same."""

    class Endless:
        name, size = "endless", None

        def __init__(self, n):
            self.n = n

        def __iter__(self):
            rng = np.random.default_rng(0)
            for i in range(self.n):
                yield Document(f"{i}", rng.integers(0, 256, 400, np.uint8).tobytes())

    peaks = []
    for n in (10, 100):
        config = ScoreConfig(order=2, memory_limit="4 MiB", batch=4)
        tracemalloc.start()
        score(
            ToyModel(), Endless(n), config, out=tmp_path, write_tokens=True, overwrite=True,
            checkpoint=tmp_path, checkpoint_every=5000,
        )  # fmt: skip
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        (tmp_path / "checkpoint.ngrammix").unlink()
    assert peaks[1] < peaks[0] + (1 << 20)


@given(st.lists(st.integers(1, 9)), st.integers(1, 20))
def test_parts_between_checkpoints_are_the_same_items_in_large_enough_parts(sizes, least):
    runs = [list(run) for run in split_by_size(sizes, lambda size: size, least)]
    assert [size for run in runs for size in run] == sizes
    assert all(sum(run) >= least for run in runs[:-1])
    assert all(sum(run[:-1]) < least for run in runs)
