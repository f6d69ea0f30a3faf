"""Pages can be read by everyone: contrast on light and dark screens, and texts for pictures."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest

import outcrop.reporting
from outcrop.metrics.scores import score
from outcrop.reporting.html import render_page

FOLDER = Path(outcrop.reporting.__file__).parent
STYLE = (FOLDER / "style.css").read_text("utf-8")
TEMPLATES = sorted(FOLDER.parent.rglob("*.j2"))


def schemes():
    """The variables of the style sheet, for light and for dark screens."""
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6})", rules))
        for rules in re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
    )
    assert set(light) == set(dark)
    return {"light": light, "dark": dark}


def shares_of(colour):
    """Red, green and blue, 0 to 1, of `#rgb` or `#rrggbb`."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    return [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]


def luminance(colour):
    """Relative luminance (WCAG 2.1) of `#rgb` or `#rrggbb`."""
    shares = shares_of(colour)
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return sum(part * s for part, s in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    """Contrast ratio (WCAG 2.1) of two colours."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_that_of_the_standard():
    assert contrast("#000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#fff") == pytest.approx(4.48, abs=0.005)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_lines_have_enough_contrast(scheme):
    colours = schemes()[scheme]
    grounds = [colours[name] for name in ("paper", "wash", "mark", "note")]
    for text, ground in itertools.product(("ink", "soft"), grounds):
        assert contrast(colours[text], ground) >= 4.5, (text, ground)
    assert contrast(colours["spatial"], colours["paper"]) >= 4.5
    for line in ("spatial", "random", "pale"):
        assert contrast(colours[line], colours["paper"]) >= 2.8, line


@pytest.fixture(scope="module")
def shaded(tmp_path_factory):
    """Hue, opacity and text colour of the cells of confusion matrices, by their share of a row."""
    folder = tmp_path_factory.mktemp("cells")
    (folder / "cells.html.j2").write_text(
        '{% from "macros.html.j2" import confusion with context %}'
        "{% for scores in every %}{{ confusion(scores) }}{% endfor %}"
    )
    truth, shares = np.zeros(100, int), range(101)
    every = [score(truth, (truth + (np.arange(100) < k)), ("a", "b"), draws=1) for k in shares]
    page = render_page("cells.html.j2", folder, every=every)
    pattern = r"background: rgba\(([\d, ]+), ([\d.]+)\); color: (#fff|inherit)"
    found = re.findall(pattern, page)
    assert len(found) == 4 * len(every)
    return set(found)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_on_shaded_cells_has_enough_contrast(shaded, scheme):
    colours = schemes()[scheme]
    for hue, opacity, text in shaded:
        ground = mixed(
            [int(part) / 255 for part in hue.split(",")], float(opacity), colours["paper"]
        )
        ink = colours["ink"] if text == "inherit" else text
        assert contrast(ink, ground) >= 4.5, (hue, opacity, text)


def mixed(over, opacity, under):
    """A colour, 0 to 1, painted over `#rrggbb`, as `#rrggbb`."""
    parts = zip(over, shares_of(under), strict=True)
    return "#" + "".join(f"{round(255 * (opacity * a + (1 - opacity) * b)):02x}" for a, b in parts)


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_pictures_have_texts(template):
    text = template.read_text("utf-8")
    for tag in re.findall(r"<img [^>]*", text):
        assert "alt=" in tag, tag
    for tag in re.findall(r"<svg [^>]*>", text):
        assert 'role="img"' in tag, tag
        assert "aria-label=" in tag, tag


def test_what_scrolls_can_be_reached_with_the_keyboard():
    """WCAG 2.1, 2.1.1: on a narrow screen tables and code scroll sideways."""
    rules = re.findall(r"([^{}]+)\{[^{}]*overflow-x: auto", STYLE)
    scrolls = {selector.strip() for rule in rules for selector in rule.split(",")}
    assert scrolls == {".scroll", ".wide", "pre"}
    tags = [
        tag
        for template in TEMPLATES
        for tag in re.findall(
            r'<pre[^>]*>|<\w+ class="[^"]*\b(?:scroll|wide)\b[^>]*>', template.read_text("utf-8")
        )
    ]
    assert len(tags) > 20
    assert not [tag for tag in tags if 'tabindex="0"' not in tag]


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_linked_terms_are_explained(template):
    text = template.read_text("utf-8")
    for name in re.findall(r'term\("[^"]*", "([\w-]+)"\)', text):
        assert f'id="word-{name}"' in text, name
