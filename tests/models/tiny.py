"""Tiny models of Hugging Face in folders of their own, and their right score in float64."""

import json
import math
import shutil
from copy import deepcopy
from pathlib import Path

import torch

TEXT = "the cat sat on the mat, and the dog sat on the cat; " * 4


def save_llama(folder, kind="LlamaForCausalLM", **config):
    """Save a random Llama over bytes with its tokenizer; returns the network."""
    import transformers

    defaults = {
        "vocab_size": 257, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 64, "max_position_embeddings": 64, "bos_token_id": 0,
        "eos_token_id": 0, "tie_word_embeddings": False,
    }  # fmt: skip
    torch.manual_seed(1)
    network = getattr(transformers, kind)(transformers.LlamaConfig(**(defaults | config)))
    with torch.no_grad():  # far from uniform: a lost weight shows
        for parameter in network.parameters():
            parameter.mul_(3)
    network.save_pretrained(folder)
    save_tokenizer(folder)
    return network


def save_tokenizer(folder):
    """Save a byte-level tokenizer of 257 tokens; 0 begins a document."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {"<s>": 0} | {letter: i + 1 for i, letter in enumerate(letters)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>"])
    tokenizer.save(f"{folder}/tokenizer.json")
    names = {"bos_token": "<s>", "eos_token": "<s>"}
    Path(folder, "tokenizer_config.json").write_text(json.dumps(names))


def rename_weights(folder, rename):
    """Rename the tensors of the one weight file of a folder; None drops a tensor."""
    from safetensors.torch import load_file, save_file

    path = Path(folder, "model.safetensors")
    tensors = {rename(name): tensor for name, tensor in load_file(path).items()}
    tensors.pop(None, None)
    save_file(tensors, path, metadata={"format": "pt"})


def edit_config(folder, **fields):
    """Set fields of config.json."""
    path = Path(folder, "config.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def copy_folder(folder, target):
    shutil.copytree(folder, target, dirs_exist_ok=True)
    return target


def right_bpb(network, folder, context, stride, text=TEXT):
    """Bits per byte of the network alone, token by token in float64."""
    from tokenizers import Tokenizer

    ids = Tokenizer.from_file(f"{folder}/tokenizer.json").encode(text, add_special_tokens=False).ids
    network = deepcopy(network).double().eval()
    stream, nats, done = [0, *ids], 0.0, 0
    while done < len(ids):
        end = min(done + (stride if done else context), len(ids))
        start = max(0, end - context)
        with torch.no_grad():
            logits = network(torch.tensor([stream[start:end]])).logits[0]
        rows = torch.log_softmax(logits, -1)
        nats -= sum(rows[i - start, stream[i + 1]].item() for i in range(done, end))
        done = end
    return nats / math.log(2) / len(text.encode())
