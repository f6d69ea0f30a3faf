"""The wheel and the sdist hold everything, and work where nothing else of the repository is."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with the wheel and the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", folder],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    return folder


def files() -> set[str]:
    return {
        str(path.relative_to(SOURCE))
        for path in (SOURCE / "outcrop").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_both_hold_all_files(built):
    (wheel,) = built.glob("*.whl")
    (sdist,) = built.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("outcrop/")}
    assert packed == files()
    assert "outcrop/py.typed" in packed
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {f"src/{name}" for name in files()} <= names
    assert {"pyproject.toml", "README.md", "LICENSE"} <= names


@pytest.mark.parametrize("kind", ["*.whl", "*.tar.gz"])
def test_it_works_in_an_environment_of_its_own(built, tmp_path, kind):
    """With the libraries of this environment, and outcrop from the built file alone."""
    (file,) = built.glob(kind)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    python = tmp_path / "env" / "bin" / "python"
    where = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    how = ["--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check"]
    # The build backend of the sdist, and the libraries; editable installs are links, and stay out.
    libraries = Path(sysconfig.get_path("purelib"))
    for path in libraries.iterdir():
        if "outcrop" not in path.name and path.suffix != ".pth":
            (Path(where) / path.name).symlink_to(path)
    subprocess.run([*pip, *how, file], check=True)
    program = """if True:
        import outcrop as oc
        from outcrop.cli import main
        assert "site-packages" in oc.__file__ and "env" in oc.__file__, oc.__file__
        assert main(["synthetic", "coast", "-o", "coast", "--images", "1", "--size", "120"]) == 0
        assert main(["reproduce"]) == 0
    """
    done = subprocess.run([python, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shown = subprocess.run(
        [tmp_path / "env" / "bin" / "outcrop", "--version"], check=True, capture_output=True
    )
    assert shown.stdout.strip()
