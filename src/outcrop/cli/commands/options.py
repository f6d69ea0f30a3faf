"""Options of several commands: checks of their combinations, SEG-Y, folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from outcrop.errors import OutcropError
from outcrop.models.architectures import UserNet, network_named
from outcrop.progress import warn
from outcrop.sources.reading import Reading, SegyReading
from outcrop.training.recipe import Machine

if TYPE_CHECKING:
    from outcrop.patches.patchset import PatchSet
    from outcrop.splits import Folds


def refuse_segy(segy: SegyReading, sources: Sequence[str]) -> None:
    """Raise an error for SEG-Y options if no source is SEG-Y.

    Raises:
        OutcropError: there is such an option.
    """
    from outcrop.sources.volumes import volume_kind

    # What is not there raises an error when it is opened.
    if any(volume_kind(one) == "segy" or not Path(one).exists() for one in sources):
        return
    _refuse_given(segy, SegyReading(), "has no meaning beside sources other than SEG-Y")


def opened_sources(sources: list[str], segy: SegyReading) -> Sequence[Any]:
    """The sources; volumes are opened if SEG-Y options were passed."""
    from outcrop.sources.kinds import are_volumes, open_all_volumes

    if segy == SegyReading() or not are_volumes(sources):
        return sources
    return open_all_volumes(sources, segy)


def opened_labels(labels: list[str], segy: SegyReading) -> Sequence[Any]:
    """Label volumes, opened if SEG-Y options were passed.

    The samples are read as their own header says. Lines may stand at the standard's bytes, though
    those of the volume do not; that is printed.
    """
    from outcrop.sources.volumes import open_volume

    own = replace(segy, format=None, endian=None)
    if own == SegyReading():
        return labels
    found = []
    for one in labels:
        try:
            found.append(open_volume(one, **vars(own)))
        except OutcropError:
            usual = SegyReading(gaps=segy.gaps)
            if own == usual:
                raise
            found.append(open_volume(one, **vars(usual)))
            warn(
                f"{one}: its inline and crossline numbers are read at bytes {usual.inline_byte} "
                f"and {usual.crossline_byte}, for at {own.inline_byte} and {own.crossline_byte} "
                "it has none"
            )
    return found


def keep_memory(machine: Machine) -> None:
    """Let a process that will train on the CPU keep memory that tensors have freed.

    Commands do this and no function of the library does: it changes the whole process for good.

    Raises:
        OutcropError: no such device.
    """
    from outcrop.training.device import keep_freed_memory, pick_device

    if pick_device(machine.device).type == "cpu":
        keep_freed_memory()


def chosen_folds(
    patches: PatchSet,
    split: Path | None,
    folds: int | None,
    block: float | None,
    buffer: float | None,
    seed: int,
) -> Folds:
    """The folds of a comparison, from a file or from options.

    Raises:
        OutcropError: they do not fit the patches; there are options and a file.
    """
    from outcrop.splits import default_folds, read_folds

    if split is not None:
        refuse_beside("--split", folds=folds, block=block, buffer=buffer)
        return read_folds(split, patches)
    return default_folds(patches, 5 if folds is None else folds, block, buffer, seed)


def refuse_beside(what: str, **options: Any) -> None:
    """Raise an error for options that would have no effect."""
    for name, value in options.items():
        if value is not None and value is not False:
            option = name.replace("_", "-")
            raise OutcropError(f"--{option}", f"has no meaning beside {what}; leave it out")


def refuse_reading(reading: Reading, what: str) -> None:
    """Raise an error for options of reading rasters if there are none."""
    _refuse_given(reading, Reading(), f"has no meaning for {what}")


def _refuse_given(given: Any, default: Any, why: str) -> None:
    """Raise an error for fields of a dataclass of options that differ from the default."""
    for item in fields(given):
        if getattr(given, item.name) != getattr(default, item.name):
            raise OutcropError(f"--{item.name.replace('_', '-')}", f"{why}; leave it out")


def refuse_without(what: str, **options: Any) -> None:
    """Raise an error for options that need another option."""
    for name, value in options.items():
        if value is not None:
            raise OutcropError(f"--{name.replace('_', '-')}", f"needs {what}; give it too")


def name_network(network: str | None) -> None:
    """Allow this process to call the function of the user that builds a network.

    Args:
        network: package.module:function.
    """
    if network is None:
        return
    if not isinstance(network_named(network), UserNet):
        raise OutcropError("--network", f"{network} is not package.module:function; leave it out")
