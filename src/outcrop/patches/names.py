"""Which scene or volume a name means that somebody has written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from outcrop.sources.names import file_name, stem


def fitting(word: str, names: Sequence[str]) -> list[int]:
    """The sources that a word may mean, by number.

    The whole name means that source; else the end of a path does, whose last part may lack its
    ending, and of a source of several files that of any of them.

    Args:
        names: of the sources, several files with plus signs between.

    >>> names = ["2019/scene.tif", "2020/scene.tif", "other.tif"]
    >>> fitting("scene", names), fitting("2020/scene", names), fitting("other.tif", names)
    ([0, 1], [1], [2])
    """
    whole = [i for i, name in enumerate(names) if word == name]
    whole = whole or [i for i, name in enumerate(names) if _absolute(word) == _absolute(name)]
    return whole or [
        i
        for i, name in enumerate(names)
        if any(_ends(file, word) for file in (name, *name.split(" + ")))
    ]


def _absolute(name: str) -> Path:
    return Path(name).absolute()


def _ends(file: str, word: str) -> bool:
    asked, path = Path(word).parts, Path(file)
    if not asked:
        return False
    without = path.with_suffix("") if path.name else path
    ends = (path.parts[-len(asked) :], without.parts[-len(asked) :])
    return asked in ends or word in (file_name(file), stem(file))
