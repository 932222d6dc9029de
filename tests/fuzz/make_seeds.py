"""Make the seeds of the readers from nothing: python -m tests.fuzz.make_seeds."""

import base64
import bz2
import gzip
import io
import json
import lzma
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz.reader import CUT, unsigned_snapshot
from tests.fuzz.registry import SEEDS

ROWS = b'{"text": "one"}\n{"text": "two\\n", "x": [1, null]}\n{"text": "\\u00e9"}\n'
RECIPE = b"""name = "mine"
sequential = true
[[overrides]]
names = "lm_head"
role = "every"
use = "keep"
[[rules]]
names = "*.experts.*"
use = {kind = "gptq", damp = 0.05, inner = {kind = "scalar", bits = 4, clip = "sd:12.85"}}
[[rules]]
use = "int8"
"""
Made = dict[str, dict[str, bytes]]


def snapshots(folder: Path) -> Made:
    """Caches, a mixer and a match model, small."""
    from ngrammix import MatchModel, Mixer, NgramCache

    tokens = [0, 1, 2, 0, 1, 3, 0, 1, 2]
    cache, limited = (NgramCache(vocab_size=4, order=3, memory_limit=m) for m in (None, "1MiB"))
    # With a limit its hints have few slots, and a file is read ten times as fast.
    mixer = Mixer(vocab_size=4, order=2, experts="gate+guard", memory_limit="4MiB")
    match = MatchModel(vocab_size=4, min_length=2, table_bits=4, window=2048)
    cache.learn(tokens)
    limited.learn(tokens)
    mixer.score(np.zeros((9, 4)), tokens)
    match.observe(tokens * 3)
    made = {}
    for name, one in (("cache", cache), ("limited", limited), ("mixer", mixer), ("match", match)):
        one.save(folder / name)
        made[name] = (folder / name).read_bytes()
    inputs = {name: unsigned_snapshot(file) for name, file in made.items()}
    return {
        "snapshot": {"match": made["match"]},
        "cache": {"cache": inputs["cache"], "limited": inputs["limited"]},
        "mixer": {"mixer": inputs["mixer"]},
        "match-model": {"match": inputs["match"]},
        "size": {t: t.encode() for t in ("1000", "2GiB", "1.5M", "2 GB", "-1", "1e3", "7kib")},
    }


def quantized(folder: Path) -> Made:
    """Quantized files of every kind, containers of every codec, codes, recipes and their files."""
    from quant.io.container import compress
    from quant.io.file import read_content, save
    from quant.models.named_recipes import RECIPES
    from quant.quantizers.lloyd_max import LloydMaxConfig
    from quant.quantizers.product import ProductConfig
    from quant.quantizers.residual import ResidualConfig
    from quant.quantizers.scalar import ScalarConfig

    weight = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)
    configs: dict[str, Any] = {
        "scalar": ScalarConfig(bits=6),
        "affine": ScalarConfig(bits=3, symmetric=False, per="group", group_size=4),
        "lloyd-max": LloydMaxConfig(k=5),
        "product": ProductConfig(dim=2, k=4),
        "residual": ResidualConfig(stages=(ProductConfig(dim=4, k=2), ProductConfig(dim=4, k=2))),
    }
    files = {}
    for name, config in configs.items():
        save(folder / name, {"a": config.encode(weight), "b": weight[0]}, packed=name == "affine")
        files[name] = readable(read_content(folder / name, 1 << 20))
    tied = np.frombuffer(b'{"c": "a"}', np.uint8)
    save(folder / "tied", {"a": configs["scalar"].encode(weight), "__aliases__": tied})
    text = b"one two one two " * 20
    codecs = ("none", "zstd", "brotli", "lzma")
    return {
        "quantized-file": files,
        "quantized-model": {"tied": readable(read_content(folder / "tied", 1 << 20))},
        "container": {codec: compress(text, codec, itemsize=4)[:-16] for codec in codecs},
        "packed-codes": {"5": b"\5\6" + bytes(8) + b"\xff\xff\xff\x3f", "8": b"\x08\2" + bytes(10)},
        "recipe": {
            name: json.dumps(RECIPES[name].to_json()).encode()
            for name in ("int4-group", "gptq-int6+int8-embed", "residual", "nf4")
        }
        | {"name": b"nf4"},
        "recipe-file": {"mine": RECIPE, "json": json.dumps(RECIPES["residual"].to_json()).encode()},
    }


def readable(raw: bytes) -> bytes:
    """The content of a quantized file as an input: JSON, its records as values, then the arrays."""
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    header["__metadata__"] = {k: json.loads(v) for k, v in header["__metadata__"].items()}
    return json.dumps(header).encode() + CUT + raw[8 + size :]


