"""``python -m eval`` is the command ``ngrammix``."""

import sys

from eval.shadowing import check_packages

if __name__ == "__main__":
    try:
        check_packages()  # before the command is imported, which needs them all
    except ImportError as error:
        text = str(error).encode("unicode_escape").decode()  # `escaped` may be hidden too
        sys.stderr.write(f"ngrammix: error: {text}\n")
        raise SystemExit(2) from None
    from eval.cli import program

    program()
