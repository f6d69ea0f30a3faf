from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.cli import _renamed, main
from outcrop.cli.commands import COMMANDS, RENAMED
from outcrop.cli.options import options_of
from outcrop.cli.parser import parse
from outcrop.cli.presets import PRESETS
from outcrop.errors import OutcropError
from outcrop.generative.plan import VaeGanPlan
from outcrop.generative.settings import GenerativeAugmentation, VaeGan, VaeGanRecipe
from outcrop.models.architectures import MultiScaleNet, ResidualNet


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
        ((*NEEDED, "--block", "nan"), "--block: expected a number, not 'nan'"),
        ((*NEEDED, "--block"), "--block: a value is missing"),
        ((*NEEDED, "--bands", "1,x"), "--bands: expected whole numbers with commas between"),
        ((*NEEDED, "--schedule", "x"), "--schedule: expected one of 'cosine', 'step', not 'x'"),
        (("cut", "a.tif", "-o", "out"), "these are missing: labels; see --help"),
        (("split",), "these are missing: patches; see --help"),
        (("split", "a", "b"), "there is no option 'b'"),
        (("slit",), "there is no command 'slit'; did you mean 'split'?"),
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
    def told(*words):
        with pytest.raises(SystemExit) as left:
            run(*words)
        assert left.value.code == 0
        return " ".join(capsys.readouterr().out.replace("│", " ").split())

    few, all_ = told("cut", "--help"), told("cut", "--help-all")
    for text in (few, all_):
        assert "--per-class PER-CLASS a limit." in text
        assert "* --output -o OUTPUT where to. [required]" in text
        assert "[default: 30]" in text
        assert "type:" not in text
    assert "--help-all shows 3 more options." in few
    assert "--rotate" not in few
    assert "--rotate ROTATE whether to turn." in all_
    assert "[choices: cosine, step] [default: cosine]" in all_
    assert "What may be turned" in all_
    assert "more options" not in all_
    first = told("--help")
    assert "cut Cut patches." in first
    assert "split Split patches." in first


def of(tmp_path, text, *words):
    """The settings of `cut` with a config file."""
    config = tmp_path / "plan.yaml"
    config.write_text(text)
    return run("cut", "--config", str(config), *words)[1]


@pytest.mark.parametrize(
    ("dashes", "spelt"),
    [
        ("per-class: 3", "per_class: 3"),
        ("--per-class: 3", "'per-class': '3'"),
        ("bands: [4, 1]", "bands: 4,1"),
        ("flip: false", "no-flip: true"),
        ("resume: true", "no_resume: false"),
        ("block: 1e3", "block: 1000"),
        ("block: null\nper-class: ~", "block:\nper_class:"),
    ],
)
def test_a_config_file_spells_options_as_help_does(tmp_path, dashes, spelt):
    given = "scenes: [a.tif]\nlabels: l.gpkg\n"
    one, other = (of(tmp_path, given + text, "-o", "out") for text in (dashes, spelt))
    assert one == other
    assert one != of(tmp_path, given, "-o", "out") or "null" in dashes


def test_text_in_a_config_file_stays_text(tmp_path):
    text = "scenes: [2019-01-01, 01]\nlabels: [no, 'null', 1:10:20, 0x1F]\n-o: 007\n"
    settings = of(tmp_path, text)
    assert settings["plan"].scenes == ["2019-01-01", "01"]
    assert settings["labels"] == ["no", "null", "1:10:20", "0x1F"]
    assert settings["output"] == Path("007")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("per-clas: 3", "there is no option 'per-clas'; did you mean 'per-class'?"),
        ("no-flop: true", "there is no option 'no-flop'"),
        ("7: 3", "there is no option '7'; see --help"),
        ("per-class: 3\nper_class: 4", "gives per-class twice; leave one out"),
        ("block: 3\nblock: 4", "gives block twice; leave one out"),
        ("flip: true\nno-flip: true", "gives flip twice; leave one out"),
        ("block: [", "is not YAML"),
        ("- block", "has no options"),
        ("per-class: x", "--per-class: expected a whole number, not 'x'"),
        ("resume: maybe", "a flag is true or false, not 'maybe'; correct it"),
    ],
)
def test_what_is_wrong_in_a_config_file_is_one_line(tmp_path, capsys, text, message):
    with pytest.raises((SystemExit, OutcropError)) as left:
        of(tmp_path, text, *NEEDED[1:])
    said = capsys.readouterr().err or f"outcrop: {left.value}\n"
    assert said.startswith(f"outcrop: {tmp_path / 'plan.yaml'}: ")
    assert message in said
    assert said.count("\n") == 1


NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=32) | st.integers(-99, 99)


@settings(deadline=None)
@given(st.lists(NUMBERS, min_size=1, max_size=6))
def test_numbers_in_lists_may_be_negative(numbers):
    text = ",".join(map(str, numbers))
    for words in (("--at", text), (f"--at={text}",), ("--at", f"[{text}]")):
        _, settings = parse({"where": where}, ("where", *words), "1", "")
        assert settings["at"] == [float(number) for number in numbers]


@pytest.mark.parametrize("word", ["-5", "-.5", "-1e3"])
def test_a_number_may_be_negative(word, tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text(f"one: {word}\nat: [{word}, 3]\n")
    for words in (("--one", word), (f"--one={word}",), ("--config", str(config))):
        _, settings = parse({"where": where}, ("where", *words), "1", "")
        assert settings["one"] == float(word)
    assert settings["at"] == [float(word), 3]


def test_a_number_after_a_flag_is_not_its_value(capsys):
    with pytest.raises(SystemExit):
        parse({"where": where}, ("where", "--all", "-5"), "1", "")
    assert "there is no option '5'" in capsys.readouterr().err


def where(*, at: list[float] | None = None, one: float = 0.0, all: bool = False) -> None:
    """Somewhere.

    Args:
        at: numbers.
        one: a number.
        all: of them.
    """


def test_a_comma_is_part_of_a_name_that_is_there_or_quoted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("labels, 2018.gpkg", "b.gpkg"):
        Path(name).touch()
    settings = _patches(["--labels", "labels, 2018.gpkg,b.gpkg", "--classes", 'a,"b, c",d'])
    assert settings["labels"] == ["labels, 2018.gpkg", "b.gpkg"]
    assert settings["classes"] == ["a", "b, c", "d"]
    assert _patches(["--labels", "gone, 2018.gpkg"])["labels"] == ["gone", "2018.gpkg"]


def _patches(words):
    _, settings = parse(COMMANDS, ["patches", "s.tif", "-o", "p.zarr", *words], "", "")
    return settings


def paint(*, colours: tuple[Literal["red", "blue"], ...] = ("red",)) -> None:
    """Paint.

    Args:
        colours: which.
    """


def test_a_list_of_words_takes_those_that_there_are(capsys):
    def told(*words):
        return parse({"paint": paint}, ("paint", *words), "1", "")[1]["colours"]

    assert told("--colours", "blue,red") == ("blue", "red")
    assert told() == ("red",)
    with pytest.raises(SystemExit):
        told("--colours", "green")
    assert "expected red, blue with commas between, not 'green'" in capsys.readouterr().err


def test_the_views_of_a_network_are_an_option():
    words = "train p.zarr --split s.json -o run --network multi-scale --views waves,pixel"
    network = parse(COMMANDS, words.split(), "", "")[1]["network"]
    assert network == MultiScaleNet(views=("pixel", "waves"))


def test_an_error_of_outcrop_is_one_of_a_bad_argument():
    import outcrop as oc

    assert issubclass(oc.OutcropError, ValueError)
    with pytest.raises(ValueError, match="must be"):
        oc.BlockSplit(block=-1)


def test_a_command_under_its_old_name_says_the_new_one(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--images", "1", "--size", "64", "-o"]
    assert main(["coast", *words, "old"]) == 0
    assert "note: outcrop coast is now outcrop synthetic coast" in capfd.readouterr().err
    assert main(["synthetic", "coast", *words, "new"]) == 0
    assert capfd.readouterr().err == ""
    files = sorted(path.name for path in Path("old").iterdir())
    assert files == sorted(path.name for path in Path("new").iterdir())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("generate run -o x", "generative draw run -o x"),
        ("train p.zarr --model vae -o x", "generative train p.zarr --model vae -o x"),
        ("train p.zarr --model=gan -o x", "generative train p.zarr --model=gan -o x"),
        ("compare p.zarr --model vae -o x", "generative compare p.zarr --model vae -o x"),
    ],
)
def test_commands_that_learn_pictures_have_moved(capfd, old, new):
    words = _renamed(old.split(), RENAMED)
    assert words == new.split()
    assert "is now outcrop generative" in capfd.readouterr().err
    assert parse(COMMANDS, words, "", "")[1]["output"] == Path("x")
    assert _renamed(words, RENAMED) == words
    assert capfd.readouterr().err == ""


