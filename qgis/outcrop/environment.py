"""Find the `outcrop` command, or make a Python environment that has it. Imports nothing of QGIS."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Callable

from .process import Message, OutcropFailed, Progress, clean_environment, error_of, run

SETTING = "OUTCROP_COMMAND"
"""Name of the setting, and of the environment variable that takes precedence over it."""

OLDEST_PYTHON = (3, 11)
_WINDOWS = os.name == "nt"
_HERE = Path(__file__).parent
# On pypi.org PyTorch is for CPUs on Windows and macOS, and for NVIDIA GPUs on Linux.
_CPU_WHEELS = "https://download.pytorch.org/whl/cpu"
_GPU_WHEELS = "https://download.pytorch.org/whl/cu128"
# Of a usual installation; for the progress bar only.
_PACKAGES = 75

NOT_FOUND = (
    "outcrop is not installed; run 'Set up outcrop' in the toolbox, or enter the path of the "
    "command in Settings > Options > Processing > Providers > outcrop"
)


@lru_cache(maxsize=1)
def description() -> dict[str, Any]:
    """The commands and options that this plugin was made for (`commands.json`)."""
    return json.loads((_HERE / "commands.json").read_text("utf-8"))


def default_folder() -> Path:
    """Where 'Set up outcrop' makes the environment unless another folder is given."""
    if _WINDOWS:
        data = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        data = Path.home() / "Library" / "Application Support"
    else:
        data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return data / "outcrop" / "qgis-environment"


def command_in(folder: Path) -> Path:
    """The command in a virtual environment."""
    return folder / ("Scripts/outcrop.exe" if _WINDOWS else "bin/outcrop")


def python_in(folder: Path) -> Path:
    """The Python of a virtual environment."""
    return folder / ("Scripts/python.exe" if _WINDOWS else "bin/python")


def find_command(setting: str = "") -> Path:
    """Find the `outcrop` command.

    It is, in this order: what the environment variable OUTCROP_COMMAND or the setting names, the
    command in the environment that 'Set up outcrop' has made, or the one on PATH.

    Args:
        setting: path of the command, or of a virtual environment that has it; may be empty.

    Raises:
        OutcropFailed: there is none.
    """
    named = os.environ.get(SETTING, "").strip() or setting.strip()
    if named:
        path = Path(named).expanduser()
        for one in (path, command_in(path)):
            if one.is_file():
                return one
        raise OutcropFailed(
            f"{named}: there is no outcrop command; correct the path in Settings > Options > "
            "Processing > Providers > outcrop, or leave it empty"
        )
    own = command_in(default_folder())
    if own.is_file():
        return own
    found = shutil.which("outcrop")
    if found is None:
        raise OutcropFailed(NOT_FOUND)
    return Path(found)


def check_version(command: Path) -> str:
    """The version of outcrop, if this plugin can use it.

    Raises:
        OutcropFailed: it does not start, or is older than the plugin needs.
    """
    try:
        done = subprocess.run(
            [str(command), "--version"], capture_output=True, encoding="utf-8", errors="replace",
            env=clean_environment(os.environ), stdin=subprocess.DEVNULL, timeout=120, check=False,
            **_without_window(),
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise OutcropFailed(f"{command}: cannot be started ({error}); check the path") from None
    found = version_in(done.stdout)
    if done.returncode or found is None:
        said = (done.stderr.strip().splitlines() or ["it printed no version"])[-1]
        raise OutcropFailed(f"{command}: does not work ({said}); run 'Set up outcrop' again")
    needed = description()["outcrop"]
    if _numbers(found) < _numbers(needed):
        raise OutcropFailed(
            f"{command}: is outcrop {found}, and this plugin needs {needed} or newer; "
            "run 'Set up outcrop', or update outcrop there"
        )
    return found


def version_in(text: str) -> str | None:
    """The version that `outcrop --version` prints.

    >>> version_in("0.2.1\\n")
    '0.2.1'
    """
    found = re.search(r"\d+(\.\d+)+\S*", text)
    return found and found.group()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def find_python(named: str = "") -> str:
    """A Python that can make the environment: the named one, QGIS's own, or one on PATH.

    Raises:
        OutcropFailed: there is none that is new enough.
    """
    if named:
        reason = _unfit(named)
        if reason:
            raise OutcropFailed(f"{named}: {reason}; choose another Python, or leave it empty")
        return named
    reasons = []
    for candidate in _pythons():
        reason = _unfit(candidate)
        if reason is None:
            return candidate
        reasons.append(f"{candidate} {reason}")
    raise OutcropFailed(
        f"no Python {'.'.join(map(str, OLDEST_PYTHON))} or newer was found "
        f"({', '.join(reasons[:3]) or 'none at all'}); install one from python.org and give its "
        "path as 'Python'"
    )


def _pythons() -> Iterator[str]:
    """Where a Python may be: QGIS's, then PATH, the newest version that is widely used first."""
    prefix = Path(sys.exec_prefix)
    own = [prefix / "python.exe"] if _WINDOWS else [prefix / "bin/python3", Path(sys.executable)]
    names = ["python3.13", "python3.12", "python3.11", "python3", "python"]
    found = [shutil.which(name) for name in names]
    if _WINDOWS:
        launchers = Path(os.environ.get("LOCALAPPDATA", "")) / "Programs" / "Python"
        own += sorted(launchers.glob("Python3*/python.exe"), reverse=True)
    seen = set()
    for one in [*own, *found]:
        if one and Path(one).is_file() and str(one) not in seen:
            seen.add(str(one))
            yield str(one)


