"""Train the demo model from scratch on the text of the standard library (a script)."""

from __future__ import annotations

import argparse
import json
import platform
import random
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from eval.config import ScoreConfig
from eval.data.document import Document, Documents
from eval.demo.model import TOKENIZER_PATH, WEIGHTS_PATH, DemoConfig, DemoModel, load_network
from eval.demo.reference_text import reference_text
from eval.demo.training.corpus import Corpus, collect
from eval.demo.training.muon import Muon
from eval.demo.training.stdlib_text import KINDS
from eval.demo.training.tokenizer import train_tokenizer
from eval.demo.training.weights import save_weights
from eval.models.load_model import wrap_demo
from eval.scoring.score import score

# Share of each kind of text in the rows; the kinds most similar to reference prose have most.
MIX = {"docstring": 0.40, "prose": 0.05, "comment": 0.17, "source": 0.33, "test": 0.05}


def main(argv: list[str] | None = None) -> None:
    """Collect the text, train and write tokenizer and model, print the bits per byte."""
    options = _parser().parse_args(argv)
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()

    # 1. text
    corpus = collect()
    _print_corpus(corpus)
    random.Random(options.seed).shuffle(corpus.train)

    # 2. tokenizer
    config = DemoConfig()
    tokenizer = train_tokenizer(corpus.train, config.vocab_size)
    tokenizer.save(str(options.out / TOKENIZER_PATH.name))

    # 3. model
    held_out = [document.text for document in corpus.held_out]
    streams = {
        kind: token_stream(tokenizer, (d.text for d in corpus.train if d.kind == kind), config.bos)
        for kind in KINDS
    }
    print("tokens:", {kind: len(stream) for kind, stream in streams.items()}, flush=True)
    model = train(config, streams, tokenizer, held_out, options)

    # 4. file
    record = {
        "python": platform.python_version(),
        "steps": options.steps,
        "tokens": options.steps * options.rows * config.context,
        "seed": options.seed,
        "minutes": round((time.monotonic() - began) / 60, 1),
    }
    path = options.out / WEIGHTS_PATH.name
    save_weights(model, path, record)
    n_bytes = path.stat().st_size
    n_parameters = sum(p.numel() for p in model.parameters())
    print(f"{n_parameters:,} parameters in {n_bytes:,} bytes; {json.dumps(record)}")

    # 5. bits per byte, float32 and as shipped
    reference = [reference_text().decode("utf-8")]
    for name, scored in (("float32", model.eval()), ("int8", load_network(path))):
        for text_name, texts in (("held out", held_out), ("reference", reference)):
            bpb = bits_per_byte(scored, tokenizer, texts)
            print(f"{name}, {text_name}: {bpb:.4f} bits per byte", flush=True)


def _parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--steps", type=int, default=3450, help="optimizer steps (default 3450)")
    add("--rows", type=int, default=16, help="rows of 512 tokens in a step (default 16)")
    add("--seed", type=int, default=0, help="seed of the weights and the rows (default 0)")
    add("--out", type=Path, default=WEIGHTS_PATH.parent, help="folder for the two files")
    add("--threads", type=int, default=2, help="CPU threads (default 2)")
    add("--muon-rate", type=float, default=0.02, help="peak learning rate of the matrices")
    add("--adam-rate", type=float, default=0.004, help="peak learning rate of all others")
    add("--weight-decay", type=float, default=0.05, help="of the matrices (default 0.05)")
    add("--compile", action="store_true", help="fuse the model's loops; needs a C++ compiler")
    add("--score-every", type=int, default=250, help="steps between held-out scores (default 250)")
    add("--keep", type=Path, default=None, help="folder for a copy at each held-out score")
    return parser


def _print_corpus(corpus: Corpus) -> None:
    """Print one line for each part of the corpus: its documents, and bytes by kind."""
    for name, documents in (
        ("train", corpus.train),
        ("held out", corpus.held_out),
        ("dropped as copies of the reference", corpus.dropped),
    ):
        sizes: Counter[str] = Counter()
        for document in documents:
            sizes[document.kind] += len(document.text.encode("utf-8"))
        print(f"{name}: {len(documents)} documents, bytes {dict(sizes)}", flush=True)


