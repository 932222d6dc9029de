"""The walls of the house: who may import whom, where numba and torch live, how long a file gets."""

import importlib
import pkgutil

import pytest

from tools.structure import PACKAGES, ROOT, code_lines, imported, module_name

# From the ground up: a room imports only rooms that stand before it, in its own package or below.
ROOMS = [
    "ngrammix.version", "ngrammix.types", "ngrammix.escaping", "ngrammix.eager",
    "ngrammix.exclusive", "ngrammix.checks", "ngrammix.kernels",
    "ngrammix.atomic", "ngrammix.reading", "ngrammix.snapshot", "ngrammix.cache",
    "ngrammix.candidates", "ngrammix.overlaps", "ngrammix.observed", "ngrammix.distributions",
    "ngrammix.model_logprobs", "ngrammix.device_rows", "ngrammix.logits", "ngrammix.losses",
    "ngrammix.shifts", "ngrammix.token_scores", "ngrammix.experts", "ngrammix.mixer",
    "ngrammix.prefetching", "ngrammix.peers", "ngrammix.rank_mixer", "ngrammix.auditing",
    "ngrammix", "ngrammix.reference",
    "quant.types", "quant.kernels", "quant.base", "quant.numerics", "quant.io", "quant.quantizers",
    "quant.calibration", "quant.models", "quant",
    "eval.shadowing", "eval.types", "eval.terminal", "eval.tables", "eval.notes", "eval.files",
    "eval.interrupts", "eval.out_of_memory", "eval.ending", "eval.fields", "eval.quantizer_options",
    "eval.config",
    "eval.data", "eval.tokenizers", "eval.demo", "eval.models", "eval.scoring", "eval.auditing",
    "eval.comparing", "eval.distributed", "eval.plugins", "eval.plots", "eval.commands",
    "eval.bench", "eval.demo.training", "eval.cli", "eval.__main__", "eval",
]  # fmt: skip
NEVER = {
    "ngrammix": {"quant", "eval", "datasets", "zstandard", "tokenizers", "tqdm", "safetensors"},
    "quant": {"ngrammix", "eval"},
    "eval": {"numba"},
}
# What `quant` has of `ngrammix`: files are written in one way, threads are refused in one, and the
# versions that a result belongs to are told in one.
SHARED = {
    "ngrammix.atomic", "ngrammix.exclusive", "ngrammix.reading", "ngrammix.auditing.environment",
}  # fmt: skip
OF_TORCH = {"ngrammix.device_rows", "ngrammix.logits", "ngrammix.peers"}
MAX_CODE_LINES = 250
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
FACES = [ROOT / package / "__init__.py" for package in PACKAGES]


def name_of(path):
    return str(path.relative_to(ROOT))


def room_of(module):
    """The room of a module: the longest name of `ROOMS` that it begins with."""
    return max((room for room in ROOMS if f"{module}.".startswith(f"{room}.")), key=len)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_arrows_point_down(path):
    modules = imported(ROOT, path)
    roots = {module.partition(".")[0] for module in modules - SHARED}
    here = module_name(ROOT, path)
    package = here.partition(".")[0]
    assert not roots & NEVER[package]
    for module in modules:
        if module.partition(".")[0] in PACKAGES and room_of(module) != room_of(here):
            assert ROOMS.index(room_of(module)) < ROOMS.index(room_of(here)), f"imports {module}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_libraries_stay_in_their_rooms(path):
    roots = {module.partition(".")[0] for module in imported(ROOT, path)}
    here = module_name(ROOT, path)
    if roots & {"numba", "triton"}:
        assert room_of(here) in {"ngrammix.kernels", "quant.kernels"}
    if here.startswith("ngrammix"):
        assert "torch" not in roots or here in OF_TORCH
        assert "torch" not in {
            m.partition(".")[0] for m in imported(ROOT, path, at_import_time=True)
        }
    if room_of(here) == "ngrammix.reference":
        assert not roots & {"numpy", "numba"}
        assert all(room_of(m) == room_of(here) for m in imported(ROOT, path) if "ngrammix" in m)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_one_idea_a_file(path):
    assert code_lines(path) <= MAX_CODE_LINES


def test_there_is_no_import_circle():
    modules = {module_name(ROOT, path): imported(ROOT, path) for path in FILES}
    arrows = {name: (used & modules.keys()) - {name} for name, used in modules.items()}
    while leaves := {name for name, used in arrows.items() if not used & arrows.keys()}:
        arrows = {name: used for name, used in arrows.items() if name not in leaves}
    assert not arrows, f"a circle among {sorted(arrows)}"


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_bears_the_name_of_what_the_face_exports(package):
    face = importlib.import_module(package)
    modules = {module.name for module in pkgutil.iter_modules(face.__path__)}
    assert not modules & set(getattr(face, "__all__", ()))


@pytest.mark.parametrize("package", PACKAGES)
def test_the_faces_of_rooms_are_empty(package):
    for path in (ROOT / package).rglob("__init__.py"):
        # eval.tokenizers: the factory of a model imports its tokenizer from there.
        is_face = path.parent.parent == ROOT or path.parent.name in ("reference", "tokenizers")
        assert is_face or code_lines(path) == 0, name_of(path)
