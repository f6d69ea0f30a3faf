"""Published recipes: which network was trained how, and what came out. One YAML file each."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from importlib.resources import files

from outcrop.errors import OutcropError
from outcrop.models.architectures import ResidualNet
from outcrop.training.recipe import Settled, suited
from outcrop.workflow.plan import take_training

_FILES = files("outcrop.workflow") / "recipes"


@dataclass(frozen=True)
class Published:
    """A recipe for CIFAR-10 with flips and crops, and the figures it is held against.

    Attributes:
        name: what `outcrop reproduce` calls it.
        source: the paper, where in it the figure stands, and what figure it is.
        paper: the paper's test accuracy in %, or None where it has none for this network.
        report: test accuracies in % from the report that outcrop started from.
        network: what is trained.
        recipe: how, all but the machine and the seed.
    """

    name: str
    source: str
    paper: float | None
    report: tuple[float, ...]
    network: ResidualNet
    recipe: Settled


def read_published(name: str) -> Published:
    """The recipe of that name.

    Raises:
        OutcropError: there is none.

    >>> read_published("resnet20").paper
    91.25
    """
    import yaml

    names = _names()
    if name not in names:
        near = difflib.get_close_matches(name, names, 1)
        hint = f"did you mean {near[0]}?" if near else "`outcrop reproduce` lists them"
        raise OutcropError("reproduce", f"there is no recipe '{name}'; {hint}")
    content = yaml.safe_load((_FILES / f"{name}.yaml").read_text(encoding="utf-8"))
    network, recipe = take_training(content)
    assert isinstance(network, ResidualNet)
    recipe = suited(recipe, network)
    return Published(
        name, report=tuple(content.pop("report")), network=network, recipe=recipe, **content
    )


def all_published() -> tuple[Published, ...]:
    """All recipes, plain networks first, from shallow to deep."""
    return tuple(
        sorted(
            map(read_published, _names()),
            key=lambda one: (
                one.network.levels,
                one.network.widen,
                one.network.depth,
                -one.network.survival,
            ),
        )
    )


def _names() -> list[str]:
    return [path.name.removesuffix(".yaml") for path in _FILES.iterdir()]
