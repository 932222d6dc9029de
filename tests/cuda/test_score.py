"""A model on a GPU through the workbench: scored, described, resumed, refused."""

from dataclasses import asdict

import numpy as np
import pytest
import torch

import eval as workbench
from eval.cli import main
from eval.config import ScoreConfig
from eval.data.document import Document, Documents
from eval.models.device import find_devices
from eval.models.load_model import load_model
from eval.models.logits_memory import last_logits, logits_memory
from eval.scoring.score import score
from tests.cuda.networks import byte_model, changed, needs_gpu

pytestmark = needs_gpu
TEXT = b"the cat sat on the mat, and the dog sat on the log; " * 40
DATA = Documents([Document("a", TEXT), Document("b", TEXT[7:400])])
CONFIG = ScoreConfig(context=64, stride=32, batch=4)


def test_a_gpu_scores_what_the_host_scores():
    on_host, on_gpu = (score(byte_model(device=where), DATA, CONFIG) for where in ("cpu", "cuda"))
    for name in ("bpb", "bpb_model", "regret_bits"):
        assert getattr(on_gpu, name) == pytest.approx(getattr(on_host, name), rel=2e-4)
    assert (on_gpu.device, on_host.device) == ("cuda", "cpu")
    assert on_gpu.hardware == torch.cuda.get_device_name()
    assert on_gpu.torch_threads is None
    assert "backends.cuda.matmul.allow_tf32 False" in on_gpu.torch_settings
    assert on_gpu.signature != on_host.signature


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_weights_pass_the_probe_of_causality(dtype):
    result = score(byte_model(dtype), DATA, CONFIG)
    assert result.dtype == str(dtype).removeprefix("torch.")
    assert np.isfinite(result.bpb)


def test_two_runs_give_the_same_figures():
    results = [asdict(score(byte_model(), DATA, CONFIG)) for _ in range(2)]
    for result in results:
        for key in [key for key in result if key.startswith(("seconds", "tokens_per_second"))]:
            del result[key]
    assert results[0] == results[1]


def test_a_model_that_sees_the_future_is_refused():
    def leak(logits, tokens):
        following = tokens[:, 1:, None]
        logits[:, :-1].scatter_add_(2, following, torch.full_like(following, 3, dtype=logits.dtype))

    with pytest.raises(ValueError, match="must predict each token from the tokens before it"):
        score(changed(byte_model(), leak), DATA, CONFIG)


def test_the_demo_runs_on_the_gpu_by_each_of_its_names():
    assert find_devices()[:2] == ["cpu", "cuda:0"]
    for name in ("cuda", "gpu", "0", 0, "cuda:0", torch.device("cuda")):
        model = load_model("demo", device=name)
        assert next(model.network.parameters()).device.type == "cuda"
    alone = score(model, DATA, ScoreConfig(batch=2)).bpb_model
    assert alone == pytest.approx(score(load_model("demo"), DATA, ScoreConfig(batch=2)).bpb_model,
                                  rel=1e-4)  # fmt: skip
    with pytest.raises(ValueError) as error:
        load_model("demo", device="cuda:99")
    assert "torch can use here (cpu, cuda:0" in str(error.value)


def test_logits_that_do_not_fit_name_the_options():
    model = byte_model(vocab_size=20_000_000, width=4, context=4096, layers=1)
    tokens = np.zeros((64, 4096), np.int64)
    with pytest.raises(ValueError) as error:
        last_logits(model, tokens, 4096)
    assert "pass a smaller --logits-memory, --batch or --context" in str(error.value)
    torch.cuda.empty_cache()


def test_a_quarter_of_the_gpu_is_for_logits():
    total = torch.cuda.get_device_properties(0).total_memory
    assert logits_memory(None, byte_model()) == total // 4


def test_the_command_line_scores_and_resumes_on_the_gpu(tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_bytes(TEXT)
    command = ["score", "--model", "demo", "--data", str(text), "--device", "cuda", "--json",
               "--checkpoint", str(tmp_path / "checkpoint")]  # fmt: skip
    for _ in range(2):
        capsys.readouterr()
        assert main(command) == 0, capsys.readouterr().err
    assert '"device": "cuda"' in capsys.readouterr().out


def test_an_honest_model_on_the_gpu_is_legal_and_a_leak_is_found():
    report = workbench.audit_model(byte_model(), budget_seconds=20)
    assert report.verdict == "legal", report
    report = workbench.audit_model(byte_model(torch.bfloat16), budget_seconds=20)
    assert report.verdict == "legal", report

    def leak(logits, tokens):
        if tokens.shape[1] > 31:
            logits[:, 30] += 0.5 * logits[:, 31]

    report = workbench.audit_model(changed(byte_model(), leak), budget_seconds=20)
    assert report.verdict == "guilty", report
