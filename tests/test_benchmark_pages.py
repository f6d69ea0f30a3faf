"""The pages of the benchmarks: pictures drawn from the numbers of now, scripts that exist."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "benchmarks"
SPEC = importlib.util.spec_from_file_location("benchmark_figures", PAGES / "figures.py")
figures = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(figures)
TEXTS = {page.stem: page.read_text(encoding="utf-8") for page in sorted(PAGES.glob("*.md"))}


@pytest.mark.parametrize("name", figures.FIGURES)
def test_a_picture_is_drawn_from_the_numbers_of_now(name):
    numbers, _ = figures.FIGURES[name]
    drawn = (PAGES / f"{name}.svg").read_text(encoding="utf-8")
    assert figures.fingerprint(numbers()) in drawn, "run `python docs/benchmarks/figures.py`"
    assert f"({name}.svg)" in TEXTS[name]


def test_every_picture_has_a_function():
    assert {picture.stem for picture in PAGES.glob("*.svg")} == set(figures.FIGURES)


@pytest.mark.parametrize("name", TEXTS)
def test_commands_name_scripts_that_exist(name):
    named = set(re.findall(r"python -m benchmarks\.(\w+)", TEXTS[name]))
    assert all((ROOT / "benchmarks" / f"{script}.py").exists() for script in named)
    assert named or name == "index"


def test_the_table_of_contents_has_every_page():
    listed = set(re.findall(r"\]\(([\w-]+)\.md", TEXTS["index"]))
    assert listed == set(TEXTS) - {"index"}
