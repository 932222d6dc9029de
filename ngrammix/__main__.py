"""The command ``ngrammix``, also as ``python -m ngrammix``: it is `eval.cli`, beside this package.

This is the one file of the package that looks upwards. `eval` and `quant` are names that others use
too: a user's ``eval.py`` in the current directory, or on PYTHONPATH, comes before ours. So the two
are imported from beside this package first; a module that is imported is not searched again.
"""

import sys
from importlib import import_module
from pathlib import Path


def main() -> None:
    """Run the command line, and end the process."""
    root = str(Path(__file__).resolve().parents[1])
    sys.path.insert(0, root)
    for package in ("quant", "eval"):
        import_module(package)
    sys.path.remove(root)
    import_module("eval.cli").program()


if __name__ == "__main__":
    main()
