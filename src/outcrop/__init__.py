"""Patch classification on scenes and volumes, scored in held-out areas."""

from __future__ import annotations

import warnings
from functools import reduce
from typing import Any

import lazy_loader

__version__ = "0.1.0"

# Each name is imported when it is first used (SPEC 1), so that `import outcrop` costs nothing and
# models load without the geospatial libraries. The names stand in `__init__.pyi`, for type checkers
# and editors too.
_attribute, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

_RENAMED = {
    "PictureAugmentation": "GenerativeAugmentation",
    "lay_together": "mosaic_scenes",
    "map": "map_scene",
    "positions_table": "locating.Located.to_frame",
    "report": "write_report",
}


def __getattr__(name: str) -> Any:
    if name in _RENAMED:
        new = _RENAMED[name]
        warnings.warn(
            f"outcrop.{name} is now outcrop.{new}; the next version has the new name only",
            FutureWarning,
            stacklevel=2,
        )
        name = new
    first, *rest = name.split(".")
    if first not in __all__:
        raise AttributeError(f"module 'outcrop' has no attribute '{name}'")
    return reduce(getattr, rest, _attribute(first))
