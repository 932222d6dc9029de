"""Train the demo's tokenizer: a lossless byte-level BPE."""

from __future__ import annotations

import json

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from eval.demo.training.stdlib_text import StdlibText

BOS = "<|bos|>"  # begins a document; its id is 0


def train_tokenizer(documents: list[StdlibText], vocab_size: int) -> Tokenizer:
    """Train a byte-level BPE on the prose and an eighth of the sources.

    Every byte has a token, so that any UTF-8 text is encoded without loss. `BOS` is in the
    vocabulary, but no text is encoded to it.

    Parameters
    ----------
    documents : list of StdlibText
        The first eighth of the sources is used.
    vocab_size : int
        Number of tokens, including `BOS` and the 256 bytes.

    Returns
    -------
    Tokenizer
        Without a normalizer; words are split by the pattern of GPT-2.
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
    # An added token would be recognized in texts that contain BOS; a plain entry is not.
    plain = json.loads(tokenizer.to_str())
    plain["added_tokens"] = []
    return Tokenizer.from_str(json.dumps(plain))
