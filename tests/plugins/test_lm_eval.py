"""The harness with a mixed model: its own number without the cache, ours with it."""

import importlib
import json
import logging
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from eval.config import ScoreConfig
from eval.data.document import Document, Documents
from eval.models.load_model import load_model
from eval.scoring.score import score
from ngrammix.mixer import Mixer
from tests.models.tiny import rename_weights, save_llama

transformers = pytest.importorskip("transformers")

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {"device": "cpu", "max_length": 64}


@pytest.fixture(scope="module")
def plugin():
    pytest.importorskip("lm_eval")
    pytest.importorskip("accelerate")  # the harness's Hugging Face models need it
    return importlib.import_module("eval.plugins.lm_eval")


@pytest.fixture
def folder(shared):
    return str(shared("models/llama-sp1024-1m4"))


@pytest.fixture
def texts(shared):
    """Two documents of several windows, one of a few tokens, an empty one, and the first again."""
    lines = shared("data/logs/OpenStack_2k.log").read_text().splitlines(keepends=True)
    return ["".join(lines[:3]), "".join(lines[3:5]), "a word", "", "".join(lines[:3])]


def requests_of(texts, task="t", repeats=1):
    return [SimpleNamespace(args=(text,), task_name=task, repeats=repeats) for text in texts]


def task_of(texts, name="local"):
    """A task of the harness over texts that are here already."""
    from datasets import Dataset

    return {
        "task": name,
        "custom_dataset": lambda **_: {"test": Dataset.from_dict({"page": texts})},
        "test_split": "test",
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{page}}",
        "metric_list": [{"metric": "bits_per_byte"}, {"metric": "byte_perplexity"}],
    }


def evaluate(model, tasks, **arguments):
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    results = simple_evaluate(
        model=model, tasks=tasks, task_manager=TaskManager(include_defaults=False),
        bootstrap_iters=0, **arguments,
    )  # fmt: skip
    return {name: row["bits_per_byte,none"] for name, row in results["results"].items()}


def plain_loop(lm, texts, mixer):
    """(nats, nats of the model alone) of each text: windows cut by hand, one forward pass each."""
    totals = []
    for text in texts:
        mixer.boundary()
        nats = nats_model = 0.0
        tokens = lm.tokenizer.encode(text)
        stream = [lm.tokenizer.bos_token_id, *tokens]
        n = lm.max_length
        for start in range(0, len(tokens), n):
            stop = min(start + n, len(tokens))
            inputs = stream[max(0, stop - n) : stop]  # as much context as fits
            with torch.no_grad():
                logits = lm.model(torch.tensor([inputs])).logits[0]
            trace = mixer.trace(logits[start - stop :], tokens[start:stop])
            nats += trace.nats.sum()
            nats_model += trace.nats_model.sum()
        totals.append((nats, nats_model))
    return np.array(totals)


def test_the_cache_off_gives_the_harness_its_own_number(plugin, folder, texts):
    from lm_eval.models.huggingface import HFLM

    requests = requests_of(texts)
    own = HFLM(folder, batch_size=2, **SETTINGS).loglikelihood_rolling(requests)
    off = plugin.MixedLM(folder, cache=False, batch_size=2, **SETTINGS)
    assert off.loglikelihood_rolling(requests) == own
    assert off.regret_bits is off.bound_bits is None


def test_the_cache_on_gives_what_a_plain_loop_gives(plugin, folder, texts):
    lm = plugin.MixedLM(folder, order=5, **SETTINGS)
    mixer = Mixer(vocab_size=1024, order=5)
    nats, nats_model = plain_loop(lm, texts, mixer).T
    totals = lm.loglikelihood_rolling(requests_of(texts))
    assert all(type(total) is float for total in totals)
    np.testing.assert_allclose(totals, -nats, rtol=1e-9)
    np.testing.assert_allclose(lm.regret_bits, mixer.regret_bits, rtol=1e-9)
    assert lm.bound_bits == 1
    assert nats[4] < 0.1 * nats[0]  # the first document again, known by now
    off = plugin.MixedLM(folder, cache=False, **SETTINGS).loglikelihood_rolling(requests_of(texts))
    np.testing.assert_allclose(off, -nats_model, rtol=1e-5)  # the model's part is the harness's


