"""The walls of the house: who may import whom, where numba and torch live, how long a file gets."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(
    path for name in ("ngrammix", "quant", "eval") for path in (ROOT / name).rglob("*.py")
)
NEVER = {
    "ngrammix": {"quant", "eval", "datasets", "zstandard", "tokenizers", "tqdm", "safetensors"},
    "quant": {"ngrammix", "eval"},
    "eval": {"numba"},
}
MAX_LINES = 300


def imports(path, *, at_import_time=False):
    """Modules that a file imports; relative imports as '.'."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if at_import_time else ast.walk(tree)
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add("." if node.level else node.module)
    return names


def name_of(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_arrows_point_down(path):
    modules = imports(path)
    roots = {module.partition(".")[0] for module in modules}
    package = path.relative_to(ROOT).parts[0]
    assert "" not in roots, "relative import"
    assert not roots & NEVER[package]
    relative = path.relative_to(ROOT)
    if "numba" in roots:
        assert relative.parts[:2] in {("ngrammix", "kernels"), ("quant", "kernels")}
    if package == "ngrammix":
        assert "torch" not in roots or relative.name == "logits.py"
        assert "torch" not in imports(path, at_import_time=True)
    if relative.parts[:2] == ("ngrammix", "kernels"):
        assert {m for m in modules if m.startswith("ngrammix")} <= {
            "ngrammix.kernels.jit", "ngrammix.kernels.find", "ngrammix.kernels.hints"
        }  # fmt: skip
    if relative.parts[:2] == ("ngrammix", "reference"):
        assert not roots & {"numpy", "numba"}
        assert all(m.startswith("ngrammix.reference.") for m in modules if "ngrammix" in m)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_one_idea_a_file(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


def test_there_is_no_import_circle():
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): imports(path) for path in FILES
    }
    arrows = {name: used & modules.keys() for name, used in modules.items()}
    while leaves := {name for name, used in arrows.items() if not used & arrows.keys()}:
        arrows = {name: used for name, used in arrows.items() if name not in leaves}
    assert not arrows, f"a circle among {sorted(arrows)}"
