"""The public names of the packages: each is there, and none is loaded before it is used."""

import subprocess
import sys

import pytest

import eval as face
import ngrammix
import quant

NAMES = {
    "ByteTokenizer", "Document", "Documents", "Result", "ScoreConfig", "audit_bytes",
    "audit_codec", "audit_log", "audit_model", "audit_self", "check_causality", "compare",
    "decode_file", "load_model", "load_tokenizer", "open_data", "read_cell", "score", "wrap",
}  # fmt: skip


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stderr == ""
    return done.stdout


def test_every_public_name_is_the_object_of_its_module():
    assert set(face.__all__) == NAMES
    assert set(dir(face)) >= NAMES
    for name in NAMES:
        thing = getattr(face, name)
        assert thing.__name__ == name
        assert thing.__module__.startswith("eval.")
        assert getattr(sys.modules[thing.__module__], name) is thing


def test_the_room_of_the_tokenizers_names_the_one_that_a_factory_needs():
    from eval.tokenizers import ByteTokenizer

    assert ByteTokenizer is face.ByteTokenizer


@pytest.mark.parametrize("package", [ngrammix, quant], ids=lambda package: package.__name__)
def test_the_lists_of_a_lazy_face_agree(package):
    assert set(package._MODULES) == set(package.__all__) - {"__version__"}
    assert set(dir(package)) >= set(package.__all__)
    for name, module in package._MODULES.items():
        assert getattr(package, name) is getattr(sys.modules[module], name)


@pytest.mark.parametrize("package", [face, ngrammix, quant], ids=lambda package: package.__name__)
def test_an_unknown_name_is_an_attribute_error(package):
    with pytest.raises(AttributeError) as error:
        package.scores  # noqa: B018
    assert str(error.value) == f"module '{package.__name__}' has no attribute 'scores'"


@pytest.mark.parametrize(
    "code",
    ["import eval", "import eval.cli", "import ngrammix; ngrammix.__version__", "import quant"],
)
def test_the_faces_and_the_command_line_load_no_library(code):
    heavy = (
        "numpy", "numba", "torch", "pyarrow", "datasets", "tokenizers", "matplotlib", "tqdm",
    )  # fmt: skip
    assert run(f"import sys\n{code}\nprint([m for m in {heavy} if m in sys.modules])") == "[]\n"


def test_a_command_loads_no_bench_and_no_other_command():
    code = (
        "import sys\n"
        "from eval.commands.parser import parser\n"
        "parser().parse_args(['score', '--data', 'a.txt'])\n"
        "prefix = ('eval.bench', 'eval.commands.')\n"
        "print(sorted(name for name in sys.modules if name.startswith(prefix)))\n"
    )
    loaded = ("audit_options", "benches", "option_groups", "options", "parser")
    assert run(code) == f"{[f'eval.commands.{name}' for name in loaded]}\n"
