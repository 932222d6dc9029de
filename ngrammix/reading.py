"""Files that the system refuses to read: the error names the file and what helps."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RIGHTS = "get the right to read it"
MENDS = {errno.EACCES: RIGHTS, errno.EPERM: RIGHTS, errno.EIO: "check its disk"}


@contextmanager
def read_errors(path: str | Path, kind: type[ValueError] = ValueError) -> Iterator[None]:
    """Raise an OSError of the block as an error of this kind that names the file `path`.

    The system itself says what is wrong with an open file, but not which file it is.
    """
    try:
        yield
    except OSError as error:
        raise kind(
            f"{path} must be readable, got an error of the system: {error.strerror or error}; "
            f"{MENDS.get(error.errno or 0, 'check the path')}"
        ) from error
