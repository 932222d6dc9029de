"""``python -m eval`` is the command ``ngrammix``."""

import sys

from eval.shadowing import check_packages

if __name__ == "__main__":
    try:
        check_packages()  # before the command is imported, which needs them all
    except ImportError as error:
        sys.stderr.write(f"ngrammix: error: {error}\n")
        raise SystemExit(2) from None
    from eval.cli import program

    program()
