"""Every shell and Python block of the documentation, without running it."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import subprocess
import sys
from itertools import pairwise, takewhile
from pathlib import Path
from types import SimpleNamespace

import pytest

import outcrop as oc
from outcrop.cli.commands import COMMANDS
from outcrop.cli.group import Group
from outcrop.cli.parser import parse

DOCS = Path(__file__).parents[1] / "docs"
# Made by the build, from docstrings and scripts that are tested elsewhere.
MADE = ("_build", "gallery", "reference/commands")
VARIABLE = re.compile(r"[A-Z_]+=")
ENDS = ("|", ">", ">>", "&&", ";", "&")
PAGES = [
    page
    for page in sorted(DOCS.rglob("*.md"))
    if not page.relative_to(DOCS).as_posix().startswith(MADE)
]


def blocks(language):
    """Page, and text of each of its blocks in a language."""
    found = [
        (page.relative_to(DOCS).as_posix(), block)
        for page in PAGES
        for block in re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.S)
    ]
    return [pytest.param(*one, id=f"{one[0]}:{number}") for number, one in enumerate(found)]


def commands(text):
    """The words after `outcrop` of each command of a shell block."""
    for line in text.replace("\\\n", " ").splitlines():
        words = [word for word in shlex.split(line, comments=True) if not VARIABLE.match(word)]
        if words[:1] == ["outcrop"] or ["-m", "outcrop"] in map(list, pairwise(words)):
            after = words[words.index("outcrop") + 1 :]
            yield list(takewhile(lambda word: word not in ENDS, after))


@pytest.mark.parametrize(("page", "text"), blocks("bash"))
def test_commands_of_the_pages_are_understood(page, text, monkeypatch, tmp_path):
    # What commands of the pages read: a module with a network, and a config file.
    monkeypatch.setitem(sys.modules, "nets", SimpleNamespace(small=lambda bands, classes: None))
    plan = tmp_path / "results" / "experiment.yaml"
    plan.parent.mkdir()
    plan.write_text(oc.Experiment(["scene.tif"], ["labels.gpkg"]).to_yaml())
    monkeypatch.chdir(tmp_path)
    for words in commands(text):
        if words[0].startswith("-"):  # --help, --version, --completion
            continue
        named = COMMANDS[words[0]]
        wanted = named.commands[words[1]] if isinstance(named, Group) else named
        if "--help" in words or "--help-all" in words:
            continue
        command, _ = parse(COMMANDS, words, "", "")
        assert command is wanted


@pytest.mark.parametrize(("page", "text"), blocks("python"))
def test_names_and_arguments_of_the_pages_exist(page, text):
    tree = ast.parse(text, page)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (name := public_name(node)) is not None:
            assert public(name) is not None
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (name := public_name(node.func)) is not None:
            check_arguments(public(name), node)


def public_name(node):
    """The names after `oc`, or None: `oc.metrics.score` gives ["metrics", "score"]."""
    names = []
    while isinstance(node, ast.Attribute):
        names.insert(0, node.attr)
        node = node.value
    return names if isinstance(node, ast.Name) and node.id == "oc" and names else None


def public(names):
    assert names[0] in oc.__all__, f"outcrop has no public name {names[0]}"
    found = oc
    for name in names:
        if name is not names[0] and not inspect.ismodule(found):
            break  # an attribute of an object: methods are not followed
        found = getattr(found, name)
    return found


def check_arguments(function, call):
    """Bind the arguments of a call to the signature of the function."""
    if any(isinstance(one, ast.Starred) for one in call.args):
        return
    keywords = {one.arg: None for one in call.keywords if one.arg is not None}
    if len(keywords) == len(call.keywords):
        inspect.signature(function).bind(*call.args, **keywords)


def test_pages_are_found():
    assert {"index.md", "howto/index.md"} <= {page.relative_to(DOCS).as_posix() for page in PAGES}
    assert blocks("bash")
    assert blocks("python")


def test_tutorials_use_names_and_arguments_that_exist():
    """They run when the site is built; mypy finds a renamed function or argument in seconds."""
    root = DOCS.parent
    words = [sys.executable, "-m", "mypy", "--config-file", root / "pyproject.toml"]
    words += ["--cache-dir", root / ".mypy_cache", *sorted((DOCS / "tutorials").glob("*.py"))]
    lines = subprocess.run(words, capture_output=True, text=True, cwd=root).stdout.splitlines()
    codes = ("[call-arg]", "[attr-defined]", "[name-defined]", "[import-not-found]", "[misc]")
    assert lines
    assert not [line for line in lines if line.endswith(codes)]


def test_broken_links_are_found(tmp_path):
    (tmp_path / "a.md").write_text("# One two\n[b](b.html#x), [self](#one-two), [web](https://x.y)")
    (tmp_path / "b.html").write_text('<p id="x"><a href="a.md#one">1</a><img src="c.png"></p>')
    check = [sys.executable, "docs/check_links.py", str(tmp_path), str(tmp_path / "a.md")]
    found = subprocess.run(check, cwd=DOCS.parent, capture_output=True, text=True, check=False)
    lines = [line.rpartition("/")[2] for line in found.stdout.splitlines()]
    assert lines == ["b.html: a.md#one leads nowhere", "b.html: c.png leads nowhere"]
    assert found.returncode == 1
    (tmp_path / "b.html").write_text('<p id="x"></p>')
    assert subprocess.run(check, cwd=DOCS.parent, check=False).returncode == 0
