from __future__ import annotations

import re
import shlex
from inspect import ismodule
from pathlib import Path

import pytest

import outcrop as oc
from outcrop.cli.commands import COMMANDS
from outcrop.cli.group import Group
from outcrop.cli.parser import parse
from tests.command_line import run

README = (Path(__file__).parents[1] / "README.md").read_text()
BASH = "\n".join(re.findall(r"```bash\n(.*?)```", README, re.S))
PYTHON = "\n".join(re.findall(r"```python\n(.*?)```", README, re.S))
LINES = [line for line in BASH.splitlines() if line.startswith("outcrop ")]


@pytest.mark.parametrize("line", LINES)
def test_commands_of_the_readme_are_understood(line):
    words = shlex.split(line)[1:]
    command, _ = parse(COMMANDS, words, "", "")
    named = COMMANDS[words[0]]
    assert command is (named.commands[words[1]] if isinstance(named, Group) else named)


def test_names_of_the_readme_are_public():
    assert LINES
    compile(PYTHON, "README.md", "exec")
    names = set(re.findall(r"\boc\.(\w+)", PYTHON))
    assert {"cut", "train", "map_scene", "BlockSplit"} <= names
    assert names <= set(oc.__all__)


def test_make_targets_of_the_readme_exist():
    targets = re.findall(r"^make (\w+)", BASH, re.M)
    makefile = (Path(__file__).parents[1] / "Makefile").read_text()
    assert targets == ["demo", "test"]
    assert all(f"\n{target}:" in makefile for target in targets)


def test_no_package_takes_the_name_of_a_function():
    # `import outcrop.audit` would put a package in the place of `outcrop.audit(patches)`.
    modules = {path.stem for path in Path(oc.__file__).parent.iterdir()}
    assert all(ismodule(getattr(oc, name)) for name in modules & set(oc.__all__))


def test_the_steps_of_the_readme_run_one_after_the_other(tmp_path, monkeypatch):
    """All but the two that train networks: parsing alone does not show that a step is missing."""
    import geopandas as gpd

    monkeypatch.chdir(tmp_path)
    coast = oc.make_coast(tmp_path / "coast", images=1, size=240, seed=1)
    Path(coast.scenes[0]).rename("scene.tif")
    gpd.read_file(coast.labels).rename(columns={"class": "crop"}).to_file("fields.gpkg")
    steps = [line for line in LINES if line.split()[1] not in ("experiment", "compare")]
    assert [line.split()[1] for line in steps] == ["patches", "split", "audit", "train", "map"]
    for line in steps:
        assert run(line.removeprefix("outcrop ")) in ((0, 1) if " audit " in line else (0,)), line
    assert Path("classes.tif").exists()
    assert Path("confidence.tif").exists()
