"""A page as a reader meets it."""

from __future__ import annotations

from html.parser import HTMLParser


class Page(HTMLParser):
    """What a browser would see: elements with their attributes, and the text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.words = [], []
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    @property
    def sections(self):
        return [attrs["id"] for tag, attrs in self.elements if tag == "section"]

    @property
    def pictures(self):
        """Title, width and height of every picture, and the images it is made of."""
        found = []
        for tag, attrs in self.elements:
            if tag == "svg" and "viewbox" in attrs:
                size = attrs["viewbox"].split()[2:]
                found.append((attrs.get("aria-label"), *map(int, map(float, size)), []))
            elif tag == "image" and found:
                found[-1][3].append(attrs)
        return found
