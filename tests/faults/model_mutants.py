"""Mutants of the files of a model's folder: altered settings, damaged headers, hostile JSON."""

import json
import random

from tests.faults.mutants import VALUES, byte_mutants, json_mutants, walk

SIZES = (0, -1, 1, 3, 5, 1000, 65_537, 10**6, 10**7, 10**9, 2**31 - 1, 2**31, 2**40, 10**12,
         2**62, 2**63 - 1, 2**64, 10**30, 10**400, 0.5, 3.0, 1e300)  # fmt: skip
# Settings that many families read, beside those in the file.
EXTRA: dict[str, object] = {
    "num_labels": 2, "n_positions": 64, "max_position_embeddings": 64, "sliding_window": 8,
    "head_dim": 8,
    "rope_scaling": {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 32},
    "rope_theta": 10000.0, "partial_rotary_factor": 0.5, "layer_types": ["full_attention"] * 2,
    "quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True, "bits": 4},
    "auto_map": {"AutoModelForCausalLM": "modeling.Model", "AutoConfig": "modeling.Config"},
    "torch_dtype": "float32", "text_config": {"hidden_size": 16, "vocab_size": 257},
    "architectures": ["LlamaForCausalLM"], "is_encoder_decoder": False, "hidden_act": "silu",
    "attn_implementation": "eager", "_attn_implementation": "sdpa", "num_experts": 2,
    "is_decoder": True, "add_cross_attention": False, "chunk_size_feed_forward": 0,
    "pruned_heads": {}, "id2label": {"0": "x"}, "problem_type": "regression",
    "per_layer_config": {}, "num_nextn_predict_layers": 1, "use_cache": True,
    "attention_chunk_size": 8, "max_window_layers": 1, "use_sliding_window": True,
    "output_hidden_states": False, "output_attentions": False, "return_dict": True,
    "tie_word_embeddings": True, "vision_config": {"num_hidden_layers": 2},
    "logits_soft_cap": 1.0, "dtype": "bfloat16", "name_or_path": "x", "model_type": "gpt2",
    "mlp_layer_types": ["dense", "sparse"], "tp_plan": "auto", "gradient_checkpointing": True,
}  # fmt: skip
# Contents that are hostile as JSON, whatever they should hold.
CONTENTS = (
    b"", b"\x00", b"{", b"[]", b"null", b"NaN", b"{}", b'"x"', b"[" * 100_000, b'{"a":' * 100_000,
    b"[" * 900 + b"]" * 900, b'{"x": ' + b"9" * 100_000 + b"}", b'{"x": 1e999999}',
    b'{"\\ud800": "\\udfff"}',
    b"\xef\xbb\xbf{}", '{"x": 1}'.encode("utf-16"), '{"x": 1}'.encode("utf-32"), b'{"x": "\xff"}',
    b'{"x": 1, "x": 2}', b" " * 100_000, b"{}" * 3, b'{"x": "\x1b[31m\\n\\u0000"}',
)  # fmt: skip


def setting_mutants(config, seed, n):
    """`n` contents of a JSON file with one setting, of the file or of `EXTRA`, at an edge."""
    rng = random.Random(seed)
    known = config | {name: EXTRA[name] for name in EXTRA if name not in config}
    for _ in range(n):
        mutant = json.loads(json.dumps(config))
        if rng.random() < 0.4:
            name = rng.choice(list(EXTRA))
            mutant[name] = json.loads(json.dumps(known[name]))
        for _ in range(rng.choice((1, 1, 1, 2))):
            holder, key = rng.choice(list(walk([mutant]))[1:] or [(mutant, "x")])
            is_number = isinstance(
                holder.get(key) if isinstance(holder, dict) else holder[key], int | float
            )
            holder[key] = rng.choice(SIZES if is_number and rng.random() < 0.7 else VALUES)
        yield dumped(mutant)


def text_mutants(content, seed, n):
    """`n` contents of a JSON file: altered as JSON or as bytes, or hostile as such."""
    rng = random.Random(seed)
    kinds = (
        map(dumped, json_mutants(json.loads(content), seed, n)),
        byte_mutants(content, seed, n),
    )
    for _ in range(n):
        kind = rng.choice((0, 0, 1, 1, 2))
        yield rng.choice(CONTENTS) if kind == 2 else next(kinds[kind])


