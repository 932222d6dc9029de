"""Load a causal language model of Hugging Face with every weight from its files, none at random."""

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from eval.models.library_calls import library_call
from eval.models.size_limits import held_to_weights
from eval.models.weight_files import WeightFiles, find_weights, has_safetensors, join_names

# Components that torch.compile, DDP, DeepSpeed, FSDP and activation checkpointing put into names.
WRAPPERS = {
    "_orig_mod", "module", "_forward_module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module",
}  # fmt: skip
# Weights that no logit depends on; transformers itself ignores others, family by family.
HARMLESS = [
    # Tables and masks that the config determines.
    r"\b(inv_freq|cos_cached|sin_cached|freqs_cis|position_ids|token_type_ids)$",
    r"\b(attn|attention)\.(bias|masked_bias|causal_mask)$",
    r"\b(num_batches_tracked|_extra_state)$",
    # Heads beside that of the language model.
    r"^(\w+\.)?(score|classifier|classification_head|reward_head|regression_head|v_head"
    r"|value_head|qa_outputs|multiple_choice_head|pooler|cls\.seq_relationship)\.",
    # Predictors of tokens after the next one.
    r"\b(mtp|mtp_\w+|nextn\w*|medusa\w*)\.",
    # What reads pictures and sound.
    r"^(\w+\.)?(vision|visual|image|audio|speech)\w*\.",
    r"^(\w+\.)?(multi_modal|mm|multimodal)_projector\.",
]
LAYER = re.compile(r"\blayers\.(\d+)\.")


@dataclass(frozen=True)
class LoadFaults:
    """Where the weights of the files and those of the config differ.

    Attributes
    ----------
    missing, unused : list of str
        Weights that the files lack, and weights of the files that the network has no place for.
    mismatched : list of str
        Weights of another shape, with both shapes.
    """

    missing: list[str]
    unused: list[str]
    mismatched: list[str]

    @classmethod
    def of(cls, info: Mapping[str, Any], config: Any) -> Self:
        """The faults in what transformers reports; harmless weights are none."""
        unused = (n for n in info["unexpected_keys"] if not is_harmless(n, config))
        shapes = map(describe_shapes, info["mismatched_keys"])
        return cls(sorted(info["missing_keys"]), sorted(unused), sorted(shapes))

    def __len__(self) -> int:
        return len(self.missing) + len(self.unused) + len(self.mismatched)

    def describe(self, spec: str) -> str:
        """The error text."""
        faults = (
            (self.missing, "missing"),
            (self.mismatched, "of another shape"),
            (self.unused, "without a place"),
        )
        parts = [f"{len(names)} {what} ({join_names(names)})" for names, what in faults if names]
        if self.missing and self.unused:
            mend = "correct model_type in config.json, or the names in the files"
        elif self.mismatched:
            mend = "correct the sizes in config.json"
        elif self.missing:
            mend = "save the whole model with save_pretrained"
        else:
            mend = "correct config.json, such as the number of layers"
        fate = "take random numbers instead" if self.missing or self.mismatched else "ignore them"
        return (
            f"the weights must be those that config.json describes, got {' and '.join(parts)} in "
            f"{spec}; transformers would {fate}: {mend}"
        )


def describe_shapes(entry: Any) -> str:
    """The name of a weight, with its shapes in the file and by the config where these are told."""
    if isinstance(entry, str):  # of transformers 4
        return entry
    name, in_file, by_config = entry
    return f"{name} {tuple(in_file)} for {tuple(by_config)}"


def load_weights(spec: str, model_class: Any, files: WeightFiles | None, **options: Any) -> Any:
    """The network of `from_pretrained`, whose weights all come from the files.

    Names that a wrapper such as torch.compile has lengthened are shortened, with a warning, if
    every weight then has its place.

    Parameters
    ----------
    spec : str
        A folder, or a name on the Hub.
    model_class : type
        Has `from_pretrained`, such as ``AutoModelForCausalLM``.
    files : WeightFiles or None
        The files that `from_pretrained` reads; None if they are no safetensors of a folder.
    **options
        Of `from_pretrained`.

    Raises
    ------
    ValueError
        If a weight is missing, has another shape, has no place in the network, or is an integer, or
        if a head that the config ties to the embedding differs from it.
    """
    options |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
    with held_to_weights(files, spec), library_call(spec):
        network, info = model_class.from_pretrained(spec, **options)
    faults = LoadFaults.of(info, network.config)
    if files is not None and faults:
        network, faults, files = rename_and_load(spec, network, faults, files, options)
    if faults:
        raise ValueError(faults.describe(spec))
    if files is not None:
        check_floats(network, files, spec)
        check_tie(network, files, spec)
    return network


