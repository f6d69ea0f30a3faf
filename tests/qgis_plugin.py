"""The QGIS plugin: its modules that need no QGIS, and runs of its algorithms in a real QGIS."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.gis import alone, qgis_python

ROOT = Path(__file__).parents[1]
PLUGIN = ROOT / "qgis" / "outcrop"
_CHILD = Path(__file__).with_name("qgis_plugin_child.py")
_STUB = Path(__file__).with_name("outcrop_stub.py")


def build() -> ModuleType:
    """The script that builds the plugin."""
    return _load("build_qgis_plugin", ROOT / "qgis" / "build.py")


def module(name: str) -> ModuleType:
    """A module of the plugin that imports nothing of QGIS.

    In QGIS the plugin is called outcrop, as the library is here.
    """
    if "qgis_plugin_of_outcrop" not in sys.modules:
        _load("qgis_plugin_of_outcrop", PLUGIN / "__init__.py", [str(PLUGIN)])
    return importlib.import_module(f"qgis_plugin_of_outcrop.{name}")


def _load(name: str, path: Path, packages: list[str] | None = None) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=packages)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def command(folder: Path) -> Path:
    """The `outcrop` command of this checkout, as a program of its own."""
    lines = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r})",
        "if __name__ == '__main__':",
        "    from outcrop.cli import main",
        "    sys.exit(main())",
    )
    return _program(folder / "outcrop", "\n".join(lines))


def stub(folder: Path) -> Path:
    """A program in place of `outcrop`, which keeps what it is called with."""
    return _program(folder / "stub", _STUB.read_text("utf-8"))


def _program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{sys.executable}\n{text}\n", "utf-8")
    path.chmod(0o755)
    return path


def run_tasks(tasks: list[dict], outcrop: Path) -> list[dict]:
    """What algorithms of the plugin give in QGIS (`qgis_plugin_child.py`); skips without QGIS."""
    python = qgis_python()
    if python is None:
        pytest.skip("QGIS is not installed")
    with alone(OUTCROP_COMMAND=str(outcrop), OMP_NUM_THREADS="1") as environment:
        done = subprocess.run(
            [python, _CHILD, PLUGIN.parent], input=json.dumps(tasks), env=environment,
            capture_output=True, text=True, timeout=500,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def qgis_process(*words: object, outcrop: Path) -> subprocess.CompletedProcess[str]:
    """Run `qgis_process` with the plugin installed and enabled; skips where it is not there."""
    # The script of Debian 12 gives an option that the program does not know.
    names = ("qgis_process.bin", "qgis_process")
    found = [shutil.which(name, path="/usr/bin:/bin") for name in names]
    program = next(filter(None, found), None)
    if program is None or qgis_python() is None:
        pytest.skip("qgis_process is not installed")
    with alone(OUTCROP_COMMAND=str(outcrop), OMP_NUM_THREADS="1") as environment:
        profile = Path(environment["HOME"]) / ".local/share/QGIS/QGIS3/profiles/default"
        (profile / "python/plugins").mkdir(parents=True)
        (profile / "python/plugins/outcrop").symlink_to(PLUGIN)
        (profile / "QGIS").mkdir()
        (profile / "QGIS/QGIS3.ini").write_text("[PythonPlugins]\noutcrop=true\n")
        return subprocess.run(
            [program, *map(str, words)], env=environment, capture_output=True, text=True,
            timeout=300,
        )  # fmt: skip
