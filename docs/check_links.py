"""Check that links of the built site and of Markdown files lead somewhere.

    python docs/check_links.py docs/_build/html README.md CONTRIBUTING.md CHANGELOG.md

Links to files and anchors are followed; addresses on the web are not opened. Prints each broken
link, and ends with 1 if there is one.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_MARKDOWN_LINK = re.compile(r"\]\(\s*<?([^)\s>]+)")
_MARKDOWN_HEADING = re.compile(r"^#+\s+(.*)$", re.MULTILINE)
_FENCE = re.compile(r"^(```|:::).*?^\1", re.MULTILINE | re.DOTALL)


class _Page(HTMLParser):
    """Links and anchors of an HTML page."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect the attributes that link, and those that are linked to."""
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.links.append(value)
            if name in ("id", "name") and value:
                self.anchors.add(value)


@cache
def read(file: Path) -> tuple[tuple[str, ...], frozenset[str]]:
    """Links and anchors of an HTML or Markdown file."""
    text = file.read_text("utf-8")
    if file.suffix == ".md":
        text = _FENCE.sub("", text)
        headings = _MARKDOWN_HEADING.findall(text)
        return tuple(_MARKDOWN_LINK.findall(text)), frozenset(map(slug, headings))
    page = _Page()
    page.feed(text)
    return tuple(page.links), frozenset(page.anchors)


def slug(heading: str) -> str:
    """The anchor that GitHub gives to a heading.

    >>> slug("What it is not, and `why`")
    'what-it-is-not-and-why'
    """
    kept = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower())
    return kept.strip().replace(" ", "-")


def broken(file: Path) -> Iterator[str]:
    """The links of a file that lead nowhere."""
    for link in read(file)[0]:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
        if target.is_dir() and file.suffix == ".html":
            target /= "index.html"
        if not target.exists():
            yield link
            continue
        fragment = unquote(parts.fragment)
        if fragment and target.suffix in (".html", ".md") and fragment not in read(target)[1]:
            yield link


def main(places: list[str]) -> int:
    """Print the broken links of files and folders; return the exit status."""
    found = 0
    for place in map(Path, places):
        files = [place] if place.is_file() else sorted(place.rglob("*.html"))
        # The theme keeps templates among its static files.
        for file in (one for one in files if "_static" not in one.parts):
            for link in dict.fromkeys(broken(file)):
                print(f"{file}: {link} leads nowhere")
                found += 1
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
