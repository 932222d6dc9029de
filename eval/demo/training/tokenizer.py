"""Train the demo's tokenizer: a lossless byte-level BPE."""

from __future__ import annotations

import json

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from eval.demo.training.stdlib_text import StdlibText

BOS = "<|bos|>"  # begins a document; its id is 0


def train_tokenizer(documents: list[StdlibText], vocab_size: int) -> Tokenizer:
    """A byte-level BPE of the documents' prose and of an eighth of the library's sources.

    Every byte has a token, so any UTF-8 text comes back whole. `BOS` is in the vocabulary,
    but no text is ever encoded to it.

    Parameters
    ----------
    documents : list of StdlibText
        In an order that chooses the eighth.
    vocab_size : int
        Tokens, `BOS` and the 256 bytes included.

    Returns
    -------
    Tokenizer
        Without a normalizer; GPT-2's pattern cuts the text into words.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[BOS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    sources = [d.text for d in documents if d.kind == "source"]
    prose = [d.text for d in documents if d.kind in ("docstring", "prose", "comment")]
    tokenizer.train_from_iterator(prose + sources[: len(sources) // 8], trainer)
    # As an added token BOS would be cut out of texts that contain it; as a plain entry it is not.
    plain = json.loads(tokenizer.to_str())
    plain["added_tokens"] = []
    return Tokenizer.from_str(json.dumps(plain))
