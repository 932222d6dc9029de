"""``ngrammix demo``: score the Python language reference with the embedded model."""

import argparse

from eval.commands.score import report
from eval.config import RunConfig, make_config
from eval.data.document import Document, Documents
from eval.demo.reference_text import reference_text
from eval.models.load_model import load_demo
from eval.scoring.run import prepare_folder
from eval.scoring.score import score


def run(arguments: argparse.Namespace) -> None:
    """Score the text, write the result under --out, and print it."""
    config = make_config(RunConfig, vars(arguments) | {"out": None})
    prepare_folder(arguments.out, write_tokens=config.tokens, overwrite=config.overwrite)
    name = "the Python language reference (pydoc_data.topics)"
    data = Documents([Document(name, reference_text())])
    result = score(
        load_demo(),
        data,
        config,
        out=arguments.out,
        write_tokens=config.tokens,
        overwrite=config.overwrite,
        progress=True,
    )
    report(result, arguments.out, as_json=arguments.json)