def dumped(value):
    """JSON in UTF-8, with what Python alone writes: NaN, and halves of characters."""
    try:
        return json.dumps(value).encode()
    except RecursionError:
        return b'{"x":' * 2000 + b"0" + b"}" * 2000


def safetensors_mutants(content, seed, n):
    """`n` files with another header, whose length is right, or damaged bytes."""
    rng = random.Random(seed)
    size = int.from_bytes(content[:8], "little")
    header, body = json.loads(content[8 : 8 + size]), content[8 + size :]
    damaged = byte_mutants(content, seed, n)
    altered = json_mutants(header, seed, n)
    for _ in range(n):
        kind = rng.randrange(5)
        if kind == 0:
            yield next(damaged)
            continue
        if kind == 1:
            new = next(altered)
        else:
            new = json.loads(json.dumps(header))
            entry = new[rng.choice(list(new))]
            match rng.randrange(5):
                case 0:
                    entry["dtype"] = rng.choice(DTYPES)
                case 1:
                    entry["shape"] = rng.choice(SHAPES)
                case 2:
                    entry["data_offsets"] = rng.choice(OFFSETS)
                case 3:
                    a, b = rng.sample(list(new), 2)
                    new[a], new[b] = new[b], new[a]
                case _:
                    new[rng.choice(("x", "", "\x1b", "x" * 10_000, "lm_head.weight", "a.b"))] = (
                        dict(entry)
                    )
        text = dumped(new) if rng.random() < 0.9 else rng.choice(CONTENTS)
        length = rng.choice((len(text),) * 8 + (0, 2**63, 2**64 - 1, 10**8, len(text) + 1))
        yield (
            length.to_bytes(8, "little")
            + text
            + rng.choice((body,) * 6 + (b"", body * 2, body[:-3]))
        )


DTYPES = ("F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "I4", "U8", "I8", "BOOL", "F64", "F16", "BF16",
          "C64", "U64", "X", "", None, 7, "f32")  # fmt: skip
SHAPES = ([], [0], [2**62], [2**62, 4], [2**63], [-1], [1] * 71, [1] * 5000, [10**30], [0, 2**62],
          7, None, [0.5], ["2"], [257, 16, 1])  # fmt: skip
OFFSETS = (
    [0, 0],
    [4, 0],
    [0, 2**62],
    [-4, 4],
    [0],
    [],
    [0, 4, 8],
    None,
    7,
    [0, 2**64],
    ["0", "4"],
    [0, 16448],
)


def tokenizer_mutants(content, seed, n):
    """`n` contents of a tokenizer.json, most of them altered outside of the vocabulary."""
    rng = random.Random(seed)
    spec = json.loads(content)
    parts = {name: spec["model"].pop(name, None) for name in ("vocab", "merges")}
    damaged, altered = text_mutants(content, seed, n), json_mutants(spec, seed, n)
    for _ in range(n):
        if rng.random() < 0.3:
            yield next(damaged)
            continue
        new = next(altered) if rng.random() < 0.3 else json.loads(json.dumps(spec))
        if isinstance(new, dict) and isinstance(new.get("model"), dict):
            for _ in range(rng.choice((0, 1, 1, 2))):
                holder, key = rng.choice(list(walk([new]))[1:])
                value = holder.get(key) if isinstance(holder, dict) else holder[key]
                if isinstance(value, str) and rng.random() < 0.5:
                    holder[key] = rng.choice(STEPS)
                else:
                    holder[key] = rng.choice(SIZES if isinstance(value, int) else VALUES)
        if isinstance(new, dict) and isinstance(new.get("model"), dict):
            vocab, merges = (json.loads(json.dumps(parts[name])) for name in parts)
            if rng.random() < 0.3:
                damage_vocab(vocab, rng)
            new["model"] |= {"vocab": vocab} | ({} if merges is None else {"merges": merges})
        yield dumped(new)


