"""The options of every bench; imports nothing that is measured, so that ``--help`` is fast."""

import argparse
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from eval.commands.option_groups import add_options, add_output
from eval.config import QuantizeConfig


class Option(NamedTuple):
    """An option of a bench; its type is that of the default, a list takes several values.

    A whole number must be >= 1, any other number > 0 and finite.
    """

    name: str
    default: Any
    help: str
    metavar: str = "N"
    choices: Sequence[str] | None = None

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Add the option to the parser of its bench."""
        is_list = isinstance(self.default, list)
        example = self.default[0] if is_list and self.default else self.default
        shown = " ".join(map(str, self.default)) if is_list else self.default
        parser.add_argument(
            f"--{self.name}",
            default=self.default,
            type=type(example) if isinstance(example, int | float) else str,
            nargs="+" if is_list else None,
            choices=self.choices,
            metavar=self.metavar,
            help=f"{self.help} (default: {shown})" if shown else self.help,
        )

    def check(self, value: Any) -> Any:
        """The value; ValueError if a number is out of range."""
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, int) and number < 1:
                raise ValueError(
                    f"--{self.name} must be >= 1, got {number}; leave it out for the default"
                )
            if isinstance(number, float) and not 0 < number < math.inf:
                raise ValueError(
                    f"--{self.name} must be > 0 and finite, got {number:g}; leave it out for the "
                    "default"
                )
        return value


DATA = Option(
    "data",
    None,
    "Parameter Golf token shard, *.bin, or any other file for its bytes (default: the embedded "
    "text in the tokens of the demo)",
    "FILE",
)
ORDER = Option("order", 7, "tokens of the longest n-gram, the predicted token included")
RUNS = Option("runs", 5, "rounds that the figures are medians of")
DICT_TOKENS = Option("dict-tokens", 200_000, "tokens for Python dicts, slower as they grow")
QUANTIZERS = [  # of the findings
    "gptq int6 sd sequential", "gptq int4 sequential", "int8", "int6", "int6 sd", "gptq int6",
    "gptq int6 sd", "int4", "int4 group", "gptq int4", "gptq int4 group", "lloyd 16", "lloyd 64",
    "lloyd 256", "nf4", "pq", "residual",
]  # fmt: skip
CODEBOOK_COLUMNS = 256  # of the weight whose rows get a codebook each
GROUP = 128  # weights that share a scale
OPTIONS: dict[str, Sequence[Option]] = {
    "audit": (
        Option("budget", 10.0, "most seconds of an audit", "SECONDS"),
        RUNS,
    ),
    "causality": (
        Option("families", [], "model types of transformers, such as gpt2 (all)", "TYPE"),
        Option("tokens", 20_000, "tokens of the embedded text that are scored"),
        RUNS._replace(default=3),
    ),
    "codebooks": (
        Option("values", 65_536, "numbers"),
        Option("rows", 4096, f"rows of {CODEBOOK_COLUMNS} normal weights"),
        RUNS,
    ),
    "device": (
        Option("device", None, "device of torch (cuda if torch can use it, else cpu)", "NAME"),
        Option("vocab", [1024, 50_304], "vocabulary sizes of the logits that are read", "V"),
        Option("rows", 8192, "rows of logits that are read at once"),
        Option("models", ["11 M", "124 M"], "models that are scored", "NAME", ["11 M", "124 M"]),
        Option("windows", 256, "windows of 1,024 tokens that a model reads"),
        Option("batch", 32, "windows in one forward pass"),
        RUNS._replace(default=3),
    ),
    "findings": (Option("quantizers", QUANTIZERS, "what to measure", "NAME", choices=QUANTIZERS),),
    "gptq": (
        Option("shapes", ["2048x512", "512x512", "512x2048"], "outputs by inputs", "RxC"),
        Option("rows", 4096, "calibration rows"),
        RUNS._replace(default=7),
    ),
    "match": (
        DATA,
        ORDER,
        RUNS._replace(default=3),
        DICT_TOKENS,
        Option("min-length", 7, "tokens of the shortest match"),
    ),
    "memory": (DATA, ORDER),
    "mix": (DATA, ORDER, RUNS),
    "observe": (DATA, ORDER, RUNS, DICT_TOKENS),
    "overlap": (
        ORDER,
        RUNS._replace(default=9),
        Option("tokens", 20_000, "tokens of the embedded text that are scored"),
    ),
    "packing": (
        Option("model", None, "safetensors with matrices (default: the demo model)", "FILE"),
        Option("codes", 4_000_000, "codes to pack"),
        RUNS,
    ),
    "ranks": (
        Option("ranks", [1, 2], "numbers of ranks; the others are compared with the first", "R"),
        RUNS._replace(default=3),
        Option("tokens", 40_000, "tokens of the embedded text that are scored"),
    ),
    "read": (
        DATA._replace(help="UTF-8 text of any kind (default: the embedded text)"),
        Option("tokenizer", [], "tokenizer.json or .model, beside raw bytes and the demo's", "T"),
        RUNS._replace(default=3),
    ),
    "scalar": (
        Option("rows", 4096, "rows of the weight"),
        Option("columns", 4096, f"columns of the weight, a multiple of {GROUP}"),
        RUNS._replace(default=9),
    ),
    "scale": (
        DATA,
        ORDER,
        Option("millions", [2.0, 8.0, 20.0, 62.0], "sizes, in million tokens; 62 take about 5 GB"),
    ),
    "score": (
        Option("milliseconds", 1.0, "time of the stand-in for a token", "MS"),
        Option("tokens", 8_000, "tokens of the embedded text that are scored"),
        RUNS._replace(default=3),
    ),
}
# Of ``score`` and ``quantize``, which the findings have too.
OF_FINDINGS = (
    "model", "data", "tokenizer", "column", "split", "bos", "token_bytes", "skip_empty", "windows",
    "context", "stride", "batch", "limit", "device", "dtype", "download", "trust_remote_code",
    "calibrate", "calibration_tokens", "seed",
)  # fmt: skip


def add_arguments(
    parser: argparse.ArgumentParser, name: str, options: Sequence[Option] | None = None
) -> None:
    """Add the options of a bench, by default those of its name, ``--out`` and ``--json``."""
    for option in OPTIONS[name] if options is None else options:
        option.add_to(parser)
    if name == "findings":
        add_options(parser, QuantizeConfig, OF_FINDINGS)
    add_output(parser, f"{name}.json")
