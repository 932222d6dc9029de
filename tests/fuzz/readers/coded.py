"""Reader of coded tokens: the files of a round trip, with a right checksum."""

from itertools import islice
from pathlib import Path

from tests.fuzz.reader import Reader, write
from tests.fuzz.verdict import WrongError

MAX_VOCAB = 1000  # a larger distribution takes too long
N_TOKENS = 50  # decoded of each file
# Of a file that is decoded whole. Equal tokens take hardly a bit, so the smallest file may hold
# millions of them: it is decoded as long as it was coded.
MAX_TOKENS = 200


def read_coded(data: bytes, folder: Path) -> None:
    """A file that is read holds documents of its tokens; what is decoded are tokens."""
    from eval.auditing.codec import coded_file
    from eval.auditing.codec.audit_codec import decode_file
    from eval.auditing.codec.round_trip import decode
    from eval.auditing.codec.steppers import CacheStepper
    from ngrammix import NgramCache

    path = write(folder, signed(data))
    file = coded_file.read(path)
    if file.vocab_size <= MAX_VOCAB:
        scorer = CacheStepper(NgramCache(vocab_size=file.vocab_size), file.layout)
        for decoded in islice(decode(scorer, file.code, file.n_tokens), N_TOKENS):
            if decoded.token is not None and not 0 <= decoded.token < file.vocab_size:
                raise WrongError(f"token {decoded.token} of {file.vocab_size}")
    if file.n_tokens <= MAX_TOKENS:
        decode_file(path)


def signed(data: bytes) -> bytes:
    """A file with the right checksum: what is read of it is the input otherwise."""
    from eval.auditing.codec.coded_file import CHECK_BYTES, HEAD, check_of

    start, rest = data[: HEAD.size - CHECK_BYTES], data[HEAD.size :]
    return start + check_of(start, rest) + rest


READERS = {"coded-tokens": Reader(read_coded)}
