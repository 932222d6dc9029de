"""Quantize a model in one call, save it, load it again, and score it with and without the cache.

python examples/quantize_and_score.py notes.txt int8 int6 int4
"""

import copy
import sys
import tempfile
from pathlib import Path

import quant
from eval import ScoreConfig, load_model, open_data, score, wrap


def main(text: str, *recipes: str) -> None:
    demo = load_model("demo")  # or a Hugging Face folder
    before = score(demo, open_data([text]), ScoreConfig())
    print(f"{'as it is':10} {before.bpb_model:.4f} {before.bpb:.4f}")
    for recipe in recipes or ("int8", "int6", "int4"):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "weights.ngq"
            quant.quantize_model(demo.network, recipe).save(path)
            network = copy.deepcopy(demo.network)
            quant.QuantizedModel.load(path).load_into(network)
            n_bytes = path.stat().st_size
        model = wrap(network, context=demo.context, tokenizer=demo.tokenizer, name=recipe)
        after = score(model, open_data([text]), ScoreConfig())
        print(f"{recipe:10} {after.bpb_model:.4f} {after.bpb:.4f} in {n_bytes:,} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
