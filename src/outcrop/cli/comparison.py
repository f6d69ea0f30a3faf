"""`ComparisonOptions`: the common options of the commands that compare models."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from outcrop.models.architectures import Network
from outcrop.training.recipe import Recipe, Tuning

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
        self,
        patches: PatchSet,
        output: Path,
        resume: bool,
        encoder: LearntFeatures | None = None,
    ) -> Comparison:
        """Compare models with these options.

        Raises:
            OutcropError: as for `outcrop.workflow.compare.compare`; an option has no effect beside
                --split.
        """
        from outcrop.cli.commands.options import chosen_folds, keep_memory
        from outcrop.workflow.compare import compare

        keep_memory(self.recipe.machine)
        seed = self.seeds[0] if self.seeds else self.recipe.seed
        return compare(
            patches,
            chosen_folds(patches, self.split, self.folds, self.block, self.buffer, seed),
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