@dataclass(frozen=True)
class WholeModel:
    """A class of transformers whose `from_pretrained` is `load_weights`."""

    model_class: Any

    def from_pretrained(self, spec: str, **options: Any) -> Any:
        """See `load_weights`."""
        folder = Path(spec, options.get("subfolder") or "")
        files = find_weights(folder) if has_safetensors(folder) else None
        return load_weights(spec, self.model_class, files, **options)


def rename_and_load(
    spec: str, network: Any, faults: LoadFaults, files: WeightFiles, options: Mapping[str, Any]
) -> tuple[Any, LoadFaults, WeightFiles]:
    """The network with the names that fit best, the faults that remain, and the files so named."""
    kept = {name: options[name] for name in ("dtype", "torch_dtype") if name in options}
    best = network, faults, files
    for names in shortened_names(files.dtypes):
        renamed = files.renamed(names)
        try:
            with held_to_weights(renamed, spec), library_call(spec):
                other, info = type(network).from_pretrained(
                    None,
                    config=network.config,
                    state_dict=renamed.tensors(),
                    output_loading_info=True,
                    ignore_mismatched_sizes=True,
                    **kept,
                )
        except ValueError:  # the names fit so little that transformers refuses them
            continue
        others = LoadFaults.of(info, other.config)
        if len(others) < len(best[1]):
            best = other, others, renamed
        if not others:
            old, new = next((old, new) for old, new in names.items() if old != new)
            warnings.warn(
                f"the weights of {spec} have the names of a wrapper; {old} was read as {new}, and "
                "the others likewise",
                stacklevel=4,
            )
            break
    return best


def shortened_names(names: Iterable[str]) -> Iterator[dict[str, str]]:
    """Names without those of wrappers, then without the first components that all share."""
    shorter = {name: ".".join(p for p in name.split(".") if p not in WRAPPERS) for name in names}
    while shorter and all(shorter.values()) and len(set(shorter.values())) == len(shorter):
        if any(old != new for old, new in shorter.items()):
            yield dict(shorter)
        if len({name.partition(".")[0] for name in shorter.values()}) > 1:
            return
        shorter = {old: new.partition(".")[2] for old, new in shorter.items()}


def is_harmless(name: str, config: Any) -> bool:
    """Whether no logit depends on a weight that the network has no place for."""
    config = config.get_text_config()
    n_layers, n_more = (
        count_of(config, field) for field in ("num_hidden_layers", "num_nextn_predict_layers")
    )
    layer = LAYER.search(name)
    if layer and n_layers <= int(layer[1]) < n_layers + n_more:  # predicts tokens after the next
        return True
    return any(re.search(pattern, name) for pattern in HARMLESS)


def count_of(config: Any, field: str) -> int:
    """The integer that a config has under a name, 0 without one."""
    value = getattr(config, field, None)
    return value if isinstance(value, int) else 0


def check_floats(network: Any, files: WeightFiles, spec: str) -> None:
    """Raise ValueError if the files hold integers where the network has other numbers."""
    if hasattr(network, "hf_quantizer"):
        return  # transformers has made weights of them, or keeps them as they are
    state = network.state_dict()
    integers = [
        name for name, dtype in files.dtypes.items()
        if dtype[0] in "IU" and name in state and state[name].is_floating_point()
    ]  # fmt: skip
    if integers:
        raise ValueError(
            f"weights must be floating point, got integers for {join_names(integers)} in {spec}; "
            "add the quantization_config that they were written with, or save the model dequantized"
        )


def check_tie(network: Any, files: WeightFiles, spec: str) -> None:
    """Raise ValueError if the config ties embedding and head, and the files hold two."""
    is_tied = getattr(network.config.get_text_config(), "tie_word_embeddings", False)
    if not is_tied or not getattr(network, "_tied_weights_keys", None):  # some classes tie nothing
        return
    ends = [network.get_input_embeddings(), network.get_output_embeddings()]
    names = [
        f"{name}.weight" for name, module in network.named_modules()
        if any(module is end for end in ends) and f"{name}.weight" in files.dtypes
    ]  # fmt: skip
    if len(names) < 2:
        return
    first, *others = files.tensors(names).values()
    if any(not tensor.equal(first) for tensor in others):
        raise ValueError(
            f"{' and '.join(names)} must be equal, since the config ties them, got different ones "
            f"in {spec}; set tie_word_embeddings to false if the head is the model's own"
        )
