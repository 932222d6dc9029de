"""``ngrammix demo``: score the Python language reference with the embedded model."""

import argparse
from functools import partial

from eval.commands.score import report
from eval.config import RunConfig, make_config
from eval.data.document import Document, Documents
from eval.demo.reference_text import reference_text
from eval.files.lock import hold
from eval.models.load_model import load_demo
from eval.scoring.run import check_folder
from eval.scoring.score import score


def run(arguments: argparse.Namespace) -> None:
    """Score the text, write the result under --out, and print it."""
    config = make_config(RunConfig, vars(arguments) | {"out": None})
    name = "the Python language reference (pydoc_data.topics)"
    with hold(out=arguments.out):
        check_folder(arguments.out, write_tokens=config.tokens, overwrite=config.overwrite)
        score(
            load_demo(),
            Documents([Document(name, reference_text())]),
            config,
            out=arguments.out,
            write_tokens=config.tokens,
            write_report=True,
            overwrite=config.overwrite,
            on_result=partial(report, as_json=arguments.json),
            progress=True,
        )
