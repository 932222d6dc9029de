"""The options of a run: dataclasses that Python, the command line and TOML files share."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from eval.fields import check_value, expand_home, expand_paths, option
from eval.quantizer_options import QuantizerOptions
from ngrammix.experts.choices import ALL, CHOICES
from ngrammix.reading import read_table

AnyRun = TypeVar("AnyRun", bound="RunConfig")

WINDOWS = ("document", "stream")
MIXER_NONE = "none"  # --mixer: the model alone
MODEL_NONE = "none"  # --model: the cache alone
# --format: what files of data are. The content and the name tell it; one text, decompressed; one
# text, as stored; tables.
AUTO, TEXT, BYTES = "auto", "text", "bytes"
TABLES = ("jsonl", "json", "csv", "tsv", "parquet", "arrow")
FORMATS = (AUTO, TEXT, BYTES, *TABLES)
ERROR, SKIP = "error", "skip"  # --on-bad-row
DEMO = "demo"  # --model, if it is left out


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """How to score: the options that change the figures, all of them part of the signature.

    Integers of numpy are accepted and stored as int.

    Raises
    ------
    ValueError
        If a value has the wrong type or is out of range.
    """

    mixer: str = option(
        ALL,
        "figures",
        "experts of the mixer, such as gate+guard; none: the model alone",
        "EXPERTS",
        choices=(*CHOICES, MIXER_NONE),
    )
    order: int | None = option(
        None,
        "figures",
        "length of the longest n-gram, predicted token included (7; the cache "
        "alone on raw bytes: 24)",
        "N",
    )
    memory_limit: str | int | None = option(
        None,
        "figures",
        "most memory of the cache, such as 2G (by 1024, as 2GiB; 2GB: by 1000); a full cache "
        "evicts (no limit)",
        "BYTES",
    )
    windows: str = option(
        "document",
        "figures",
        "document: a context never crosses the start of a document; stream: all documents are one "
        "text, and the tokens that begin documents are scored too",
        choices=WINDOWS,
    )
    context: int | None = option(
        None, "figures", "tokens that the model reads at once (its maximum)", "N", least=1
    )
    stride: int | None = option(
        None,
        "figures",
        "new tokens of each window; a smaller stride gives more context and takes longer (half "
        "the context)",
        "N",
        least=1,
    )
    bos: int | str | None = option(
        None,
        "figures",
        "token before each document, by its id or text; none: the first token of a document is "
        "context only and not scored (the tokenizer's own)",
        "ID",
        least=0,
    )
    token_check: bool = option(
        True, "figures", "check that token files can have been made by the tokenizer"
    )
    batch: int = option(8, "figures", "windows of a forward pass", "N", least=1)
    logits_memory: str | int | None = option(
        None,
        "figures",
        'most memory of the logits of a forward pass, such as "2GiB"; batches that would take more '
        "are made smaller (1GiB; on CUDA a quarter of the device)",
        "BYTES",
    )
    limit: int | None = option(None, "figures", "score the first N tokens only (all)", "N", least=1)
    allow_probabilities: bool = option(
        False, "figures", "take rows that are >= 0 and sum to 1 for logits, not for probabilities"
    )
    causality_check: bool = option(
        True,
        "figures",
        "refuse a model whose logits depend on later tokens, before anything is scored",
    )

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for field in fields(self):
            value = check_value(field, hints[field.name], getattr(self, field.name))
            if field.metadata.get("is_path"):
                value = expand_paths(value)
            object.__setattr__(self, field.name, value)  # the dataclass is frozen


@dataclass(frozen=True, kw_only=True)
class RunConfig(ScoreConfig):
    """A run of ``ngrammix score``: how to score, the model, the data and the output."""

    model: str | None = option(
        None,
        "model",
        "demo; none (the cache alone, on raw bytes); a Hugging Face directory or name; or "
        "package.module:factory (demo for text; token files need it named)",
        "MODEL",
        is_path=True,
    )
    data: tuple[str, ...] = option(
        (),
        "data",
        "text files, tables (.jsonl, .json, .csv, .tsv, .parquet, .arrow), also compressed, token "
        "shards .bin, .npy, a folder, a pattern, the name of a Hugging Face data set, or - for "
        "standard input",
        "DATA",
        is_path=True,
    )
    tokenizer: str | None = option(
        None,
        "tokenizer",
        "tokenizer.json, SentencePiece .model, tiktoken file, vocab.json with merges.txt beside "
        "it, a folder with one of these, bytes; none: the data are ids, with --token-bytes (the "
        "model's own)",
        "FILE",
        is_path=True,
    )
    pre_tokenizer: str | None = option(
        None,
        "tokenizer",
        "how a tiktoken file or a vocab.json splits text into words: gpt2, cl100k, o200k, llama3 "
        "or qwen (that of its model)",
        "NAME",
    )
    quantized: str | None = option(
        None,
        "model",
        "replace the weights of the model by those that ngrammix quantize wrote",
        "DIR",
        is_path=True,
    )
    format: str = option(
        AUTO,
        "data",
        "what the files of --data are, where content and name do not tell",
        choices=FORMATS,
    )
    column: str | None = option(
        None, "data", "column of a table that holds the text, such as meta.text (text)", "NAME"
    )
    split: str | None = option(
        None, "data", "split of a data set, or rows of it such as train[:100]", "NAME"
    )
    token_dtype: str | None = option(
        None, "data", "dtype of token files without a header, such as uint16", "DTYPE"
    )
    document_end: int | str | None = option(
        None, "data", "token of token files that ends a document and is scored, by its id or text",
        "ID",
        least=0,
    )  # fmt: skip
    token_bytes: str | None = option(
        None,
        "data",
        "raw bytes of each token of --data, or of each id of the vocabulary: a .bin or .npy file",
        "FILE",
        is_path=True,
    )
    token_bytes_per: str | None = option(
        None,
        "data",
        "token or id: what --token-bytes counts for (by its length)",
        choices=("token", "id"),
    )
    skip_empty: bool = option(False, "data", "skip empty documents")
    on_bad_row: str = option(
        ERROR,
        "data",
        "skip: leave out and count rows that cannot be read or encoded, such as null",
        choices=(ERROR, SKIP),
    )
    device: str | int | None = option(
        None, "model", "device of the model: cuda or gpu, 1 for the second GPU, cpu, mps", "NAME"
    )
    dtype: str | None = option(
        None, "model", "dtype of the weights, such as bfloat16 or bf16 (float32 on a CPU)", "NAME"
    )
    download: bool = option(False, "nothing", "allow models and data sets to be downloaded by name")
    trust_remote_code: bool = option(False, "model", "let a Hugging Face model run its own code")
    out: str | None = option(
        None, "nothing", "write result.json and documents.csv there", "DIR", is_path=True
    )
    tokens: bool = option(False, "nothing", "write tokens.csv there too, one line a token")
    overwrite: bool = option(False, "nothing", "replace the results of another run in --out")
    checkpoint: str | None = option(
        None,
        "nothing",
        "folder of the checkpoint; an interrupted run resumes from it",
        "DIR",
        is_path=True,
    )
    checkpoint_every: int = option(
        1_000_000, "nothing", "tokens between two checkpoints", "N", least=1
    )
    threads: int = option(
        1, "nothing", "CPU threads of the n-gram cache; the figures are the same", choices=(1, 2)
    )
    log: tuple[str, ...] = option(
        (), "nothing", "log the progress to wandb, mlflow or tensorboard:DIR", "NAME"
    )


@dataclass(frozen=True, kw_only=True)
class QuantizeConfig(RunConfig, QuantizerOptions):
    """A run of ``ngrammix quantize`` or ``ngrammix pipeline``."""


def make_config(kind: type[AnyRun], options: Mapping[str, Any], path: str | None = None) -> AnyRun:
    """The configuration of a TOML file and of options; an option overrides the file.

    Parameters
    ----------
    kind : type
        The dataclass. Keys of `options` that are none of its fields are ignored.
    options : mapping
        Values by field name, such as parsed arguments.
    path : str, optional
        The TOML file.

    Raises
    ------
    ValueError
        If the file is missing or is not TOML, a key of the file is not an option, or a value is
        wrong: a value of the file too that an option overrides.
    """
    table = {} if path is None else read_table(Path(expand_home(path)), "--config")
    names = [option.name for option in fields(kind)]
    for key in table:
        if key not in names:
            near = get_close_matches(key, names, 1)
            hint = f"did you mean {near[0]}?" if near else f"the options are {', '.join(names)}"
            raise ValueError(f"{path} must hold options alone, got {key}; {hint}")
    of_file = with_tuples(table)
    try:
        kind(**of_file)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return kind(**of_file | with_tuples({name: options[name] for name in names if name in options}))


def with_tuples(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options whose lists are tuples."""
    return {name: tuple(v) if isinstance(v, list) else v for name, v in options.items()}
