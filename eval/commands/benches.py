"""The commands of ``ngrammix bench``; imports no bench, so that ``--help`` is fast."""

import argparse

from eval.commands.parser import CommandParser

BENCHES = {  # name of the bench and of its module in eval.bench: line of help
    "observe": "NgramCache.observe beside its peers",
    "scale": "time and memory of the cache as the stream grows",
    "memory": "the bits that a memory limit costs",
    "mix": "what the mixer costs beside a model, stage by stage",
    "match": "speed and accuracy of the match model",
    "device": "what mixing adds to a model on a GPU, and to reading its logits",
    "overlap": "what the cache adds to the wall time of the model",
    "read": "how fast text becomes batches, by format and tokenizer",
    "score": "what scoring adds to the wall time of the model",
    "ranks": "what the forward pass gains by ranks",
    "causality": "what the probe for models that see the future costs and says",
    "audit": "which planted leaks of models a short probe and an audit find",
    "scalar": "weights to integer codes and back",
    "gptq": "seconds and errors of GPTQ beside the published algorithm",
    "codebooks": "codebooks beside kmeans1d and faiss",
    "packing": "codes to bytes, and the sizes after compression",
    "findings": "what each quantizer costs, in bits per byte and in bytes",
}


class BenchParser(CommandParser):
    """Parser of one bench."""

    module = "eval.bench.options"


def add_bench(parser: argparse.ArgumentParser) -> None:
    """A command for each bench."""
    benches = parser.add_subparsers(
        required=True, dest="bench", metavar="BENCH", parser_class=BenchParser
    )
    for name, summary in BENCHES.items():
        benches.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
