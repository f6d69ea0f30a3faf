"""The plugin: registers the provider, and offers to set up outcrop where it is not found."""

from __future__ import annotations

from typing import Any

from qgis.core import Qgis, QgsApplication
from qgis.PyQt.QtCore import QTimer
from qgis.PyQt.QtWidgets import QPushButton

from .environment import find_command
from .process import OutcropFailed
from .provider import OutcropProvider


class OutcropPlugin:
    """What QGIS loads."""

    def __init__(self, iface: Any) -> None:
        self._iface = iface
        self._provider: OutcropProvider | None = None

    def initProcessing(self) -> None:  # noqa: N802
        """Register the algorithms; `qgis_process` calls this alone."""
        self._provider = OutcropProvider()
        QgsApplication.processingRegistry().addProvider(self._provider)

    def initGui(self) -> None:  # noqa: N802
        """Register the algorithms, and look for outcrop once the window is there."""
        self.initProcessing()
        QTimer.singleShot(3000, self._look_for_command)

    def unload(self) -> None:
        """Remove the algorithms."""
        if self._provider is not None:
            QgsApplication.processingRegistry().removeProvider(self._provider)
            self._provider = None

    def _look_for_command(self) -> None:
        from .algorithms import command_setting

        if self._provider is None:
            return
        try:
            find_command(command_setting())
        except OutcropFailed:
            self._offer_set_up()

    def _offer_set_up(self) -> None:
        """A line with a button; nothing is made before the user starts the algorithm."""
        bar = self._iface.messageBar()
        message = bar.createMessage(
            "outcrop", "needs a Python environment of its own, which is not there yet."
        )
        button = QPushButton("Set up outcrop…")
        button.clicked.connect(self._open_set_up)
        message.layout().addWidget(button)
        level = getattr(Qgis, "MessageLevel", Qgis)
        bar.pushWidget(message, level.Info, 30)

    def _open_set_up(self) -> None:
        import processing

        processing.execAlgorithmDialog("outcrop:setup", {})