def _unfit(python: str) -> str | None:
    """Why a Python cannot make the environment; None if it can."""
    program = "import sys, venv, ensurepip; print(sys.version_info[0], sys.version_info[1])"
    try:
        done = subprocess.run(
            [python, "-c", program], capture_output=True, encoding="utf-8", errors="replace",
            env=clean_environment(os.environ), stdin=subprocess.DEVNULL, timeout=60, check=False,
            **_without_window(),
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return "does not start"
    if done.returncode:
        return "has no venv and ensurepip (on Debian: python3-venv)"
    version = tuple(map(int, done.stdout.split()[-2:]))
    if version < OLDEST_PYTHON:
        return f"is Python {version[0]}.{version[1]}"
    return None


def _without_window() -> dict[str, Any]:
    return {"creationflags": getattr(subprocess, "CREATE_NO_WINDOW", 0)} if _WINDOWS else {}


def delivered_package() -> str:
    """The wheel of outcrop in the plugin, which pip installs by default.

    Raises:
        OutcropFailed: the plugin was not built by `make qgis-plugin`.
    """
    wheels = sorted((_HERE / "wheels").glob("outcrop-*.whl"))
    if not wheels:
        raise OutcropFailed(
            "this plugin comes without the wheel of outcrop; enter the path of a wheel, or of a "
            "folder with the source of outcrop, as 'What pip installs'"
        )
    return str(wheels[-1])


def setup_commands(
    python: str, folder: Path, package: str, cpu_only: bool, options: Sequence[str] = ()
) -> list[list[str]]:
    """The commands that make the environment, in order.

    Args:
        package: a wheel, folder or name that pip installs, with the extra `report`.
        cpu_only: take the smaller PyTorch, which uses no GPU.
        options: more options of pip.
    """
    pip = [str(python_in(folder)), "-m", "pip", "install", "--progress-bar", "off"]
    index: list[str] = []
    if cpu_only and sys.platform == "linux":
        index = ["--extra-index-url", _CPU_WHEELS]
    elif not cpu_only and _WINDOWS:
        index = ["--extra-index-url", _GPU_WHEELS]
    return [
        [python, "-m", "venv", "--clear", str(folder)],
        [*pip, "--upgrade", *index, *options, f"{package}[report]"],
    ]


def make_environment(
    commands: Sequence[Sequence[str]],
    folder: Path,
    on_line: Callable[[Progress | Message], None],
    is_cancelled: Callable[[], bool],
) -> Path | None:
    """Make the environment; each command is logged before it runs.

    A folder of which the making failed or was cancelled is removed.

    Returns:
        the `outcrop` command; None if it was cancelled.

    Raises:
        OutcropFailed: a command failed, or the folder has something else in it.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / "pyvenv.cfg").is_file():
        raise OutcropFailed(f"{folder}: has other files in it; choose an empty folder")
    whole = False
    try:
        for command in commands:
            on_line(Message("info", " ".join(command)))
            collected = 0

            def follow(line: Progress | Message | str) -> None:
                nonlocal collected
                text = getattr(line, "text", line)
                on_line(Message("info", text))
                if text.lstrip().startswith("Collecting "):
                    collected += 1
                    share = min(0.9 * collected / _PACKAGES, 0.9)
                    on_line(Progress(share, f"{collected} packages of about {_PACKAGES}"))

            done = run(command, follow, is_cancelled, patience=5, watch_output=True)
            if done.cancelled:
                return None
            if done.code:
                raise OutcropFailed(f"the environment could not be made: {error_of(done)}")
        check_version(command_in(folder))
        whole = True
        return command_in(folder)
    finally:
        if not whole:
            shutil.rmtree(folder, ignore_errors=True)
