"""The QGIS plugin of outcrop: its commands as Processing algorithms."""

from __future__ import annotations

from typing import Any


def classFactory(iface: Any) -> Any:  # noqa: N802
    """Make the plugin, as QGIS asks."""
    from .plugin import OutcropPlugin

    return OutcropPlugin(iface)
