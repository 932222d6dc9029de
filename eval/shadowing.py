"""Modules that bear the names of our packages: `eval` and `quant` are names that others use too."""

import sys
from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("ngrammix", "quant", "eval")
ROOT = Path(__file__).resolve().parents[1]


def check_packages() -> None:
    """Raise ImportError, with the file, if another module hides a package of ours."""
    for name in PACKAGES:
        spec = find_spec(name)
        places = [] if spec is None else [spec.origin, *(spec.submodule_search_locations or ())]
        found = [place for place in places if place is not None]
        if not any(Path(place).resolve().is_relative_to(ROOT / name) for place in found):
            raise ImportError(
                f"{name} must be the package of ngrammix in {ROOT}, got "
                f"{found[0] if found else 'none'}, which hides it; rename that, or run from "
                "another directory"
            )


def find_hidden(error: ImportError) -> str:
    """Sentence about a module of the user's that a package of ours hides; empty if none does."""
    name = (error.name or "").partition(".")[0]
    if name not in PACKAGES:
        return ""
    for folder in (Path.cwd(), *map(Path, sys.path)):
        for path in (folder / f"{name}.py", folder / name / "__init__.py"):
            if path.is_file() and not path.resolve().is_relative_to(ROOT / name):
                return f"{path} is hidden by the package {name} of ngrammix: rename it"
    return ""