def test_windows_go_together_as_far_as_their_logits_fit(plugin, folder, texts, monkeypatch):
    lm = plugin.MixedLM(folder, order=5, batch_size=4, causality_check=False, **SETTINGS)
    forward, sizes, totals = lm._logits, [], []
    monkeypatch.setattr(lm, "_logits", lambda rows: sizes.append(len(rows)) or forward(rows))
    for limit in (1 << 30, 2 * 64 * 1024 * 4 + 1, 1):
        monkeypatch.setattr(plugin, "logits_memory", lambda option, model, limit=limit: limit)
        sizes.clear()
        totals.append(lm.loglikelihood_rolling(requests_of(texts)))
        assert max(sizes) == min(4, max(1, limit // (64 * 1024 * 4)))
    np.testing.assert_allclose(totals[0], totals[1], rtol=1e-6)
    np.testing.assert_allclose(totals[0], totals[2], rtol=1e-6)


def test_a_pass_without_the_memory_is_one_line(plugin, folder, monkeypatch):
    lm = plugin.MixedLM(folder, **SETTINGS)

    def fail(*arguments):
        raise MemoryError

    monkeypatch.setattr(lm, "_model_call", fail)
    with pytest.raises(ValueError) as error:
        lm._logits([[1, 2], [3]])
    assert str(error.value) == (
        "a forward pass must fit in memory, got 2 windows of 2 tokens and their logits; pass a "
        "smaller max_length or batch_size"
    )


def test_the_cache_on_gives_the_bits_per_byte_of_score(plugin, folder, texts):
    """Windows without overlap, as the harness cuts them, are a stride of the whole context."""
    model = load_model(folder, context=64, device="cpu")
    texts = [text for text in texts if text]
    documents = Documents([Document(str(i), text.encode()) for i, text in enumerate(texts)])
    result = score(model, documents, ScoreConfig(stride=64))
    lm = plugin.MixedLM(folder, **SETTINGS)
    nats = -sum(lm.loglikelihood_rolling(requests_of(texts)))
    assert nats / math.log(2) / result.bytes == pytest.approx(result.bpb, rel=1e-5)
    assert result.bpb < 0.9 * result.bpb_model


def test_the_batch_size_changes_nothing(plugin, folder, texts):
    alone = plugin.MixedLM(folder, batch_size=1, **SETTINGS)
    many = plugin.MixedLM(folder, batch_size=4, **SETTINGS)
    requests = requests_of(texts)
    np.testing.assert_allclose(
        alone.loglikelihood_rolling(requests), many.loglikelihood_rolling(requests), rtol=1e-5
    )


def test_each_task_and_each_call_begin_with_an_empty_cache(plugin, folder, texts):
    lm = plugin.MixedLM(folder, **SETTINGS)
    both = lm.loglikelihood_rolling(requests_of(texts, "a") + requests_of(texts, "b"))
    assert lm.bound_bits == 2
    regret_bits = lm.regret_bits
    assert both[:5] == both[5:] == lm.loglikelihood_rolling(requests_of(texts))
    assert lm.regret_bits == regret_bits / 2


def test_simple_evaluate_takes_an_instance_and_a_name(plugin, folder, texts):
    texts = [text for text in texts if text]  # the harness divides by the bytes of each
    n_bytes = sum(len(text.encode()) for text in texts)
    lm = plugin.MixedLM(folder, **SETTINGS)
    bits = plain_loop(lm, texts, Mixer(vocab_size=1024)).sum(axis=0) / math.log(2) / n_bytes
    mixed, model = bits
    assert evaluate(lm, [task_of(texts)]) == {"local": pytest.approx(mixed, rel=1e-9)}
    arguments = f"pretrained={folder},max_length=64,cache=False"
    off = evaluate("ngrammix", [task_of(texts)], model_args=arguments, device="cpu")
    assert off == {"local": pytest.approx(model, rel=1e-5)}
    own = evaluate("hf", [task_of(texts)], device="cpu",
                   model_args=f"pretrained={folder},max_length=64")  # fmt: skip
    assert off == own
    assert mixed < 0.6 * model


def test_the_harness_writes_down_what_moves_a_score(plugin, folder, monkeypatch):
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", no_network)
    infos = [
        plugin.MixedLM(folder, **options, **SETTINGS).get_model_info()["ngrammix"]
        for options in ({"order": 5}, {"order": 6}, {"order": 5, "dtype": "float64"})
    ]
    assert [info["order"] for info in infos] == [5, 6, 5]
    assert [info["dtype"] for info in infos] == ["float32", "float32", "float64"]
    assert infos[0] | {"order": 6} == infos[1]
    assert infos[0]["model"] != infos[2]["model"]
    assert {"cache", "memory_limit", "experts", "causality_check", "device", "versions"} <= {
        *infos[0]
    }
    assert json.loads(json.dumps(infos)) == infos


def no_network(*arguments, **options):
    raise OSError("no network")


def test_other_requests_are_the_models_own(plugin, folder):
    from lm_eval.models.huggingface import HFLM

    requests = [SimpleNamespace(args=("the cat sat on", word)) for word in (" the mat", " a hat")]
    lm = plugin.MixedLM(folder, **SETTINGS)
    own = HFLM(folder, **SETTINGS).loglikelihood(requests, disable_tqdm=True)
    assert lm.loglikelihood(requests, disable_tqdm=True) == own
    assert lm.regret_bits is None


def test_the_log_says_that_documents_are_one_stream(plugin, folder, texts, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("lm_eval"), "propagate", True)
    lm = plugin.MixedLM(folder, **SETTINGS)
    with caplog.at_level(logging.INFO, logger="lm_eval"):
        lm.loglikelihood_rolling(requests_of(texts), disable_tqdm=True)
    said = [record.getMessage() for record in caplog.records if record.name == "lm_eval.ngrammix"]
    assert said == [
        "t: the documents in their order are one stream for the cache; "
        f"regret_bits {lm.regret_bits:.3f}, bound_bits 1.000"
    ]


def test_a_database_of_answers_is_refused(plugin, folder):
    from lm_eval.api.model import CacheHook

    with pytest.raises(ValueError) as error:
        plugin.MixedLM(folder, **SETTINGS).set_cache_hook(CacheHook(None))
    assert str(error.value) == (
        "use_cache must be off for a mixed score, got a database; the score of a document depends "
        "on the documents before it: leave use_cache out, or pass cache=False"
    )
    hook = CacheHook(None)
    off = plugin.MixedLM(folder, cache=False, **SETTINGS)
    off.set_cache_hook(hook)
    assert off.cache_hook is hook


def test_a_repeated_request_is_refused(plugin, folder):
    with pytest.raises(ValueError) as error:
        plugin.MixedLM(folder, **SETTINGS).loglikelihood_rolling(requests_of(["a"], "t", 2))
    assert str(error.value) == (
        "a mixed score needs repeats 1, got 2 in task t; "
        "the cache would know the text the second time"
    )


def test_more_than_one_process_is_refused(plugin, folder, monkeypatch):
    monkeypatch.setattr(plugin.MixedLM, "world_size", 2)
    with pytest.raises(ValueError) as error:
        plugin.MixedLM(folder, **SETTINGS)
    assert str(error.value) == (
        "a mixed score needs one process, got world_size 2; the cache must see the whole stream: "
        "start one process, or pass cache=False"
    )
    plugin.MixedLM(folder, cache=False, **SETTINGS)


def test_a_model_with_an_encoder_is_refused(plugin, monkeypatch):
    def load(self, pretrained):
        self._world_size, self.backend = 1, "seq2seq"

    monkeypatch.setattr(plugin.HFLM, "__init__", load)
    plugin.MixedLM("t5", cache=False)
    with pytest.raises(ValueError) as error:
        plugin.MixedLM("t5")
    assert str(error.value) == (
        "a mixed score needs a causal model, got backend seq2seq; pass cache=False"
    )


@pytest.mark.parametrize("cache", [False, True])
def test_weights_that_are_missing_are_refused(plugin, tmp_path, cache):
    save_llama(tmp_path)
    rename_weights(tmp_path, lambda name: None if name == "lm_head.weight" else name)
    with pytest.raises(ValueError) as error:
        plugin.MixedLM(str(tmp_path), cache=cache, **SETTINGS)
    assert str(error.value) == (
        "the weights must be those that config.json describes, got 1 missing (lm_head.weight) in "
        f"{tmp_path}; transformers would take random numbers instead: save the whole model with "
        "save_pretrained"
    )


def test_names_of_wrappers_are_read_as_those_below(plugin, tmp_path):
    network = save_llama(tmp_path)
    rename_weights(tmp_path, lambda name: f"_orig_mod.{name}")
    with pytest.warns(UserWarning, match="names of a wrapper"):
        lm = plugin.MixedLM(str(tmp_path), **SETTINGS)
    assert torch.equal(lm.model.lm_head.weight, network.lm_head.weight)
    assert lm.AUTO_MODEL_CLASS is transformers.AutoModelForCausalLM


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"cache": "off"}, "cache must be True or False, got 'off'; leave it out for True"),
        (
            {"order": 65},
            "order must be in 1..64, got 65; "
            "it is the length of the longest n-gram, the predicted token included",
        ),
        (
            {"experts": "none"},
            "experts must name tilt, gate, and guard or switch, in this order, got 'none'; "
            'leave it out for "tilt+gate+guard"',
        ),
    ],
)
def test_bad_settings_are_refused_before_a_model_is_loaded(plugin, arguments, text):
    with pytest.raises(ValueError) as error:
        plugin.MixedLM("no such folder", **arguments)
    assert str(error.value) == text


