"""Fonts for text in any script: the default of matplotlib lacks most non-European letters."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

_REGULAR = 400


@contextmanager
def legible(figure: Any) -> Iterator[None]:
    """Draw a matplotlib figure in the block, with fonts that have all letters of its text.

    Text keeps its font, and others that are installed follow for the letters that it lacks.
    Letters that no installed font has are drawn as boxes, without a warning.
    """
    from matplotlib.text import Text

    texts = figure.findobj(Text)
    families = families_for("".join(sorted({c for text in texts for c in text.get_text()})))
    for text in texts:
        own = text.get_fontfamily()
        further = [family for family in families if family not in own]
        if further:
            text.set_fontfamily([*own, *further])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        yield


@lru_cache
def families_for(letters: str) -> tuple[str, ...]:
    """The fewest installed font families that have the letters missing in the default font.

    A family is taken for as many letters as it has; what none has is left out.
    """
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    default = FT2Font(font_manager.findfont(font_manager.FontProperties())).get_charmap()
    lacking = {ord(letter) for letter in letters if letter.isprintable()} - set(default)
    chosen: list[str] = []
    # Fonts are read only if they are needed: there may be hundreds.
    found = _installed() if lacking else ()
    while lacking:
        family, has = max(
            ((family, lacking & has) for family, has in found),
            key=lambda one: len(one[1]),
            default=("", set()),
        )
        if not has:
            break
        chosen.append(family)
        lacking -= has
    return tuple(chosen)


@lru_cache
def _installed() -> tuple[tuple[str, frozenset[int]], ...]:
    """The families of upright fonts that are installed, and the characters that each has.

    Fonts that were installed after matplotlib made its list are added to it.
    """
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    manager = font_manager.fontManager
    listed = {entry.fname for entry in manager.ttflist}
    for path in font_manager.findSystemFonts():
        if path not in listed:
            try:
                manager.addfont(path)
            except (RuntimeError, OSError):
                continue
    upright = [entry for entry in manager.ttflist if entry.style == "normal"]
    upright.sort(key=lambda entry: (abs(_weight(entry.weight) - _REGULAR), entry.name))
    families: dict[str, frozenset[int]] = {}
    for entry in upright:
        # Fonts of last resort, one of which matplotlib has, claim every letter and draw a box.
        if entry.name in families or "lastresort" in entry.name.replace(" ", "").casefold():
            continue
        try:
            font = FT2Font(entry.fname)
            # Fonts of bitmaps of one size cannot be drawn.
            font.set_size(12, 72)
            families[entry.name] = frozenset(font.get_charmap())
        except (RuntimeError, OSError):
            continue
    return tuple(families.items())


def _weight(weight: int | str) -> int:
    from matplotlib.font_manager import weight_dict

    return weight_dict.get(weight, _REGULAR) if isinstance(weight, str) else weight
