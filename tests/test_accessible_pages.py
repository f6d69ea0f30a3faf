"""Pages can be read by everyone: contrast on light and dark screens, and texts for pictures."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

import outcrop.reporting

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


def luminance(colour):
    """Relative luminance (WCAG 2.1) of `#rgb` or `#rrggbb`."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    shares = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
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
    assert contrast(colours["ground"], colours["paper"]) >= 4.5
    for line in ("ground", "chance", "pale"):
        assert contrast(colours[line], colours["paper"]) >= 2.8, line


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
