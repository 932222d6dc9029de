"""Files that the system refuses to read: the error names the file and what helps."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MENDS = {errno.EACCES: "rights", errno.EPERM: "rights", errno.EIO: "disk"}


@contextmanager
def read_errors(path: str | Path, kind: type[ValueError] = ValueError) -> Iterator[None]:
    """Raise an OSError of the block as an error of this kind that names the file `path`.

    The system itself says what is wrong with an open file, but not which file it is.
    """
    try:
        yield
    except OSError as error:
        raise kind(
            f"a file must be readable, got {path} ({error.strerror or error}); "
            f"check its {MENDS.get(error.errno or 0, 'path')}"
        ) from error
