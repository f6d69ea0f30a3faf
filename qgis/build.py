"""Build the QGIS plugin: describe the commands for it, and write the zip file that QGIS installs.

For the Python of the project, where outcrop is installed; the plugin itself runs in that of QGIS.
Run it with `python -P`: the plugin beside this file has the same name as the library.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin

from outcrop import __version__
from outcrop.cli.commands import COMMANDS
from outcrop.cli.options import (
    REQUIRED,
    Option,
    choices_of,
    item_type,
    nullable,
    options_of,
    summary,
)

ROOT = Path(__file__).resolve().parents[1]
PLUGIN = ROOT / "qgis" / "outcrop"
USED = (
    *("experiment", "patches", "split", "audit", "train"),
    *("map", "sample", "assess", "report"),
)
"""The commands that the plugin runs."""


def described() -> dict[str, Any]:
    """The commands and their options, as `commands.json` has them."""
    commands = {}
    for name in USED:
        command = COMMANDS[name]
        options = [_option(one) for one in options_of(command).values()]  # type: ignore[arg-type]
        commands[name] = {"summary": summary(command), "options": options}
    return {"outcrop": __version__, "commands": commands}


def _option(option: Option) -> dict[str, Any]:
    item = item_type(option.hint)
    default = None if option.default is REQUIRED else option.default
    return {
        "name": option.name,
        "type": _type(item or option.hint),
        "list": item is not None,
        "choices": list(choices_of(item or option.hint)),
        "required": option.default is REQUIRED,
        "nullable": nullable(option),
        "positional": option.positional,
        "default": list(default) if isinstance(default, tuple) else default,
        "panel": option.panel,
        "help": option.help or "",
    }


def _type(hint: Any) -> str:
    """The name of a simple type; a `Literal` is text."""
    (kind,) = [one for one in (get_args(hint) or (hint,)) if one is not NoneType][:1]
    if choices_of(hint) or get_origin(kind) is not None:
        return "str"
    return str(kind.__name__).lower()


def write_description(path: Path = PLUGIN / "commands.json") -> None:
    """Write `commands.json`."""
    path.write_text(json.dumps(described(), indent=1, ensure_ascii=False) + "\n", "utf-8")


def with_version(metadata: str) -> str:
    """The text of `metadata.txt` with the version of outcrop."""
    return re.sub(r"(?m)^version=.*$", f"version={__version__}", metadata)


def build_wheel(folder: Path) -> Path:
    """Build the wheel of outcrop that the plugin installs."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, ROOT]
    subprocess.run(list(map(str, command)), check=True)
    (wheel,) = folder.glob("outcrop-*.whl")
    return wheel


def write_zip(output: Path, wheel: Path | None) -> None:
    """Write the zip file, the same bytes for the same content.

    Args:
        wheel: wheel of outcrop to include.
    """
    files = {path.relative_to(PLUGIN).as_posix(): path for path in sorted(PLUGIN.rglob("*"))}
    files |= {"LICENSE": ROOT / "LICENSE"}
    if wheel is not None:
        files[f"wheels/{wheel.name}"] = wheel
    output.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in files.items():
            if path.is_file() and "__pycache__" not in path.parts:
                entry = zipfile.ZipInfo(f"outcrop/{name}", (2020, 1, 1, 0, 0, 0))
                entry.external_attr = 0o644 << 16
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, path.read_bytes())


def main(arguments: Sequence[str] | None = None) -> None:
    """Describe the commands, and write the zip file unless told otherwise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "dist")
    parser.add_argument("--describe", action="store_true", help="write commands.json only")
    asked = parser.parse_args(arguments)
    write_description()
    metadata = PLUGIN / "metadata.txt"
    metadata.write_text(with_version(metadata.read_text("utf-8")), "utf-8")
    if asked.describe:
        return
    output = asked.output / f"outcrop-qgis-{__version__}.zip"
    with tempfile.TemporaryDirectory() as folder:
        write_zip(output, build_wheel(Path(folder)))
    print(output)


if __name__ == "__main__":
    main()