def test_test_time_augmentation_has_a_new_name(capfd):
    words = _renamed(["map", "run", "s.tif", "-o", "m.tif", "--turns"], RENAMED)
    assert words == ["map", "run", "s.tif", "-o", "m.tif", "--tta"]
    assert "outcrop map --turns is now outcrop map --tta" in capfd.readouterr().err
    assert parse(COMMANDS, words, "", "")[1]["tta"] is True


def test_old_names_of_options_work_in_a_config_file(tmp_path, capfd):
    config = tmp_path / "map.yaml"
    config.write_text("turns: true\ntrust: far.tif\n")
    words = ["map", "run", "s.tif", "-o", "m.tif", "--config", str(config)]
    settings = parse(COMMANDS, words, "", "", RENAMED)[1]
    assert settings["tta"] is True
    assert settings["dissimilarity"] == Path("far.tif")
    said = capfd.readouterr().err
    assert f"{config}: turns is now tta; the old name goes with the next version" in said
    config.write_text("turns: true\ntta: true\n")
    with pytest.raises(SystemExit):
        parse(COMMANDS, words, "", "", RENAMED)
    assert "gives tta twice" in capfd.readouterr().err


def test_a_vaegan_is_trained_if_no_model_is_named():
    words = ["generative", "train", "p.zarr", "-o", "x"]
    assert parse(COMMANDS, words, "", "")[1]["model"] == VaeGanPlan()
    named = parse(COMMANDS, [*words, "--model", "gan", "--crop", "2"], "", "")[1]["model"]
    augmentation = GenerativeAugmentation(crop=2)
    assert named == VaeGanPlan(VaeGan("gan"), VaeGanRecipe(augmentation=augmentation))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["synthetic"], "outcrop: a command is missing; see --help"),
        (["synthetic", "sea"], "outcrop: there is no command 'sea'; see --help"),
    ],
)
def test_a_group_wants_one_of_its_commands(capsys, words, message):
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert capsys.readouterr().err == message + "\n"


def test_a_shell_completes_commands_and_options(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--completion", "bash"])
    script = capsys.readouterr().out
    assert all(word in script for word in ("experiment", "synthetic", "--learning-rate"))
    with pytest.raises(SystemExit, match="2"):
        main(["--completion", "tcsh"])
    assert "expected bash, zsh or fish" in capsys.readouterr().err


def _trained(words):
    settings = parse(COMMANDS, ["train", "p.zarr", "-o", "r", *words.split()], "", "")[1]
    return settings["network"], settings["recipe"]


def test_a_preset_gives_defaults_that_single_options_override():
    plain_network, plain = _trained("")
    assert _trained("--preset standard") == (plain_network, plain)
    network, recipe = _trained("--preset paper")
    assert (network.depth, recipe.batch, recipe.learning_rate) == (110, 128, 0.1)
    assert (recipe.schedule, recipe.milestones, recipe.epochs) == ("step", [0.5, 0.75], 164)
    network, recipe = _trained("--preset paper --depth 20 --batch 32")
    assert (network.depth, recipe.batch, recipe.learning_rate) == (20, 32, 0.1)
    network, recipe = _trained("--preset deep --network multi-scale")
    assert isinstance(network, MultiScaleNet)
    assert recipe.epochs == 100
    words = ["compare", "p.zarr", "-o", "c", "--preset", "quick"]
    assert parse(COMMANDS, words, "", "")[1]["how"].tuning.trials == 0


def test_an_option_of_a_network_chooses_it_even_if_it_is_as_by_default():
    assert _trained("--depth 20")[0] == ResidualNet()
    assert _trained("--hidden 64")[0] == MultiScaleNet()
    assert _trained("")[0] is None


def test_presets_set_options_that_there_are():
    for command in ("train", "compare", "experiment"):
        known = set(options_of(COMMANDS[command]))
        assert all(set(preset) <= known for preset in PRESETS.values())


def test_null_in_a_config_file_chooses_no_network(tmp_path):
    (tmp_path / "c.yaml").write_text("depth: null\nwidth:\n")
    assert _trained(f"--config {tmp_path / 'c.yaml'}")[0] is None
