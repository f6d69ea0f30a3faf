"""The provider of the algorithms in the Processing toolbox."""

from __future__ import annotations

from processing.core.ProcessingConfig import ProcessingConfig, Setting
from qgis.core import QgsProcessingProvider
from qgis.PyQt.QtGui import QIcon

from .algorithms import ICON, OutcropAlgorithm, SetUp
from .environment import SETTING
from .specification import SPECIFICATIONS


class OutcropProvider(QgsProcessingProvider):
    """All algorithms of outcrop."""

    def id(self) -> str:
        """The name before the colon: outcrop:map."""
        return "outcrop"

    def name(self) -> str:
        """The name in the toolbox."""
        return "outcrop"

    def icon(self) -> QIcon:
        """The icon in the toolbox."""
        return QIcon(ICON)

    def svgIconPath(self) -> str:  # noqa: N802
        """The file of the icon."""
        return ICON

    def load(self) -> bool:
        """Add the setting for the path of the command, then the algorithms."""
        ProcessingConfig.settingIcons[self.name()] = self.icon()
        ProcessingConfig.addSetting(
            Setting(
                self.name(),
                SETTING,
                "outcrop command, or the environment that has it (empty: found automatically)",
                "",
                valuetype=Setting.FILE,
            )
        )
        ProcessingConfig.readSettings()
        self.refreshAlgorithms()
        return True

    def unload(self) -> None:
        """Remove the setting."""
        ProcessingConfig.removeSetting(SETTING)

    def loadAlgorithms(self) -> None:  # noqa: N802
        """Add the algorithms."""
        for specification in SPECIFICATIONS:
            self.addAlgorithm(OutcropAlgorithm(specification))
        self.addAlgorithm(SetUp())
