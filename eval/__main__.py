"""``python -m eval`` is the command ``ngrammix``."""

from eval.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
