"""The Processing algorithms: one class that is made from a specification, and 'Set up outcrop'."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from processing.core.ProcessingConfig import ProcessingConfig
from qgis.core import (
    QgsProcessingAlgorithm,
    QgsProcessingException,
    QgsProcessingOutputHtml,
    QgsProcessingOutputNumber,
    QgsProcessingOutputRasterLayer,
    QgsProcessingOutputString,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterEnum,
    QgsProcessingParameterFile,
    QgsProcessingParameterFolderDestination,
    QgsProcessingParameterString,
    QgsSettings,
)
from qgis.PyQt.QtGui import QIcon

from . import compat, results
from .environment import (
    SETTING,
    check_version,
    default_folder,
    delivered_package,
    find_command,
    find_python,
    make_environment,
    setup_commands,
)
from .handover import check_field
from .parameters import Reader, parameters_of
from .process import Finished, Message, OutcropFailed, Progress, error_of, run
from .specification import (
    Specification,
    Step,
    arguments_of,
    help_of,
    in_dialog_words,
    is_left_out,
    parameter_of,
    values_of,
)

_SETTINGS_KEY = f"Processing/Configuration/{SETTING}"
ICON = str(Path(__file__).parent / "icons" / "outcrop.svg")
OPEN_REPORT = "OPEN_REPORT"


def command_setting() -> str:
    """The path of the command that the user has entered in the settings, or nothing."""
    return str(QgsSettings().value(_SETTINGS_KEY, "") or "")


def _quoted(words: list[str]) -> str:
    return " ".join(f'"{word}"' if " " in word else word for word in words)


class OutcropAlgorithm(QgsProcessingAlgorithm):
    """Runs commands of outcrop as its specification says."""

    def __init__(self, specification: Specification) -> None:
        super().__init__()
        self._specification = specification
        self._given: dict[str, Any] = {}
        self._report: str | None = None

    # What Processing asks for

    def createInstance(self) -> OutcropAlgorithm:  # noqa: N802, D102
        return OutcropAlgorithm(self._specification)

    def name(self) -> str:  # noqa: D102
        return self._specification.name

    def displayName(self) -> str:  # noqa: N802, D102
        return self._specification.title

    def group(self) -> str:  # noqa: D102
        return self._specification.group

    def groupId(self) -> str:  # noqa: N802, D102
        return self._specification.group.lower().replace(" ", "-")

    def icon(self) -> QIcon:  # noqa: D102
        return QIcon(ICON)

    def svgIconPath(self) -> str:  # noqa: N802, D102
        return ICON

    def shortHelpString(self) -> str:  # noqa: N802, D102
        return help_of(self._specification)

    def canExecute(self) -> tuple[bool, str]:  # noqa: N802, D102
        try:
            find_command(command_setting())
        except OutcropFailed as failed:
            return False, str(failed)
        return True, ""

    def initAlgorithm(self, configuration: Any = None) -> None:  # noqa: N802, D102
        for parameter in parameters_of(self._specification):
            self.addParameter(parameter)
        if self._specification.reports:
            self.addParameter(
                QgsProcessingParameterBoolean(
                    OPEN_REPORT, "Open the report in the browser", defaultValue=True
                )
            )
        if self._specification.name == "experiment":
            self.addOutput(QgsProcessingOutputRasterLayer("MAP", "Class map"))
            self.addOutput(QgsProcessingOutputString("RECOMMENDATION", "Recommended model"))
        if self._specification.name == "assess":
            self.addOutput(QgsProcessingOutputNumber("OVERALL_ACCURACY", "Overall accuracy"))
        if self._specification.name in ("experiment", "audit"):
            self.addOutput(QgsProcessingOutputHtml("REPORT", "Report"))

    # A run

    def prepareAlgorithm(self, parameters: Any, context: Any, feedback: Any) -> bool:  # noqa: N802, D102
        # In the main thread, where layers may be read.
        try:
            self._reader = Reader(self, self._specification, parameters, context)
            self._given = self._reader.read()
            self._use_columns()
        except OutcropFailed as failed:
            raise QgsProcessingException(str(failed)) from None
        return True

    def _use_columns(self) -> None:
        for field, vector in self._reader.fields_by_layer():
            check_field(field, vector.fields, vector.name)
            vector.use_column(field)

    def processAlgorithm(self, parameters: Any, context: Any, feedback: Any) -> dict[str, Any]:  # noqa: N802, D102
        copies = None
        try:
            command = find_command(command_setting())
            check_version(command)
            if self._specification.keeps_copies:
                folder = Path(self.parameterAsFileOutput(parameters, "OUTPUT", context) + "-layers")
            else:
                folder = copies = Path(tempfile.mkdtemp(prefix="outcrop-"))
            values, destinations = self._reader.write(folder, feedback.pushInfo)
            steps = [step for step in self._specification.steps if not is_left_out(step, values)]
            found: dict[str, Any] = {}
            for number, step in enumerate(steps):
                finished = self._run_step(command, step, values, feedback, number, len(steps))
                if finished.cancelled:
                    feedback.pushInfo(self._in_words(error_of(finished)))
                    return {}
                found[step.command] = _json(finished)
        except OutcropFailed as failed:
            raise QgsProcessingException(self._in_words(str(failed))) from None
        finally:
            if copies is not None:
                shutil.rmtree(copies, ignore_errors=True)
        for line in results.summary(found):
            feedback.pushInfo(line)
        given = results.outputs(self._specification.name, found, destinations)
        wanted = self._specification.reports and self.parameterAsBoolean(
            parameters, OPEN_REPORT, context
        )
        self._report = given.get("REPORT") if wanted else None
        results.load(self._specification.name, found, given, context, self._reader.title())
        return given

    def _run_step(
        self, command: Path, step: Step, values: dict[str, Any], feedback: Any, number: int, of: int
    ) -> Finished:
        """Run one command.

        Raises:
            OutcropFailed: it could not do its work.
        """
        chosen = values_of(step, values)
        for option in chosen:
            how = step.shown.get(option)
            if how is not None and how.kind == "new-folder":
                _remove_empty(Path(values[parameter_of(step, option)]))
        words = [str(command), *arguments_of(step.command, chosen)]
        feedback.pushCommandInfo(_quoted(words))
        shown = ""

        def follow(line: Progress | Message | str) -> None:
            nonlocal shown
            if isinstance(line, Progress):
                feedback.setProgress(100 * (number + line.share) / of)
                if line.text != shown:
                    shown = line.text
                    feedback.setProgressText(line.text)
            elif isinstance(line, Message) and line.level in ("warning", "error"):
                feedback.pushWarning(self._in_words(line.text))
            elif isinstance(line, Message):
                feedback.pushInfo(line.text)
            elif not line.startswith("outcrop: "):
                feedback.pushDebugInfo(line)

        finished = run(words, follow, feedback.isCanceled)
        # An audit with a critical finding ends with 1, and is an answer.
        answers = (0, 1) if step.command == "audit" else (0,)
        if not finished.cancelled and finished.code not in answers:
            raise OutcropFailed(error_of(finished))
        return finished

    def _in_words(self, line: str) -> str:
        return in_dialog_words(line, self._specification)

    def postProcessAlgorithm(self, context: Any, feedback: Any) -> dict[str, Any]:  # noqa: N802, D102
        if self._report:
            results.open_in_browser(self._report)
        return {}


def _json(finished: Finished) -> Any:
    """What a command printed.

    Raises:
        OutcropFailed: it is not JSON.
    """
    try:
        return json.loads(finished.output)
    except ValueError:
        raise OutcropFailed(
            "outcrop printed no JSON, so that its results are not known; run 'Set up outcrop'"
        ) from None


def _remove_empty(folder: Path) -> None:
    """Remove an empty folder: the dialog for folders makes it, and outcrop wants a new one."""
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


class SetUp(QgsProcessingAlgorithm):
    """Makes the Python environment that has outcrop."""

    def __init__(self) -> None:
        super().__init__()
        self._setting: str | None = None

    def createInstance(self) -> SetUp:  # noqa: N802, D102
        return SetUp()

    def name(self) -> str:  # noqa: D102
        return "setup"

    def displayName(self) -> str:  # noqa: N802, D102
        return "Set up outcrop"

    def group(self) -> str:  # noqa: D102
        return "Set up"

    def groupId(self) -> str:  # noqa: N802, D102
        return "set-up"

    def icon(self) -> QIcon:  # noqa: D102
        return QIcon(ICON)

    def svgIconPath(self) -> str:  # noqa: N802, D102
        return ICON

    def shortHelpString(self) -> str:  # noqa: N802, D102
        return (
            "<p>Makes a Python environment of its own for outcrop. QGIS's own Python stays as it "
            "is.</p>"
            f"<p>It makes the folder below (usually {default_folder()}), and downloads outcrop and "
            "the packages that it needs, above all PyTorch, from pypi.org and pytorch.org. That is "
            "about 1 GB without GPU, and 5 GB with it. Each command is shown in the log before it "
            "runs. Cancel removes the folder again.</p>"
            "<p>It needs Python 3.11 or newer. Where QGIS has an older one, install one from "
            "python.org; it is found on PATH, or enter its path.</p>"
        )

    def initAlgorithm(self, configuration: Any = None) -> None:  # noqa: N802, D102
        self.addParameter(
            QgsProcessingParameterEnum(
                "HARDWARE", "Hardware", options=["CPU", "NVIDIA GPU"], defaultValue="CPU",
                usesStaticStrings=True,
            )
        )  # fmt: skip
        self.addParameter(
            QgsProcessingParameterFolderDestination(
                "FOLDER", "Folder of the environment", defaultValue=str(default_folder())
            )
        )
        python = QgsProcessingParameterFile(
            "PYTHON", "Python (default: QGIS's own, or one on PATH)", optional=True,
            fileFilter=compat.ANY_FILE,
        )  # fmt: skip
        package = QgsProcessingParameterString(
            "PACKAGE", "What pip installs (default: the outcrop of this plugin)", optional=True
        )
        options = QgsProcessingParameterString("OPTIONS", "More options of pip", optional=True)
        for one in (python, package, options):
            one.setFlags(one.flags() | compat.ADVANCED)
            self.addParameter(one)
        self.addOutput(QgsProcessingOutputString("COMMAND", "outcrop command"))

    def processAlgorithm(self, parameters: Any, context: Any, feedback: Any) -> dict[str, Any]:  # noqa: N802, D102
        def text(name: str) -> str:
            return self.parameterAsString(parameters, name, context).strip()

        def follow(line: Progress | Message) -> None:
            if isinstance(line, Progress):
                feedback.setProgress(100 * line.share)
            else:
                feedback.pushInfo(line.text)

        folder = Path(text("FOLDER") or default_folder())
        cpu_only = self.parameterAsEnumString(parameters, "HARDWARE", context) != "NVIDIA GPU"
        try:
            python = find_python(text("PYTHON"))
            commands = setup_commands(
                python, folder, text("PACKAGE") or delivered_package(), cpu_only,
                text("OPTIONS").split(),
            )  # fmt: skip
            feedback.pushInfo(f"These commands make the environment in {folder}:")
            for command in commands:
                feedback.pushInfo(f"  {_quoted(command)}")
            made = make_environment(commands, folder, follow, feedback.isCanceled)
        except OutcropFailed as failed:
            raise QgsProcessingException(str(failed)) from None
        if made is None:
            feedback.pushInfo("stopped; the folder of the environment was removed")
            return {}
        self._setting = "" if folder == default_folder() else str(made)
        feedback.pushInfo(f"outcrop {check_version(made)} is ready")
        return {"FOLDER": str(folder), "COMMAND": str(made)}

    def postProcessAlgorithm(self, context: Any, feedback: Any) -> dict[str, Any]:  # noqa: N802, D102
        # From now on the new environment is the one that is used.
        if self._setting is not None:
            ProcessingConfig.setSettingValue(SETTING, self._setting)
        return {}
