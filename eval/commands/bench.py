"""``ngrammix bench``: the benches by name, each imported when it is run."""

import argparse
from importlib import import_module
from typing import Any

from eval.commands.output import add_output

BENCHES = {  # the name: the module, the files under --out, the line of help
    "observe": ("observe", "observe.json", "NgramCache.observe and its peers"),
    "scale": ("scale", "scale.json and scale.png", "time and memory as the stream grows"),
    "memory": ("memory", "memory.json", "the bits that a memory limit costs"),
    "mix": ("mix", "mix.json", "what the mixer costs beside a model, stage by stage"),
    "match": ("match", "match.json", "speed and accuracy of the match model"),
    "overlap": ("overlap", "overlap.json", "what the cache adds to the model's wall time"),
    "read": ("read", "read.json", "how fast text becomes batches, by format and tokenizer"),
    "score": ("score", "score.json", "what scoring adds to the model's wall time"),
    "gptq": ("gptq", "gptq.json", "seconds and errors of GPTQ beside the published algorithm"),
    "ranks": ("ranks", "ranks.json", "what the forward pass gains by ranks"),
    "quant": ("scalar", "quant.json", "weights to codes and back"),
    "packing": ("packing", "packing.json", "codes to bytes, and what compression makes of them"),
    "codebooks": ("codebooks", "codebooks.json", "codebooks beside kmeans1d and faiss"),
    "findings": ("findings", "findings.json", "what each quantizer costs, in BPB and bytes"),
}


class BenchParser(argparse.ArgumentParser):
    """Parser of one bench; the module of the bench is imported when it parses."""

    def parse_known_args(self, *arguments: Any, **options: Any) -> Any:
        """Add the options of the bench, then parse."""
        name, files, _ = BENCHES[self.prog.rpartition(" ")[2]]
        module = import_module(f"eval.bench.{name}")
        module.add_arguments(self)
        add_output(self, files)
        self.set_defaults(run=module.run)
        return super().parse_known_args(*arguments, **options)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a command for each bench."""
    benches = parser.add_subparsers(required=True, metavar="BENCH", parser_class=BenchParser)
    for name, (_, _, summary) in BENCHES.items():
        benches.add_parser(name, help=summary)
