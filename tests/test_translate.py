"""Messages of the library name arguments of Python; the command line shows its own options."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import outcrop as oc
from outcrop.cli.commands import COMMANDS
from outcrop.cli.translate import as_options, command_named, option_named
from outcrop.errors import OutcropError
from outcrop.progress import log_to_console, warn
from outcrop.training.folder import _KINDS
from tests.command_line import run

PACKAGE = Path(oc.__file__).parent
# Commands of the wings, and texts of pages, which show commands to repeat or to go on.
COMMAND_LINE = (
    *("cli/", "generative/commands.py", "locating/commands.py", "synthetic/commands.py"),
    *("reporting/repeat.py", "generative/report.py", "workflow/reproduce.py"),
)
ADVICE = ("auditing/", "generative/findings.py", "reporting/")
SAID = ("OutcropError", "NoGridError", "Stopped", "warn", "tell", "decoding", "need", "check_new")
NAMED = re.compile(r"`(?:([a-z_]\w*)(?:=[^`]+)?|outcrop\.([^`(]+)[^`]*)`")
# Names that stand in backticks and are no arguments of outcrop.
OTHER = {"X", "trusted"}
# The name of a file format.
FORMAT = "outcrop split"


def texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and text of each string; of an f-string with {} for its values."""
    inside = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            inside |= {id(part) for part in ast.walk(node)} - {id(node)}
            parts = [part.value if isinstance(part, ast.Constant) else "{}" for part in node.values]
            yield node.lineno, "".join(parts)
    for node in ast.walk(tree):
        alone = isinstance(node, ast.Constant) and id(node) not in inside
        if alone and isinstance(node.value, str):
            yield node.lineno, node.value


def parsed(path: Path) -> ast.AST:
    """A module without its docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [
                one
                for one in node.body
                if not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))
            ]
    return tree


def calls(tree: ast.AST, *names: str) -> list[ast.Call]:
    """The calls of functions with these names."""
    every = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [call for call in every if getattr(call.func, "id", "") in names]


def messages() -> Iterator[tuple[str, str]]:
    """Place and text of every string that can be part of an error or note of the library."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if name.startswith(COMMAND_LINE):
            continue
        tree = parsed(path)
        for root in calls(tree, *SAID) if name.startswith(ADVICE) else [tree]:
            for line, text in texts(root):
                yield f"{name}:{line}", text
        # `read_json` names the function that makes the file.
        for call in calls(tree, "read_json"):
            if isinstance(call.args[2], ast.Constant):
                yield f"{name}:{call.lineno}", f"`outcrop.{call.args[2].value}`"
    # It is one of these where models are read.
    for kind in _KINDS.values():
        yield f"training/folder.py:{kind.command}", f"`{kind.command}`"


def test_messages_of_the_library_have_no_options() -> None:
    faults = [
        f"{place}: {text}"
        for place, text in messages()
        if text != FORMAT
        and re.search(rf"(?<!-)--([a-z]|\{{|$)|`outcrop |outcrop ({'|'.join(COMMANDS)})\b", text)
    ]
    assert not faults, "\n".join(faults)


def arguments() -> set[str]:
    """The names of all functions, parameters and fields of outcrop."""
    found: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef):  # a method, such as `assign_all`
                found.add(node.name)
            elif isinstance(node, ast.arguments):
                found |= {one.arg for one in (*node.args, *node.kwonlyargs)}
            elif isinstance(node, ast.ClassDef):
                found |= {
                    one.target.id
                    for one in node.body
                    if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)
                }
    return found


def test_arguments_in_messages_exist_and_have_options() -> None:
    known, count, faults = arguments(), 0, []
    for place, text in messages():
        if text == "make one with `outcrop.{}`":  # of `read_json`
            continue
        for name, function in NAMED.findall(text):
            count += 1
            if function:
                public = hasattr(oc, function) or function in COMMANDS
                if function != "UserNet.of" and not (public and command_named(function)):
                    faults.append(f"{place}: outcrop.{function}")
            elif name not in OTHER and (name not in known or option_named(name) is None):
                faults.append(f"{place}: {name}")
    assert count > 200
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("`block`: must be more than 0", "--block: must be more than 0"),
        ("pass `bands=['B02', 'B 3']`", "pass --bands 'B02,B 3'"),
        ("pass `mask=['none']` or `nodata=0`", "pass --mask none or --nodata 0"),
        ("pass `resume=True`, not `flip=False`", "pass --resume, not --no-flip"),
        ("`n_splits`: with `random_state=3`", "--folds: with --seed 3"),
        ("`slices=[(0, 100, 200)]`", "--slices 0:100:200"),
        ("`zones=(1, 2, 3, 4)` or `zones='a.gpkg'`", "--boxes 1,2,3,4 or --zones a.gpkg"),
        ("continue with `split=/a/split.json`", "continue with --split /a/split.json"),
        ("`outcrop.cut` and `outcrop.splits`", "`outcrop patches` and `outcrop split`"),
        ("`outcrop.train_vaegan(resume=True)`", "`outcrop generative train --resume`"),
        ("`outcrop.reproduce(name)`", "`outcrop reproduce NAME`"),
        ("`outcrop.UserNet.of(nets:make)`", "--network nets:make"),
        ("`dask scheduler`, `torch.save`, `a b=c`", "`dask scheduler`, `torch.save`, `a b=c`"),
    ],
)
def test_arguments_become_options(text: str, shown: str) -> None:
    assert as_options(text) == shown


def test_the_own_options_of_a_command_come_first() -> None:
    assert as_options("`model` `patches`", COMMANDS["map"]) == "--ensemble --patches"
    assert as_options("`network`", COMMANDS["audit"]) == "--full"
    assert as_options("`network`", COMMANDS["train"]) == "--network"
    assert as_options("`patches`", COMMANDS["train"]) == "PATCHES"


def test_the_same_error_in_python_and_on_the_command_line(capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).integers(0, 9, (20, 1, 8, 8), dtype=np.uint8)
    np.savez("set.npz", images=images, labels=np.arange(20) % 2)
    with pytest.raises(OutcropError) as raised:
        oc.RandomSplit(n_splits=30).assign(oc.open_patches("set.npz"))
    assert str(raised.value) == "`n_splits`: are 30, more than the 20 patches; use fewer"
    assert run("split set.npz --by random --folds 30 -o split.json") == 2
    assert (
        capsys.readouterr().err == "outcrop: --folds: are 30, more than the 20 patches; use fewer\n"
    )


def test_notes_name_arguments_in_python_and_options_on_the_command_line(caplog, capsys) -> None:
    warn("pass `encoding`")
    assert caplog.messages == ["pass `encoding`"]
    with log_to_console(as_options):
        warn("pass `encoding`")
    assert capsys.readouterr().err.endswith("note: pass --encoding\n")
