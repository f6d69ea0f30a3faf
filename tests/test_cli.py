from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from outcrop.cli.parser import parse


@dataclass(frozen=True)
class Turns:
    """What may be turned.

    Attributes:
        flip: whether to mirror.
        rotate: whether to turn.
    """

    flip: bool = True
    rotate: bool | None = None


@dataclass(frozen=True)
class Plan:
    """A plan.

    Attributes:
        scenes: the scenes.
        epochs: how many passes.
        schedule: which schedule.
        turns: what may be turned.
    """

    scenes: list[str]
    epochs: int = 30
    schedule: Literal["cosine", "step"] = "cosine"
    turns: Turns = field(default_factory=Turns)


def cut(
    scenes: list[str],
    *,
    labels: list[str],
    output: Path,
    plan: Plan,
    per_class: int | None = None,
    bands: list[int] | None = None,
    block: float = 1.0,
    resume: bool = False,
) -> None:
    """Cut patches.

    Args:
        scenes: raster files.
        labels: labels of them.
        output: where to.
        plan: what to do.
        per_class: a limit.
        bands: numbers of bands.
        block: side of a block.
        resume: go on.
    """


def split(patches: Path) -> None:
    """Split patches.

    Args:
        patches: a patch set.
    """


def show(name: str | None = None, *, table: bool = False) -> None:
    """Show one or all.

    Args:
        name: which.
        table: as a table.
    """


def run(*words):
    return parse({"cut": cut, "split": split, "show": show}, words, "1.2.3", "A test.")


NEEDED = ("cut", "a.tif", "b.tif", "--labels", "l.gpkg", "-o", "out")


def test_a_signature_becomes_arguments():
    function, settings = run(
        *NEEDED, "--per-class", "3", "--bands", "4,1", "--resume", "--no-flip", "--epochs=7"
    )
    assert function is cut
    assert settings == {
        "scenes": ["a.tif", "b.tif"],
        "labels": ["l.gpkg"],
        "output": Path("out"),
        "plan": Plan(["a.tif", "b.tif"], epochs=7, turns=Turns(flip=False)),
        "per_class": 3,
        "bands": [4, 1],
        "block": 1.0,
        "resume": True,
    }


def test_a_positional_argument_with_a_default_may_be_left_out(capsys):
    assert run("show") == (show, {"name": None, "table": False})
    assert run("show", "--table") == (show, {"name": None, "table": True})
    assert run("show", "one", "--table") == (show, {"name": "one", "table": True})
    with pytest.raises(SystemExit):
        run("show", "one", "two")
    assert "there is no option 'two'" in capsys.readouterr().err


def test_a_config_file_gives_options_and_the_command_line_overrides_it(tmp_path):
    config = tmp_path / "plan.yaml"
    config.write_text("scenes: [a.tif]\nlabels: [l.gpkg]\nepochs: 9\nflip: false\nblock: 5\n")
    _, settings = run("cut", "--config", str(config), "-o", "out", "--block", "6")
    assert settings["plan"] == Plan(["a.tif"], epochs=9, turns=Turns(flip=False))
    assert settings["block"] == 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((*NEEDED, "--epocs", "3"), "there is no option 'epocs'; did you mean 'epochs'?"),
        ((*NEEDED, "--zzz", "3"), "there is no option 'zzz'; see --help"),
        ((*NEEDED, "--epochs", "many"), "--epochs: expected a whole number, not 'many'"),
        ((*NEEDED, "--per-class", "x"), "--per-class: expected a whole number, not 'x'"),
        ((*NEEDED, "--block", "x"), "--block: expected a number, not 'x'"),
        ((*NEEDED, "--bands", "1,x"), "--bands: expected whole numbers with commas between"),
        ((*NEEDED, "--schedule", "x"), "--schedule: expected one of 'cosine', 'step', not 'x'"),
        (("cut", "a.tif", "-o", "out"), "these are missing: labels; see --help"),
        (("split",), "these are missing: patches; see --help"),
        (("split", "a", "b"), "there is no option 'b'"),
        (("slit",), "there is no command 'slit'; see --help"),
        ((*NEEDED, "--config", "none.yaml"), "none.yaml: no such file"),
    ],
)
def test_errors_are_one_line_and_leave_with_2(capsys, words, message):
    with pytest.raises(SystemExit) as left:
        run(*words)
    assert left.value.code == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("outcrop: ")
    assert message in told.err
    assert told.err.count("\n") == 1


def test_a_misspelled_key_is_told_with_its_file(capsys, tmp_path):
    config = tmp_path / "plan.yaml"
    config.write_text("epocs: 3\n")
    with pytest.raises(SystemExit):
        run(*NEEDED, "--config", str(config))
    assert (
        f"{config}: there is no option 'epocs'; did you mean 'epochs'?" in capsys.readouterr().err
    )


def test_help_speaks_of_options_not_of_python(capsys):
    with pytest.raises(SystemExit) as left:
        run("cut", "--help")
    assert left.value.code == 0
    told = capsys.readouterr().out
    assert "--per-class PER-CLASS" in told
    assert "a limit." in told
    assert "(default: 30)" in told
    assert "-o OUTPUT, --output OUTPUT" in told
    assert "type:" not in told
    with pytest.raises(SystemExit):
        run("--help")
    told = capsys.readouterr().out
    assert "Cut patches." in told
    assert "Split patches." in told
