"""lm-evaluation-harness on documents of your own, with the cache and without.

    python examples/lm_eval_harness.py path/to/model pages.jsonl

Every line of the file is an object with the key "text".
"""

import sys

import lm_eval
import torch
from lm_eval.api.task import ConfigurableTask

from eval.plugins.lm_eval import MixedLM


def pages_task(path: str) -> ConfigurableTask:
    """A perplexity task of the harness over the lines of a JSON file."""
    return ConfigurableTask(
        config={
            "task": "pages",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": path}},
            "test_split": "test",
            "output_type": "loglikelihood_rolling",
            "doc_to_text": "",
            "doc_to_target": "{{text}}",
            "metric_list": [{"metric": "bits_per_byte"}],
        }
    )


def main(folder: str, path: str) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for cache in (False, True):
        model = MixedLM(folder, cache=cache, device=device, batch_size=4)
        results = lm_eval.simple_evaluate(model=model, tasks=[pages_task(path)], bootstrap_iters=0)
        bits = results["results"]["pages"]["bits_per_byte,none"]
        print(f"cache={cache}: {bits:.4f} bits per byte")


if __name__ == "__main__":
    main(*sys.argv[1:])
