"""Writes one page of the API reference for each package, with every public name of `outcrop`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from command_pages import write_if_changed
from sphinx.application import Sphinx

import outcrop

FOLDER = "reference/api"


@dataclass(frozen=True)
class Page:
    """A page of the reference.

    Attributes:
        package: the package of `outcrop` whose public names it lists.
        title: its heading.
        results: qualified names of classes that functions return; users do not create them.
    """

    package: str
    title: str
    results: tuple[str, ...] = ()


PAGES = (
    Page("sources", "Scenes, volumes, labels, collections", ("sources.scene.Scene",)),
    Page("patches", "Patch sets"),
    Page("splits", "Spatial splits"),
    Page("auditing", "Audit", ("auditing.audit.Audit", "auditing.check.Finding")),
    Page("models", "Networks and classical classifiers"),
    Page("training", "Training", ("training.run.Run",)),
    Page(
        "metrics",
        "Scores, intervals, tests",
        ("metrics.scores.Scores", "metrics.intervals.Interval"),
    ),
    Page("workflow", "Comparisons and experiments", ("workflow.comparison.Comparison",)),
    Page("mapping", "Class maps", ("mapping.scene.MappedScene",)),
    Page("accuracy", "Accuracy of a class map", ("accuracy.assessment.Assessment",)),
    Page("reporting", "Reports"),
    Page("locating", "Locating", ("locating.located.Located",)),
    Page("generative", "Generative networks"),
    Page("synthetic", "Synthetic scenes and cubes"),
    Page("errors", "Errors"),
)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("builder-inited", lambda app: write_pages(Path(app.srcdir) / FOLDER))
    return {"parallel_read_safe": True}


def write_pages(folder: Path) -> None:
    """Write a page for each package and an index of them."""
    folder.mkdir(parents=True, exist_ok=True)
    names = {name: getattr(outcrop, name) for name in outcrop.__all__}
    placed: set[str] = set()
    for page in PAGES:
        mine = {name: one for name, one in names.items() if _package(one) == page.package}
        placed |= set(mine)
        write_if_changed(folder / f"{page.package}.rst", "\n".join(_page(page, mine)))
    missing = {
        name
        for name, one in names.items()
        if name not in placed and not inspect.ismodule(one) and _package(one)
    }
    if missing:
        raise ValueError(f"no page for {', '.join(sorted(missing))}; add its package to PAGES")
    files = "\n".join(page.package for page in PAGES)
    text = f"# Python API\n\n{INTRODUCTION}\n\n```{{toctree}}\n:maxdepth: 1\n\n{files}\n```"
    write_if_changed(folder / "index.md", text)


INTRODUCTION = (
    "Everything here is a name of `outcrop`, by convention `import outcrop as oc`. Functions take "
    "paths or the objects that the readers return."
)


def _package(one: Any) -> str:
    return str(getattr(one, "__module__", "")).split(".")[1:2][0] if _ours(one) else ""


def _ours(one: Any) -> bool:
    return str(getattr(one, "__module__", "")).startswith("outcrop.")


def _page(page: Page, names: dict[str, Any]) -> Iterator[str]:
    yield page.title
    yield "=" * len(page.title)
    yield ""
    yield inspect.getdoc(__import__(f"outcrop.{page.package}", fromlist=["x"])) or ""
    yield ""
    functions = [name for name, one in names.items() if not inspect.isclass(one)]
    classes = [name for name, one in names.items() if inspect.isclass(one)]
    for heading, some in (("Functions", functions), ("Classes", classes)):
        if some:
            yield f"{heading}\n{'-' * len(heading)}\n"
        for name in some:
            kind = "autoclass" if inspect.isclass(names[name]) else "autofunction"
            yield f".. {kind}:: outcrop.{name}"
            # Methods that scikit-learn adds have docstrings for its own site.
            hidden = "set_fit_request, set_score_request"
            yield f"   :members:\n   :exclude-members: {hidden}\n" if kind == "autoclass" else ""
    if page.results:
        yield "Results\n-------\n"
    for name in page.results:
        yield f".. autoclass:: outcrop.{name}\n   :members:\n   :no-index:\n"
