"""The worked examples of CONTRIBUTING.md: each with its test, which is run."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from outcrop.auditing import check
from outcrop.cli import commands
from outcrop.models import baselines
from outcrop.sources.volumes import volume

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
# What a module of that kind imports at its top.
IMPORTED = """
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from outcrop.cli.console import say
from outcrop.errors import OutcropError
from outcrop.files import decoding
from tests.patches import noise, patch_set
"""
EXAMPLES = [pytest.param(*pair, id=pair[1].partition("def ")[2].partition("(")[0])
            for pair in zip(BLOCKS[::2], BLOCKS[1::2], strict=True)]  # fmt: skip


@pytest.mark.parametrize(("code", "test"), EXAMPLES)
def test_examples_pass_their_tests(code, test, request, monkeypatch):
    monkeypatch.setattr(check, "CHECKS", list(check.CHECKS))
    monkeypatch.setattr(baselines, "_RECIPES", dict(baselines._RECIPES))
    names = {**vars(volume), **vars(baselines), "__name__": "example"}
    exec(compile(IMPORTED + code, "CONTRIBUTING.md", "exec", dont_inherit=True), names)
    if "count" in names:
        monkeypatch.setitem(commands.COMMANDS, "count", names["count"])
    exec(compile(test, "CONTRIBUTING.md", "exec", dont_inherit=True), names)
    (run,) = (made for name, made in names.items() if name.startswith("test_"))
    run(**{name: request.getfixturevalue(name) for name in inspect.signature(run).parameters})


def test_there_are_four_examples():
    assert len(EXAMPLES) == 4
    assert all("def test_" in test for test in BLOCKS[1::2])
