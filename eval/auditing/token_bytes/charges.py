"""Charges: how many bytes a harness charges to each token, in the forms that harnesses have."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from eval.auditing.token_bytes.vocabulary import Vocabulary
from eval.data.arrays import open_array
from eval.data.token_formats import open_integers
from eval.types import Floats, Tokens
from ngrammix.checks import as_int

PER = ("id", "token")
FORMS = (
    "token_bytes must be V numbers, one a token of the text, a function of an id, the three arrays "
    "of Parameter Golf, a .npy file, or the number of all bytes"
)


class Table:
    """Bytes of each id, whatever stands before it."""

    def __init__(self, entries: Floats) -> None:
        self.entries = entries

    def of(self, tokens: Tokens, before: int | None) -> Floats:
        """The bytes charged to tokens (T,): (T,) float64; 0 beyond the table.

        `before`: the token before the first, or None.
        """
        return self.entry(tokens)

    def entry(self, ids: Tokens) -> Floats:
        """The bytes charged to ids (N,) in the middle of a text: (N,) float64."""
        charged = np.zeros(len(ids))
        known = ids < len(self.entries)
        charged[known] = self.entries[ids[known]]
        return charged


class SpaceTable(Table):
    """The three arrays of Parameter Golf: bytes, whether a space stands before them, boundaries.

    The space is charged unless the token before is a boundary.
    """

    def __init__(self, entries: Floats, space: Floats, boundary: Floats) -> None:
        super().__init__(entries)
        self._space, self._boundary = Table(space), Table(boundary)

    def of(self, tokens: Tokens, before: int | None) -> Floats:
        """The bytes charged to tokens (T,), the first of which stands after `before`."""
        after = self._boundary.entry(tokens[:-1]) != 0
        first = before is None or self._boundary.entry(np.array([before]))[0] != 0
        is_text = ~np.concatenate([[first], after]) if len(tokens) else np.zeros(0, bool)
        charged: Floats = super().entry(tokens) + self._space.entry(tokens) * is_text
        return charged

    def entry(self, ids: Tokens) -> Floats:
        """The bytes charged to ids (N,) in the middle of a text, with the space before them."""
        return super().entry(ids) + self._space.entry(ids)


class Function:
    """A function from an id to its bytes, or to their number; called once for each id."""

    def __init__(self, call: Callable[[int], Any]) -> None:
        self._call = call
        self._known: dict[int, float] = {}

    def of(self, tokens: Tokens, before: int | None) -> Floats:
        """The bytes charged to tokens (T,): (T,) float64."""
        return self.entry(tokens)

    def entry(self, ids: Tokens) -> Floats:
        """The bytes charged to ids (N,): (N,) float64; ValueError if the function raises."""
        for i in set(ids.tolist()) - self._known.keys():
            try:
                self._known[i] = number_of(self._call(i))
            except Exception as error:  # of a user's function: any kind
                text = " ".join(str(error).split())[:200]
                raise ValueError(
                    f"token_bytes must give a number for every id, got {type(error).__name__} "
                    f"({text}) for {i}; correct the function"
                ) from error
        return np.array([self._known[i] for i in ids.tolist()], np.float64)


class Sequence:
    """Bytes of each token of the whole text, in its order."""

    def __init__(self, numbers: Floats) -> None:
        self.numbers = numbers


class Total:
    """The number of bytes of the whole text."""

    def __init__(self, n_bytes: int) -> None:
        self.n_bytes = n_bytes


PerId = Table | SpaceTable | Function
Charges = PerId | Sequence | Total


def number_of(value: Any) -> float:
    """The number of bytes that a function or a mapping gives for one id: bytes, or a number."""
    return float(len(value)) if isinstance(value, bytes | bytearray) else float(value)


def read_charges(
    source: Any, vocabulary: Vocabulary, lengths: tuple[int, int], per: str | None
) -> Charges:
    """What a user passes as ``token_bytes``.

    Parameters
    ----------
    source : object
        An array, list or file of V numbers, or of one a token; a function or a mapping from ids; a
        tuple of three arrays; an int, which is the number of all bytes.
    vocabulary : Vocabulary
        Tells V.
    lengths : (int, int)
        Tokens of the text, without and with a BOS before each document.
    per : str or None
        ``id`` or ``token``: which of the two an array is. None: its length tells.

    Raises
    ------
    ValueError
        If it is none of these, or may be two of them.
    """
    if per is not None and per not in PER:
        raise ValueError(f"token_bytes_per must be id or token, got {per!r}; leave it out")
    if (total := as_int(source)) is not None and np.ndim(source) == 0:
        return Total(total)
    if isinstance(source, Mapping):
        return Function(lambda i: source.get(i, 0))
    if isinstance(source, tuple) and len(source) == 3 and all(np.ndim(a) == 1 for a in source):
        return SpaceTable(*(numbers_of(array) for array in source))
    if isinstance(source, str | os.PathLike):
        source = read_numbers(Path(source))
    elif callable(source) and not hasattr(source, "shape"):
        return Function(source)
    numbers = numbers_of(source)
    n, is_sequence = len(numbers), per == "token"
    if per is None:
        is_sequence = n in lengths and n != vocabulary.size
        if n == lengths[0] == vocabulary.size:
            raise ValueError(
                f"token_bytes must be of each token or of each id, got {n} numbers for {n} tokens "
                f"of a vocabulary of {n}; pass token_bytes_per='token' or 'id'"
            )
    return Sequence(numbers) if is_sequence else Table(numbers)


def read_numbers(path: Path) -> Any:
    """The numbers of a ``.npy`` or ``.bin`` file."""
    if path.suffix.lower() == ".bin":
        return open_integers(str(path), "token_bytes")
    if path.suffix.lower() != ".npy":
        raise ValueError(
            f"token_bytes must be a .npy or a .bin file, got {path}; save the numbers with "
            "numpy.save"
        )
    return open_array(path, "token_bytes")


def numbers_of(source: Any) -> Floats:
    """The numbers (N,) of an array, a list, a tensor, or a list of arrays, one a document."""
    if hasattr(source, "detach"):  # of torch; bfloat16 is none of NumPy's dtypes
        source = source.detach().cpu()
        source = source.double() if source.is_floating_point() else source
        source = source.numpy()
    if isinstance(source, list | tuple) and source and all(isinstance(b, bytes) for b in source):
        source = list(map(len, source))
    if isinstance(source, list | tuple) and source and all(np.ndim(part) == 1 for part in source):
        source = np.concatenate([np.asarray(part) for part in source])
    try:
        array = np.asarray(source)
    except (ValueError, TypeError) as error:  # ragged lists
        raise ValueError(f"{FORMS}, got {error}; pass one of these") from error
    if array.ndim != 1 or (array.dtype.kind not in "iufb" and array.size):
        raise ValueError(
            f"{FORMS}, got {type(source).__name__} of shape {array.shape} and dtype "
            f"{array.dtype}; pass one of these"
        )
    return array.astype(np.float64)