def tables() -> Made:
    """Texts and tables in every format, and compressed ones."""
    import pyarrow as pa
    import zstandard
    from pyarrow import feather, ipc, parquet

    texts = ["one", "two\n", "", None, "\u00e9" * 20]
    kinds = {
        "string": pa.array(texts),
        "large": pa.array(texts, pa.large_string()),
        "view": pa.array(texts, pa.string_view()),
        "dictionary": pa.array(texts).dictionary_encode(),
    }
    columns = {name: pa.table({"text": column, "n": range(5)}) for name, column in kinds.items()}
    nested = pa.table({"text": pa.array([{"a": "one"}, None])})
    made: Made = {"parquet": {}, "arrow": {}}
    for name, one in columns.items():
        for codec in ("none", "zstd") if name == "string" else ("none",):
            file = io.BytesIO()
            if name != "view":
                parquet.write_table(one, file, compression=codec, write_page_checksum=True)
                made["parquet"][f"{name}-{codec}"] = file.getvalue()
            file = io.BytesIO()
            options = ipc.IpcWriteOptions(compression=None if codec == "none" else codec)
            with ipc.new_stream(file, one.schema, options=options) as writer:
                writer.write_table(one)
            made["arrow"][f"{name}-{codec}"] = file.getvalue()
    for name, write in (("file", feather.write_feather),):
        file = io.BytesIO()
        write(columns["string"], file, compression="lz4")
        made["arrow"][name] = file.getvalue()
    file = io.BytesIO()
    parquet.write_table(nested, file)
    made["parquet"]["nested"] = file.getvalue()
    csv = b'id,text\r\n1,one\r\n2,"two\r\n""x"""\r\n'
    array = b'[{"text": "one"}, {"text": null},\n {"text": "two"}]'
    lz4 = pa.BufferOutputStream()
    with pa.CompressedOutputStream(lz4, "lz4") as stream:
        stream.write(ROWS)
    text = {"text": b"one\ntwo \xff\n", "utf-8": "\ufeff\u4f60\u597d".encode()}
    card = b"---\nconfigs:\n- config_name: x\n  data_files:\n  - split: train\n    path: %b\n---\n"
    return made | {
        "data-card": {"one": card % b"train.jsonl", "pattern": card % b'"*.jsonl"'},
        "text": text,
        "bytes": text,
        "any": text | {"rows": ROWS, "array": array},
        "jsonl": {"rows": ROWS},
        "json": {"array": array, "rows": ROWS},
        "csv": {"csv": csv},
        "tsv": {"tsv": csv.replace(b",", b"\t")},
        "gzip": {"rows": gzip.compress(ROWS, mtime=0)},
        "zstd": {"rows": zstandard.compress(ROWS)},
        "xz": {"rows": lzma.compress(ROWS)},
        "bzip2": {"rows": bz2.compress(ROWS)},
        "lz4": {"rows": lz4.getvalue().to_pybytes()},
    }


def token_files() -> Made:
    """Token files, files of the bytes of tokens, logits, and names of splits."""
    ids = np.array([0, 5, 999, 0, 7], np.uint16)
    header = np.zeros(256, "<i4")
    header[:3] = 20240520, 1, len(ids)
    arrays = {"u2": ids, "big": ids.astype(">i4"), "i8": ids.astype(np.int64)}
    floats = {k: np.ones((3, 4), k) for k in ("float16", "float32", ">f8")}
    splits = ("train", "train[:10]", "train[10%:20%]+test", "test[-3:]", "train[5:](pct1_dropped)")
    return {
        "npy": {name: npy(array) for name, array in arrays.items()},
        "bin": {"shard": header.tobytes() + ids.tobytes()},
        "plain-ids": {"ids": ids.tobytes()},
        "side-car": {"table": b"\x00" + npy(np.ones(60, int)), "tokens": b"\xff" + bytes(120)},
        "logits": {name.strip(">"): npy(array) for name, array in floats.items()},
        "split": {str(i): split.encode() for i, split in enumerate(splits)},
    }