def damage_vocab(vocab, rng):
    """Give tokens of a vocabulary other ids or scores, or other names."""
    for _ in range(rng.choice((1, 1, 3))):
        if isinstance(vocab, dict):
            old, new = rng.choice(list(vocab)), rng.choice(list(vocab))
            match rng.randrange(4):
                case 0:
                    vocab[old] = rng.choice(SIZES)
                case 1:
                    vocab[old] = vocab[new]
                case 2:
                    vocab[rng.choice(STEPS)] = vocab.pop(old)
                case _:
                    vocab[rng.choice(STEPS)] = len(vocab)
        else:
            i = rng.randrange(len(vocab))
            vocab[i] = rng.choice((
                [rng.choice(STEPS), -1.0], ["a", float("nan")], ["a", -1e308], ["a"], ["", 0.0],
                [7, 7], None, vocab[0],
            ))  # fmt: skip


# Types of steps and models, tokens and patterns.
STEPS = (
    "BPE", "Unigram", "WordPiece", "WordLevel", "ByteLevel", "Metaspace", "Sequence", "Split",
    "Replace", "Prepend", "ByteFallback", "Fuse", "Strip", "CTC", "BPEDecoder", "NFKC",
    "Lowercase", "Precompiled", "BertNormalizer", "StripAccents", "Nmt", "Template",
    "TemplateProcessing", "RobertaProcessing", "Digits", "Punctuation", "Whitespace",
    "CharDelimiterSplit", "UnicodeScripts", "FixedLength", "<0x0A>", "<0xZZ>", "<0x+A>", "<0x 1>",
    "Ġ", "▁", "", "a", "th", "<s>", "(a+)+$", "(?<=a)b", "[", "(", "\\", "x{1000000}",
    "(?:x{1000}){1000}", "\x00", "ééé", "MergedWithNext", "Isolated", "Removed", "first",
    "always", "never", "right", "left", "longest_first",
)  # fmt: skip


def protobuf_mutants(content, seed, n):
    """`n` SentencePiece models with fields of the protocol buffer altered, or damaged bytes."""
    rng = random.Random(seed)
    damaged = byte_mutants(content, seed, n)
    fields = list(split_fields(content))
    for _ in range(n):
        if rng.random() < 0.3:
            yield next(damaged)
            continue
        mutant = list(fields)
        for _ in range(rng.choice((1, 1, 2, 4))):
            i = rng.randrange(len(mutant))
            # The pieces come first, then the specifications, which are few.
            i = i if rng.random() < 0.5 else len(mutant) - 1 - rng.randrange(min(4, len(mutant)))
            number, kind, value = mutant[i]
            match rng.randrange(6):
                case 0:
                    mutant[i] = (number, kind, rng.choice((b"", b"\xff" * 4, b"\x00", value * 2)))
                case 1:
                    del mutant[i]
                case 2:
                    mutant[i : i + 1] = [mutant[i]] * rng.choice((2, 50))
                case 3:
                    j = rng.randrange(len(mutant))
                    mutant[i], mutant[j] = mutant[j], mutant[i]
                case _:
                    inner = next(byte_mutants(value, rng.random(), 1))
                    mutant[i] = (number, kind, inner)
            if not mutant:
                break
        yield b"".join(map(join_field, mutant))


def split_fields(content):
    """(number, wire type, bytes of the value) of each field of a message; the rest as one field."""
    at = 0
    while at < len(content):
        key, after = varint(content, at)
        number, kind = key >> 3, key & 7
        if kind == 2:
            size, after = varint(content, after)
        else:
            size = {0: varint(content, after)[1] - after, 1: 8, 5: 4}.get(kind, 0)
        yield number, kind, content[after : after + size]
        at = after + size


def join_field(field):
    """The bytes of a field."""
    number, kind, value = field
    size = to_varint(len(value)) if kind == 2 else b""
    return to_varint(number << 3 | kind) + size + value


def varint(content, at):
    """(integer, the place after it)."""
    value = shift = 0
    while True:
        byte = content[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def to_varint(value):
    """The bytes of an integer."""
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])
