"""The options of a command: its parameters, with dataclasses replaced by their fields."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import docstring_parser

from outcrop.cli.group import Command
from outcrop.models.architectures import network_named

REQUIRED = inspect.Parameter.empty
OWN = "Options"

# Fields of dataclasses that --help shows; --help-all shows all.
_SHOWN = {
    "labels", "column", "size", "stride", "block", "buffer", "folds", "shape",
    "depth", "epochs", "batch", "learning_rate", "trials", "seed", "device",
}  # fmt: skip

# Titles of panels, by dataclass; the default is the first line of its docstring.
_TITLES = {
    "ResidualNet": "Residual network",
    "MultiScaleNet": "Multi-scale network",
    "Recipe": "Optimisation",
    "Augmentation": "Augmentation",
    "Machine": "Hardware",
    "Tuning": "Tuning",
    "ComparisonOptions": OWN,
    "Experiment": "Data and maps",
    "Reading": "Reading of rasters",
    "SegyReading": "Reading of SEG-Y",
    "VaeGan": "Networks of the VAE-GAN",
    "VaeGanRecipe": "Training of the VAE-GAN",
    "EncoderPlan": "Training of the VAE-GAN",
}


@dataclass(frozen=True)
class Option:
    """A parameter of a command, or a field of a dataclass that is a parameter.

    Attributes:
        panel: title of its panel in the help.
    """

    name: str
    hint: Any
    default: Any
    positional: bool
    help: str | None
    panel: str = OWN

    @property
    def dashed(self) -> str:
        """The name on the command line, without the two leading dashes."""
        return self.name.replace("_", "-")


def choices_of(hint: Any) -> tuple[str, ...]:
    """The values of a `Literal`; empty for other types."""
    kinds = [kind for kind in (hint, *get_args(hint)) if get_origin(kind) is Literal]
    return get_args(kinds[0]) if kinds else ()


def nullable(option: Option) -> bool:
    """Whether the value may be None."""
    return NoneType in get_args(option.hint)


def is_tuple(hint: Any) -> bool:
    """Whether a type is a tuple, or allows one."""
    return any(get_origin(kind) is tuple for kind in (hint, *get_args(hint)))


def options_of(function: Command) -> dict[str, Option]:
    """All options of a command by name; dataclasses are replaced by their fields."""
    items = {
        name: (one.default, one.kind is one.POSITIONAL_OR_KEYWORD)
        for name, one in inspect.signature(function).parameters.items()
    }
    return _options(function, items, OWN)


def fields_of(kind: Any) -> dict[str, Option]:
    """The options that the fields of a dataclass become, by name."""
    panel = _TITLES.get(kind.__name__) or summary(kind).rstrip(".") or kind.__name__
    return _options(kind, {item.name: (default_of(item), False) for item in fields(kind)}, panel)


def _options(
    documented: Any, items: Mapping[str, tuple[Any, bool]], panel: str
) -> dict[str, Option]:
    """The options of parameters or fields.

    Args:
        items: default of each, and whether it is positional.
    """
    hints, described = get_type_hints(documented), _described(documented)
    found: dict[str, Option] = {}
    for name, (default, positional) in items.items():
        hint, text = hints[name], described.get(name)
        if kinds := kinds_in(hint):
            for part, option in _parts(name, kinds, text, panel).items():
                found.setdefault(part, option)
        else:
            found[name] = Option(name, hint, default, positional, text, panel)
    return found


def kinds_in(hint: Any) -> tuple[Any, ...]:
    """The dataclasses that a type is or allows, preferably with defaults for all fields."""
    kinds = tuple(kind for kind in (hint, *get_args(hint)) if is_dataclass(kind))
    with_defaults = tuple(
        kind for kind in kinds if all(default_of(item) is not REQUIRED for item in fields(kind))
    )
    return with_defaults or kinds


def _parts(name: str, kinds: tuple[Any, ...], help_: str | None, panel: str) -> dict[str, Option]:
    """An option that chooses a named instance, if the dataclass has any; then its fields."""
    by_name = {name: Option(name, str | None, None, False, help_, panel)} if naming(kinds) else {}
    for kind in kinds:
        by_name |= fields_of(kind)
    return by_name


def naming(kinds: tuple[Any, ...]) -> Callable[[str], Any] | None:
    """The function that finds an instance of the dataclass by name, if there is one."""
    if len(kinds) > 1:
        return network_named
    return getattr(kinds[0], "named", None)


def dataclasses(documented: Any) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Parameters of a function, or fields of a dataclass, that are dataclasses, at any depth."""
    for name, hint in get_type_hints(documented).items():
        if kinds := kinds_in(hint):
            yield name, kinds
            for kind in kinds:
                yield from dataclasses(kind)


def default_of(item: Field[Any]) -> Any:
    """The default of a field; `REQUIRED` if it has none."""
    if item.default_factory is not MISSING:
        return item.default_factory()
    return REQUIRED if item.default is MISSING else item.default


def item_type(hint: Any) -> type | None:
    """The type of the items of a list, or of a tuple of any length; None for other types."""
    for kind in (hint, *get_args(hint)):
        if get_origin(kind) is list or (get_origin(kind) is tuple and get_args(kind)[1:] == (...,)):
            return get_args(kind)[0]
    return None


def summary(documented: Any) -> str:
    """The first line of a docstring."""
    return docstring_parser.parse(documented.__doc__ or "").short_description or ""


def shown(option: Option) -> bool:
    """Whether --help shows the option; --help-all shows all."""
    return option.panel == OWN or option.name in _SHOWN or option.default is REQUIRED


def _described(documented: Any) -> dict[str, str | None]:
    """The descriptions of parameters or attributes in a docstring, by name."""
    parameters = docstring_parser.parse(documented.__doc__ or "").params
    return {
        name.strip(): " ".join((parameter.description or "").split()) or None
        for parameter in parameters
        for name in parameter.arg_name.split(",")
    }
