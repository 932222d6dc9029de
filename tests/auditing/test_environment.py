"""What an audit says of the machine that it ran on."""

import platform
from importlib.metadata import PackageNotFoundError, version

import pytest

import ngrammix
from ngrammix.auditing import environment as module
from ngrammix.auditing.environment import environment, hardware, processor, versions


def test_a_report_names_the_packages_and_the_machine():
    found = environment()
    assert found == {"versions": versions(), "hardware": hardware()}
    assert f"python {platform.python_version()}" in found["versions"]
    assert "numpy " in found["versions"]
    assert found["hardware"].startswith(platform.machine())
    assert found["hardware"].endswith(("core", "cores"))


def test_a_package_that_was_not_installed_has_a_version(monkeypatch):
    assert ngrammix.__version__ == version("ngrammix")

    def missing(package):
        raise PackageNotFoundError(package)

    monkeypatch.setattr(module, "version", missing)
    assert versions.__wrapped__() == (
        f"ngrammix {ngrammix.__version__}, python {platform.python_version()}"
    )


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (
            "processor\t: 0\nmodel name\t: A chip @ 2 GHz \nmodel name\t: another\n",
            "A chip @ 2 GHz",
        ),
        ("Features\t: fp asimd\n", "of the system"),
        (None, "of the system"),
    ],
)
def test_the_processor_is_named_where_the_system_tells(tmp_path, monkeypatch, content, name):
    monkeypatch.setattr(module, "CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(platform, "processor", lambda: "of the system")
    if content is not None:
        (tmp_path / "cpuinfo").write_text(content, encoding="utf-8")
    assert processor() == name
