"""Which files of a folder are the weights: whole, and without a rival."""

import json

import pytest
import torch
from safetensors.torch import save_file

from eval.models.load_model import load_model
from eval.models.weight_files import check_config, find_weights, join_names


@pytest.fixture
def folder(tmp_path):
    """Two shards and their index: a in the first, b and c in the second."""
    save(tmp_path / "model-00001-of-00002.safetensors", "a")
    save(tmp_path / "model-00002-of-00002.safetensors", "b", "c")
    index(tmp_path, a=1, b=2, c=2)
    return tmp_path


def save(path, *names, dtype=torch.float32):
    save_file({name: torch.full((2,), i, dtype=dtype) for i, name in enumerate(names)}, path)


def index(folder, **shards):
    table = {name: f"model-0000{shard}-of-00002.safetensors" for name, shard in shards.items()}
    text = json.dumps({"weight_map": table})
    (folder / "model.safetensors.index.json").write_text(text)


def test_shards_are_read_by_their_index(folder):
    files = find_weights(folder)
    assert [path.name[6:11] for path in files.paths] == ["00001", "00002"]
    assert files.dtypes == {"a": "F32", "b": "F32", "c": "F32"}
    assert {name: value.tolist() for name, value in files.tensors().items()} == {
        "a": [0, 0], "b": [0, 0], "c": [1, 1],
    }  # fmt: skip
    assert files.tensors(["c"])["c"].tolist() == [1, 1]
    renamed = files.renamed({"a": "x", "b": "y", "c": "z"})
    assert renamed.dtypes.keys() == {"x", "y", "z"}
    assert renamed.tensors(["z"])["z"].tolist() == [1, 1]


def test_a_file_of_another_name_is_not_read(folder):
    save(folder / "consolidated.safetensors", "a")
    save(folder / "adapter_model.safetensors", "a")
    assert len(find_weights(folder).paths) == 2


def test_one_file_may_have_an_index_too(tmp_path):
    save(tmp_path / "model.safetensors", "a", dtype=torch.bfloat16)
    text = json.dumps({"weight_map": {"a": "model.safetensors"}})
    (tmp_path / "model.safetensors.index.json").write_text(text)
    assert find_weights(tmp_path).dtypes == {"a": "BF16"}


def remove(*names):
    return lambda folder: [(folder / name).unlink() for name in names]


SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
INDEX = "model.safetensors.index.json"


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (remove(SHARDS[1]),
         f"every file of {INDEX} must exist, got no {SHARDS[1]} in {{p}}; download it again"),
        (remove(INDEX),
         f"weights must be model.safetensors, or be listed in {INDEX}, got {SHARDS[0]}, "
         f"{SHARDS[1]} in {{p}}; rename the file, or save the model with save_pretrained"),
        (remove(INDEX, *SHARDS),
         "weights must be .safetensors, got none in {p}; pickles can run code: save the model with "
         "save_pretrained(safe_serialization=True)"),
        (lambda folder: save(folder / "model.safetensors", "a", "b", "c"),
         f"a folder must hold one set of weights, got model.safetensors and also {SHARDS[0]}, "
         f"{SHARDS[1]} in {{p}}; delete what is not the model"),
        (lambda folder: save(folder / "model-00003-of-00003.safetensors", "d"),
         f"a folder must hold one set of weights, got {SHARDS[0]}, {SHARDS[1]} and also "
         "model-00003-of-00003.safetensors in {p}; delete what is not the model"),
        (lambda folder: index(folder, a=1, b=2, c=2, d=2),
         f"a file must hold what {INDEX} lists, got no d in {{p}}/{SHARDS[1]}; download it again"),
        (lambda folder: save(folder / SHARDS[1], "a", "b", "c"),
         "a weight must be in one file, got a in two of {p}; download it again"),
        (lambda folder: (folder / INDEX).write_text("{}"),
         f"{{p}}/{INDEX} must hold a weight_map, got none; download it again"),
        (lambda folder: (folder / INDEX).write_text('{"weight_map": {"a": "../x.safetensors"}}'),
         f"{{p}}/{INDEX} must name files of its folder, got '../x.safetensors'; check it"),
        (lambda folder: (folder / INDEX).write_text('{"weight_map": {"a": 3}}'),
         f"{{p}}/{INDEX} must name files of its folder, got 3; check it"),
    ],
)  # fmt: skip
def test_refused_files(folder, spoil, text):
    spoil(folder)
    with pytest.raises(ValueError) as error:
        find_weights(folder)
    assert str(error.value) == text.format(p=folder)


@pytest.mark.parametrize("content", [b"", b"\xff" * 64])
def test_damaged_files_are_refused(folder, content):
    (folder / SHARDS[0]).write_bytes(content)
    with pytest.raises(ValueError, match=f"got {folder / SHARDS[0]}, which cannot be read"):
        find_weights(folder)


@pytest.mark.parametrize("has_config", [False, True])
def test_adapters_are_refused(folder, has_config):
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "meta/base"}')
    if has_config:
        (folder / "config.json").write_text("{}")
    with pytest.raises(ValueError) as error:
        check_config(folder)
    assert str(error.value) == (
        f'a model must be whole, got a PEFT adapter of "meta/base" in {folder}; merge it: '
        "PeftModel.from_pretrained(base, adapter).merge_and_unload().save_pretrained(DIR)"
    )


def test_names_are_cut_short():
    assert join_names("abc") == "a, b, c"
    assert join_names("abcde") == "a, b, c and 2 more"


PICKLE = (
    "a pickle can run code and names no network: name package.module:factory, a function that "
    "returns the network with these weights"
)


@pytest.mark.parametrize(
    ("name", "mend"),
    [
        ("m.gguf", "let transformers read it with gguf_file, save it with save_pretrained, and "
                   "name that folder"),
        ("model.safetensors", "name its folder, {p}, with the config.json beside it"),
        ("m.pt", PICKLE), ("m.PTH", PICKLE), ("pytorch_model.bin", PICKLE), ("last.ckpt", PICKLE),
        ("config.json", "name its folder, {p}"),
        ("train.py", "name a function of it, train:factory, that returns the model"),
        ("model.ngq", "name the model that was quantized, and this file with --quantized"),
        ("README", "name a folder"),
        ("a:b.bin", PICKLE),
    ],
)  # fmt: skip
def test_a_file_in_the_place_of_a_model(tmp_path, name, mend):
    path = tmp_path / name
    path.touch()
    with pytest.raises(ValueError) as error:
        load_model(path)
    assert str(error.value) == (
        f"a model must be a folder of Hugging Face, got the file {path}; {mend.format(p=tmp_path)}"
    )


@pytest.mark.parametrize("name", ["", " "])
def test_a_model_without_a_name(name):
    with pytest.raises(ValueError) as error:
        load_model(name)
    assert str(error.value) == "a model must have a name, got an empty one; name a folder"


def test_an_empty_folder(tmp_path):
    with pytest.raises(ValueError) as error:
        load_model(tmp_path)
    assert str(error.value) == (
        f"the folder of a model must hold config.json, got none in {tmp_path}; save the model with "
        "save_pretrained"
    )