@pytest.mark.parametrize("missing", ["lm_eval", "accelerate"])
def test_a_missing_harness_is_named(missing):
    """In another process: an import that failed half-way would stay so in this one."""
    program = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "try:\n    import eval.plugins.lm_eval\nexcept ValueError as error:\n    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == (
        f"the lm-eval plugin needs {missing}, which is missing; pip install 'ngrammix[lm-eval]'\n"
    )


@pytest.mark.slow
def test_the_harness_command_line_knows_the_model(plugin, folder, tmp_path):
    (tmp_path / "pages.jsonl").write_text('{"page": "one two three one two three one two three"}\n')
    (tmp_path / "local.yaml").write_text(
        "task: local\ndataset_path: json\ndataset_kwargs:\n  data_files:\n"
        f"    test: {tmp_path / 'pages.jsonl'}\n"
        "test_split: test\noutput_type: loglikelihood_rolling\n"
        'doc_to_text: ""\ndoc_to_target: "{{page}}"\nmetric_list:\n  - metric: bits_per_byte\n'
    )
    done = subprocess.run(
        [sys.executable, "-m", "eval.plugins.lm_eval", "run", "--model", "ngrammix",
         "--model_args", f"pretrained={folder},order=4", "--device", "cpu",
         "--include_path", str(tmp_path), "--tasks", "local"],
        cwd=ROOT, capture_output=True, text=True,
        env={"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "PATH": "", **python_path()},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "bits_per_byte" in done.stdout
    assert "one stream for the cache" in done.stderr


def python_path():
    return {"PYTHONPATH": ":".join(path for path in sys.path if path)}
