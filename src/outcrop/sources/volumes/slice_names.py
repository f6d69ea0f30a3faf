"""The order of the slices of a folder, from the numbers in their names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import numpy as np

from outcrop.errors import OutcropError
from outcrop.progress import tell

# A sign stands where no letter or digit is before it: in z_-20, not in 2024-05.
_SIGN = r"(?:(?<![^\W_])[+-])?"
_SIGN_AFTER_LETTERS = r"(?:(?<!\d)[+-])?"
# Of v1.2.3 no part is a decimal fraction.
_FRACTION = r"(?:(?<!\d\.)\d+(?:\.\d+)?(?!\.?\d)|\d+)"
_READINGS = tuple(
    re.compile(sign + digits, re.ASCII)
    for sign in (_SIGN, _SIGN_AFTER_LETTERS)
    for digits in (_FRACTION, r"\d+")
)
_HYPHEN = re.compile(r"[^\W\d_]-\d", re.ASCII)


def in_order(folder: Path, files: Sequence[Path]) -> tuple[list[Path], np.ndarray | None]:
    """Sort slices by the number that their names differ in, which may have a sign or a fraction.

    A hyphen after a letter is a minus only where other names have none there: z-4, z0, z4. Names
    without numbers are sorted by letters, and that is printed.

    Returns:
        the files, and float64, `N`, their numbers; None where the names have none.

    Raises:
        OutcropError: names of several kinds, as of several volumes; two slices of one number; a
            gap in the numbers.
    """
    readings = [_Reading.of(pattern, files) for pattern in _READINGS]
    best = min(readings, key=lambda reading: reading.faults)
    if len(best.templates) > 1:
        if len(best.templates) < len(files):
            raise OutcropError(folder, _mixture(best, files))
        files = sorted(files, key=lambda file: (file.name.casefold(), file.name))
        if len(files) > 1:
            tell(
                f"{folder}: the names of its slices differ in more than a number; they are taken "
                f"by letters, {files[0].name} first and {files[-1].name} last"
            )
        return list(files), None
    if len(files) == 1:
        return list(files), None
    running = best.running
    if not running:
        raise OutcropError(folder, _twice(files[0], files[1]))
    if not best.is_one_sequence:
        raise OutcropError(
            folder,
            f"has names whose numbers run in {len(running)} places, as those of several volumes "
            f"({files[0].name}, {files[-1].name}); leave the slices of one volume there, each "
            "with one number",
        )
    column = running[0]
    order = sorted(range(len(files)), key=lambda k: best.numbers[k][column])
    files = [files[k] for k in order]
    numbers = [best.numbers[k][column] for k in order]
    _check_steps(folder, files, numbers)
    hyphens = len(running) == 1 and all(_HYPHEN.search(_words(file)) for file in files)
    if hyphens and best in readings[:2]:
        tell(
            f"{folder}: the hyphen in the names is taken as a hyphen, so that {files[0].name} is "
            f"the first slice; if it is a minus, put _ before it"
        )
    return files, np.array([float(number) for number in numbers])


@dataclass(frozen=True)
class _Reading:
    """One way to tell the numbers in names from the words.

    Attributes:
        templates: the names with their numbers taken out, and how many files have each.
        numbers: of each file, in the order of its name.
    """

    templates: Counter[str]
    numbers: list[tuple[Decimal, ...]]

    @classmethod
    def of(cls, pattern: re.Pattern[str], files: Sequence[Path]) -> _Reading:
        stems = [_words(file) for file in files]
        return cls(
            Counter(pattern.sub("#", stem) for stem in stems),
            [tuple(Decimal(number) for number in pattern.findall(stem)) for stem in stems],
        )

    @property
    def running(self) -> list[int]:
        """The places at which the numbers differ, where all names are of one kind."""
        if len(self.templates) > 1:
            return []
        columns = enumerate(zip(*self.numbers, strict=True))
        return [place for place, column in columns if len(set(column)) > 1]

    @property
    def is_one_sequence(self) -> bool:
        """Whether all numbers that differ run up or down together, as an index and a depth do."""
        if not self.running:
            return False
        first, *rest = self.running
        rows = sorted(self.numbers, key=lambda row: row[first])
        return all(
            len({(after[place] > before[place]) for before, after in pairwise(rows)}) == 1
            and all(after[place] != before[place] for before, after in pairwise(rows))
            for place in rest
        )

    @property
    def faults(self) -> tuple[int, bool, bool, bool]:
        """What speaks against this reading, the gravest first.

        Nobody writes 0.9 and then 0.10: where the digits after the point are not as many in all
        names, fractions do not end in 0.
        """
        if not self.is_one_sequence:
            return len(self.templates), True, True, True
        numbers = sorted(row[self.running[0]] for row in self.numbers)
        digits = [number.as_tuple() for number in numbers]
        ragged = len({some.exponent for some in digits}) > 1 and any(
            int(some.exponent) < -1 and some.digits[-1] == 0 for some in digits
        )
        return len(self.templates), False, ragged, _uneven(numbers) is not None


def _words(file: Path) -> str:
    """The name without its ending, with a hyphen for the minus of typesetters."""
    return file.stem.casefold().replace("\N{MINUS SIGN}", "-")


def _uneven(numbers: Sequence[Decimal]) -> int | None:
    """Where a step is longer than the shortest; fractions may be rounded in their last digit."""
    digits = max(-int(number.as_tuple().exponent) for number in numbers)
    slack = Decimal(1).scaleb(-digits) if digits > 0 else Decimal(0)
    steps = [after - before for before, after in pairwise(numbers)]
    return next((at for at, step in enumerate(steps) if step - min(steps) > slack), None)


def _check_steps(folder: Path, files: Sequence[Path], numbers: Sequence[Decimal]) -> None:
    for (file, number), (other, its) in pairwise(zip(files, numbers, strict=True)):
        if number == its:
            raise OutcropError(folder, _twice(file, other))
    gap = _uneven(numbers)
    if gap is not None:
        step = min(after - before for before, after in pairwise(numbers))
        raise OutcropError(
            folder,
            f"the numbers of its slices step by {step}, but {files[gap + 1].name} follows "
            f"{files[gap].name}; put in what is missing, or number them evenly",
        )


def _twice(file: Path, other: Path) -> str:
    return f"{file.name} and {other.name} have the same number; leave one of them there"


def _mixture(reading: _Reading, files: Sequence[Path]) -> str:
    kinds = reading.templates.most_common()
    shown = [f"{template}{files[0].suffix} ({count})" for template, count in kinds[:3]]
    more = f" and {len(kinds) - 3} more" if len(kinds) > 3 else ""
    return (
        f"holds slices with names of {len(kinds)} kinds, as of several volumes: "
        f"{', '.join(shown)}{more}, where # is a number; leave those of one volume there"
    )
