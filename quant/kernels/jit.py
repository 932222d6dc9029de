"""The decorator of all kernels: compiled, cached on disk, without the GIL.

Numba loads a kernel from its disk cache if the kernel's own file is unchanged, although constants
and kernels of other files are compiled into it. So the name under which a kernel is cached includes
a digest of every file of this folder.
"""

from functools import partial
from hashlib import blake2b
from importlib.resources import files
from pathlib import Path

from numba import njit


def _digest():
    """Return a hash of all sources of this folder, also inside a zip file: 8 hex digits."""
    sources = sorted(files(__package__).iterdir(), key=lambda file: file.name)
    contents = [source.read_bytes() for source in sources if source.name.endswith(".py")]
    return blake2b(b"\0".join(contents), digest_size=4).hexdigest()


DIGEST = _digest()


def jit(function=None, *, fastmath=False, inline="never", error_model="numpy"):
    """Compile `function`; cached on disk if its source is a file and a cache folder is writable.

    fastmath is False or a set of LLVM flags: {"reassoc", "nsz"} allows vectorized sums.
    error_model="numpy" does not check divisions, so that loops with a division can be vectorized.

    Numba refuses to decorate where no folder is writable (read-only installs without a home);
    there, and in zip files, a kernel is compiled again in each process.
    """
    options = {"fastmath": fastmath, "inline": inline, "error_model": error_model}
    if function is None:
        return partial(jit, **options)
    function.__qualname__ += f"_{DIGEST}"
    try:
        is_file = Path(function.__code__.co_filename).is_file()
        return njit(cache=is_file, nogil=True, **options)(function)
    except (RuntimeError, OSError):
        return njit(nogil=True, **options)(function)