def train(
    config: DemoConfig,
    streams: dict[str, Tensor],
    tokenizer: Tokenizer,
    held_out: list[str],
    options: argparse.Namespace,
) -> DemoModel:
    """Train a model for `options.steps` steps with Muon (matrices) and AdamW (the rest)."""
    torch.manual_seed(options.seed)
    rng = torch.Generator().manual_seed(options.seed)
    model = DemoModel(config)
    matrices = [p for p in model.blocks.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if all(p is not m for m in matrices)]
    muon = Muon(matrices, momentum=0.95, weight_decay=options.weight_decay)
    adam = torch.optim.AdamW(others, betas=(0.9, 0.98), eps=1e-10, weight_decay=0.0)

    def loss_of(rows: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(rows[:, :-1])
        targets = rows[:, 1:].flatten()
        return F.cross_entropy(logits.float().flatten(0, 1), targets, ignore_index=config.bos)

    step_loss = torch.compile(loss_of) if options.compile else loss_of
    began, running = time.monotonic(), 0.0
    for step in range(options.steps):
        loss = step_loss(draw_rows(streams, options.rows, config, rng))
        loss.backward()  # type: ignore[no-untyped-call]
        share = rate_share(step, options.steps)
        adam.param_groups[0]["lr"] = options.adam_rate * share
        adam.step()
        muon.step(options.muon_rate * share)
        model.zero_grad()

        running += 0.02 * (loss.item() - running)
        if (step + 1) % 25 == 0:
            smooth = running / (1 - 0.98 ** (step + 1))
            rate = (step + 1) * options.rows * config.context / (time.monotonic() - began)
            print(f"step {step + 1}: loss {smooth:.4f} nats, {rate:,.0f} tokens/s", flush=True)
        if (step + 1) % options.score_every == 0:
            bpb = bits_per_byte(model, tokenizer, held_out)
            print(f"step {step + 1}: held out {bpb:.4f} bits per byte", flush=True)
            if options.keep is not None:
                options.keep.mkdir(parents=True, exist_ok=True)
                save_weights(model, options.keep / WEIGHTS_PATH.name, {"steps": step + 1})
    return model


def token_stream(tokenizer: Tokenizer, texts: Iterable[str], bos: int) -> Tensor:
    """Concatenated tokens of the texts, `bos` before each: (T,) int64."""
    ids: list[int] = []
    for encoding in tokenizer.encode_batch(list(texts)):
        ids.append(bos)
        ids.extend(encoding.ids)
    return torch.tensor(ids, dtype=torch.int64)


def bits_per_byte(model: DemoModel, tokenizer: Tokenizer, texts: list[str]) -> float:
    """Bits per byte of the texts by the model alone, as `ngrammix score` computes them."""
    documents = [Document(f"text {i}", text.encode("utf-8")) for i, text in enumerate(texts)]
    wrapped = wrap_demo(model, tokenizer, "in training")
    bpb = score(wrapped, Documents(documents), ScoreConfig(mixer="none")).bpb
    assert bpb is not None  # the texts have bytes
    return bpb


def rate_share(step: int, steps: int, warm_up: int = 60, decay: float = 0.6) -> float:
    """Learning rate over its peak: linear warm-up, constant, linear decay to zero."""
    return min(1.0, (step + 1) / warm_up, (1 - step / steps) / decay)


def draw_rows(
    streams: dict[str, Tensor], n_rows: int, config: DemoConfig, rng: torch.Generator
) -> Tensor:
    """Random rows of the streams: (n_rows, context + 1) int64.

    The kind of each row is drawn with the shares of `MIX`, among the streams longer than one row
    (some systems ship no tests).
    """
    kinds = [kind for kind in streams if len(streams[kind]) > config.context + 1]
    weights = torch.tensor([MIX[kind] for kind in kinds])
    rows = []
    for drawn in torch.multinomial(weights, n_rows, replacement=True, generator=rng).tolist():
        stream = streams[kinds[drawn]]
        start = int(torch.randint(len(stream) - config.context - 1, (), generator=rng))
        rows.append(stream[start : start + config.context + 1].clone())
        if torch.rand((), generator=rng) < 0.25:
            rows[-1][0] = config.bos  # windows in the middle of a text begin with bos too
    return torch.stack(rows)


if __name__ == "__main__":
    main()