def npy(array: np.ndarray) -> bytes:
    """The array as a file of NumPy."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def saved_data_set(folder: Path) -> Made:
    """What ``save_to_disk`` of the library ``datasets`` writes."""
    import datasets

    path = str(folder / "saved")
    datasets.Dataset.from_dict({"text": ["one", "two"]}).save_to_disk(path)
    names = ("state.json", "dataset_info.json", "data-00000-of-00001.arrow")
    return {
        "saved-data-set": {"rows": CUT.join((folder / "saved" / n).read_bytes() for n in names)}
    }


def tokenizers(folder: Path) -> Made:
    """Tokenizers of every kind."""
    import sentencepiece

    from eval.tokenizers.byte_level import LETTER_OF
    from tests.models.tiny import save_tokenizer

    save_tokenizer(folder)
    vocab = {letter: i for i, letter in enumerate(LETTER_OF.values())}
    vocab |= {"th": 256, "the": 257}
    ranks = [bytes([i]) for i in range(256)] + [b"th", b"the"]
    lines = [base64.b64encode(token) + b" %d" % i for i, token in enumerate(ranks)]
    models = {}
    for kind, extra in (("unigram", {}), ("bpe", {"byte_fallback": True})):
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["the cat sat on the mat", "it was the best of times"] * 9),
            model_writer=model, vocab_size=300 if extra else 40, model_type=kind,
            minloglevel=2, hard_vocab_limit=False, normalization_rule_name="identity", **extra,
        )  # fmt: skip
        models[kind] = model.getvalue()
    config = {"bos_token": {"content": "<s>"}, "added_tokens_decoder": {"0": {"content": "<s>"}}}
    beside = (config, {"eos_token": "<s>"}, {"model_type": "llama", "bos_token_id": [0]})
    return {
        "tokenizer-json": {"bytes": (folder / "tokenizer.json").read_bytes()},
        "sentencepiece": models,
        "tiktoken": {"ranks": b"\n".join(lines) + b"\n"},
        "vocab-merges": {"pair": json.dumps(vocab).encode() + CUT + b"#version: 0.2\nt h\nth e\n"},
        "tokenizer-config": {"three": CUT.join(json.dumps(one).encode() for one in beside)},
    }


def models() -> Made:
    """What lies in the folder of a model."""
    from safetensors.numpy import save

    config = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 257,
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 64, "max_position_embeddings": 64, "torch_dtype": "float32",
        "rope_scaling": {"rope_type": "linear", "factor": 2.0},
    }  # fmt: skip
    gpt2 = {"model_type": "gpt2", "n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 16}
    names = {f"{i}": f"model-0000{i}-of-00002.safetensors" for i in (1, 2)}
    raw = save({"a": np.ones(3, np.float32), "b": np.ones((2, 2), np.float16)}, {"format": "pt"})
    size = int.from_bytes(raw[:8], "little")
    index = {"metadata": {"total_size": 24}, "weight_map": names}
    return {
        "model-config": {"llama": json.dumps(config).encode(), "gpt2": json.dumps(gpt2).encode()},
        "weight-index": {"two": json.dumps(index).encode()},
        "weight-file": {"two": raw[8 : 8 + size] + CUT + raw[8 + size :]},
    }


def run_files() -> Made:
    """What a resumed run reads, and options."""
    from tests.fuzz.readers.runs import SAME, own_conditions, whole_run

    checkpoint, files = whole_run()
    saved = unsigned_snapshot(files[f"fuzzed/{checkpoint}"]).replace(own_conditions(), SAME)
    written = sorted(name for name in files if name.startswith("out/"))
    toml = b'order = 5\ndata = ["a.txt", "b.txt"]\nmemory_limit = "2GiB"\nbos = "<s>"\nlimit = 10\n'
    lines = (
        "score\n--data\na.txt\n--order\n5\n--no-token-check\n--memory-limit=2G",
        "compare\n--logits\na.npy\n--tokens\nb.npy\n--bytes\n7",
        "quantize\n--recipe\nnf4\n--seed\n1\n--codec\nzstd",
    )
    cells = ("plain", "=1+1", "\ttab", "a\r\nb", "\\x41", "'it", "\uff1d1")
    curve = b'bytes,bits_model,bits,text\r\n1,2.5,2.0,a\r\n2,5.0,4.0,"b\nc"\r\n'
    return {
        "csv-cell": {str(i): cell.encode() for i, cell in enumerate(cells)},
        "terminal": {"text": "one\x1b[31m\u202e\ntwo".encode()},
        "picture": {"curve": curve},
        "toml": {"options": toml},
        "command-line": {str(i): line.encode() for i, line in enumerate(lines)},
        "checkpoint": {"whole": saved},
        "results-folder": {
            Path(name).name: bytes([i]) + files[name] for i, name in enumerate(written)
        },
    }


def audits() -> Made:
    """Reports of audits: a legal scorer, a guilty one, and one that cannot be judged."""
    from ngrammix.auditing.report import AuditReport, Check, Finding
    from ngrammix.auditing.report_json import to_json
    from ngrammix.auditing.witness import Witness

    checks = (Check("C1", "futures", 9, calls=3, smallest_share=0.4), Check("C2", "sums", 2))
    legal = AuditReport("mine.score", checks=checks, conditions={"vocab_size": 8, "seed": 0})
    witness = Witness("future", (1.5, float("nan")), "nats", (1, 2, 3), (1, 2), 1, (2,), "x")
    guilty = AuditReport("mine", (Finding("C1", 1, witness, "scores differ"),), checks[1:])
    reports = {"legal": legal, "guilty": guilty, "unknown": AuditReport("x", problems=("slow",))}
    return {"audit-report": {name: to_json(one).encode() for name, one in reports.items()}}


def coded(folder: Path) -> Made:
    """Coded tokens of one document, and of three."""
    from eval import Documents, audit_codec

    texts = {"one": [b"one two one two one two"], "three": [b"one two", b"t", b"one two three"]}
    for name, documents in texts.items():
        audit_codec(data=Documents(documents), keep=folder / name)
    return {"coded-tokens": {name: (folder / name).read_bytes() for name in texts}}


def main() -> None:
    """Write all seeds; those that once showed a fault stay."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = snapshots(folder) | quantized(folder) | tables() | token_files()
        made |= saved_data_set(folder) | tokenizers(folder) | models() | audits()
        made |= coded(folder)
        for reader, inputs in (made | run_files()).items():
            (SEEDS / reader).mkdir(parents=True, exist_ok=True)
            for seed, content in inputs.items():
                (SEEDS / reader / seed.replace(" ", "-")).write_bytes(content)


if __name__ == "__main__":
    main()
