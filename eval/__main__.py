"""``python -m eval`` is the command ``ngrammix``."""

from eval.cli import program

if __name__ == "__main__":
    program()
