"""Class names in any writing are drawn, in every picture, without a warning."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib.figure import Figure

from outcrop import fonts
from outcrop.generative.grids import Row, Sheet
from outcrop.reporting.html import chart, svg
from outcrop.training.log import confusion_figure

ANOTHER = "水田 ख़ेत مزرعة"


def pixels(figure: Figure) -> np.ndarray:
    buffer = io.BytesIO()
    with fonts.legible(figure):
        figure.savefig(buffer, format="raw")
    return np.frombuffer(buffer.getvalue(), np.uint8)


def written(text: str) -> Figure:
    figure = Figure((2, 1))
    figure.text(0.3, 0.3, text, fontsize=30)
    return figure


@pytest.fixture
def one_more_font(tmp_path, monkeypatch):
    """A font of a filled square for 水 alone, installed after matplotlib made its list."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    pen = TTGlyphPen(None)
    for step, at in enumerate([(0, 0), (0, 1000), (1000, 1000), (1000, 0)]):
        (pen.lineTo if step else pen.moveTo)(at)
    pen.closePath()
    empty = TTGlyphPen(None).glyph()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "water"])
    builder.setupCharacterMap({ord("水"): "water"})
    builder.setupGlyf({".notdef": empty, "water": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (1000, 0), "water": (1000, 0)})
    builder.setupHorizontalHeader(ascent=1000, descent=0)
    builder.setupNameTable({"familyName": "Square Water", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    path = tmp_path / "water.ttf"
    builder.save(path)
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [str(path)])
    before = list(font_manager.fontManager.ttflist)
    for cached in (fonts._installed, fonts.families_for):
        cached.cache_clear()
    yield
    font_manager.fontManager.ttflist = before
    for cached in (fonts._installed, fonts.families_for):
        cached.cache_clear()


def test_a_font_that_has_the_letters_is_found(one_more_font):
    assert "Square Water" in fonts.families_for("a水")
    assert fonts.families_for("Wälder") == ()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dark = (pixels(written("水")) < 128).sum()
    # The glyph is a filled square, the box of a letter that is missing is an outline.
    assert dark > 2 * (pixels(written("\ue123")) < 128).sum()


def test_what_no_font_has_is_drawn_without_a_warning(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pixels(written(ANOTHER + "\U0001f9ff\ue123"))
        with chart(ANOTHER, (3, 2)) as (figure, axes):
            axes.set_yticks(range(2), [ANOTHER, "land"])
        assert "水田" in svg(figure, "a chart")
        pixels(confusion_figure(np.eye(2, dtype=int), [ANOTHER, "land"]))
        row = Row(np.zeros((2, 8, 8, 3), np.uint8), ANOTHER, (ANOTHER, "b"))
        Sheet((row,), ANOTHER).write(tmp_path / "sheet.png")
