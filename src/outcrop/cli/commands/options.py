"""Options of several commands: of comparisons, of SEG-Y; checks of their combinations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from outcrop.errors import OutcropError
from outcrop.models.architectures import Network, UserNet, network_named
from outcrop.progress import warn
from outcrop.sources.reading import Reading, SegyReading
from outcrop.training.recipe import Machine, Recipe, Tuning

if TYPE_CHECKING:
    from outcrop.patches.patchset import PatchSet
    from outcrop.workflow.comparison import Comparison
    from outcrop.workflow.learnt import LearntFeatures


@dataclass(frozen=True)
class ComparisonOptions:
    """Options of a comparison.

    Attributes:
        split: split made by `outcrop split`: one fold, or all with --all-folds. Default: spatial
            cross-validation, in which every patch is held out once.
        folds: number of folds without --split. 1 holds out one of five parts and no other. Default:
            5.
        block: side of the spatial blocks without --split, as in `outcrop split`.
        buffer: distance between training and validation patches without --split, as in `outcrop
            split`.
        network: as in `outcrop train`.
        recipe: how the network is trained.
        tuning: tuning of the network, repeated in each training.
        seeds: train every model once per random seed, for example 0,1,2.
        sources: for --neighbourhood and --slices: present location of the files that the patches
            were cut from, in the same order, if they have moved.
        workers: number of processes that train at the same time. Default: the number of cores, or
            one on a GPU. The results do not depend on it.
        scheduler: address of a Dask cluster, or local[N] for N processes on this machine.
        gap_seeds: number of seeds, from the first, for which everything is repeated under a random
            split to measure the leak gap, which takes as long; 0: no leak gap. Default: all.
        only_classical: train no network; compare the classical classifiers only.
    """

    split: Path | None = None
    folds: int | None = None
    block: float | None = None
    buffer: float | None = None
    network: Network | None = None
    recipe: Recipe = field(default_factory=Recipe)
    tuning: Tuning = field(default_factory=Tuning)
    seeds: list[int] | None = None
    sources: list[str] | None = None
    workers: int | None = None
    scheduler: str | None = None
    gap_seeds: int | None = None
    only_classical: bool = False

    def compare(
        self, patches: PatchSet, output: Path, resume: bool, encoder: LearntFeatures | None = None
    ) -> Comparison:
        """Compare models with these options.

        Raises:
            OutcropError: as for `outcrop.workflow.compare.compare`; an option has no effect beside
                --split.
        """
        from outcrop.splits import default_folds, read_folds
        from outcrop.workflow.compare import compare

        keep_memory(self.recipe.machine)
        if self.split is None:
            number = 5 if self.folds is None else self.folds
            seed = self.seeds[0] if self.seeds else self.recipe.seed
            folds = default_folds(patches, number, self.block, self.buffer, seed)
        else:
            refuse_beside("--split", folds=self.folds, block=self.block, buffer=self.buffer)
            folds = read_folds(self.split, patches)
        return compare(
            patches,
            folds,
            output,
            self.network,
            self.recipe,
            resume,
            self.sources,
            self.seeds,
            encoder,
            self.workers,
            self.scheduler,
            gap_seeds=self.gap_seeds,
            tuning=self.tuning,
            only_classical=self.only_classical,
        )


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


def refuse_beside(what: str, **options: Any) -> None:
    """Raise an error for options that would have no effect."""
    for name, value in options.items():
        if value is not None and value is not False:
            raise OutcropError(_option(name), f"has no meaning beside {what}; leave it out")


def refuse_reading(reading: Reading, what: str) -> None:
    """Raise an error for options of reading rasters if there are none."""
    _refuse_given(reading, Reading(), f"has no meaning for {what}")


def _refuse_given(given: Any, default: Any, why: str) -> None:
    """Raise an error for fields of a dataclass of options that differ from the default."""
    for item in fields(given):
        if getattr(given, item.name) != getattr(default, item.name):
            raise OutcropError(_option(item.name), f"{why}; leave it out")


def refuse_without(what: str, **options: Any) -> None:
    """Raise an error for options that need another option."""
    for name, value in options.items():
        if value is not None:
            raise OutcropError(_option(name), f"needs {what}; give it too")


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def name_network(network: str | None) -> None:
    """Allow this process to call the function of the user that builds a network.

    Args:
        network: package.module:function.
    """
    if network is not None and not isinstance(network_named(network), UserNet):
        raise OutcropError("--network", f"{network} is not package.module:function; leave it out")
