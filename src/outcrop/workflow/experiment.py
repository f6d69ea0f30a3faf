"""One experiment: from scenes and labels to scores and class maps."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from outcrop.accuracy.assess import assess
from outcrop.accuracy.assessment import write_assessment
from outcrop.auditing.audit import audit
from outcrop.auditing.folder import check_same_set, read_audit, write_audit
from outcrop.errors import OutcropError
from outcrop.executors import Scheduler
from outcrop.files import kept_if_whole, new_file
from outcrop.frames import Tabular
from outcrop.mapping.openmap import map_figure
from outcrop.mapping.prepare import Wanted
from outcrop.mapping.scene import map_scene
from outcrop.patches.cut import cut
from outcrop.patches.patchset import PatchSet, read_patches
from outcrop.progress import tell, warn
from outcrop.sources.class_raster import open_class_raster
from outcrop.sources.names import stem
from outcrop.sources.opening import open_scenes
from outcrop.sources.scene import Scene
from outcrop.sources.vector import is_vector
from outcrop.splits import Folds, default_folds, read_folds
from outcrop.training.applicability import has_applicability
from outcrop.training.device import pick_device
from outcrop.training.parallel.process_group import refuse_several
from outcrop.training.run import Run
from outcrop.workflow.compare import FOLDS, SPLIT, compare
from outcrop.workflow.comparison import Comparison
from outcrop.workflow.final import chosen, fit_to_all
from outcrop.workflow.plan import Experiment

if TYPE_CHECKING:
    import pandas

_MAPS_SHOWN = 6


@dataclass(frozen=True)
class Results(Tabular):
    """Contents of the folder of an experiment.

    In a notebook it shows the comparison of the models and small pictures of the maps.

    Attributes:
        folder: the folder.
        patches: the patch set, `patches.zarr`.
        folds: the spatial folds, `folds.json`; a single fold is in `split.json`.
        comparison: the comparison of all models, `comparison/`.
        run: the run that made the maps, `final/`: the model recommended by cross-validation or
            selected with `map_with`, fitted to all labelled patches.
        maps: class maps by scene name, in `maps/`; maps with known truth have an assessment beside
            them.
        truth: class rasters by scene name.
    """

    folder: Path
    patches: PatchSet
    folds: Folds
    comparison: Comparison
    run: Run
    maps: dict[str, Path]
    truth: dict[str, str]

    def __repr__(self) -> str:
        return (
            f"Results({self.folder}: {len(self.patches):,} patches, {self.folds.kind}, "
            f"{len(self.maps)} maps made by {self.run.model.title})"
        )

    def to_frame(self) -> pandas.DataFrame:
        """One row per model; see `Comparison.to_frame`."""
        return self.comparison.to_frame()

    def _repr_html_(self) -> str:
        shown = [map_figure(path) for path in list(self.maps.values())[:_MAPS_SHOWN]]
        pictures = f'<div style="display: flex; flex-wrap: wrap">{"".join(shown)}</div>'
        return f"<p>{escape(repr(self))}</p>{self.comparison._repr_html_()}{pictures}"


def run_experiment(
    experiment: Experiment,
    folder: str | Path,
    resume: bool = False,
    workers: int | None = None,
    scheduler: Scheduler | None = None,
) -> Results:
    """Cut patches, split them spatially, audit, compare models, fit one to all patches, and map.

    Args:
        experiment: the plan.
        folder: output folder. It is kept once patches and split are written; each further step is
            added when it is complete.
        resume: continue an experiment that was interrupted, from the first unfinished step.
        workers, scheduler: see `outcrop.workflow.compare.compare`.

    Raises:
        OutcropError: the input is wrong; `folder` exists and `resume` is false, or it has another
            experiment.
    """
    folder = Path(folder)
    pick_device(experiment.recipe.machine.device)
    refuse_several(experiment.recipe.machine, "an experiment")
    if experiment.recipe.augmentation.slices:
        raise OutcropError("`slices`", "has no effect on scenes; leave it out")
    if experiment.network is not None and experiment.size is not None:
        experiment.network.check_size((experiment.size, experiment.size))
    scenes = open_scenes(experiment.scenes, experiment.bands, experiment.crs, experiment.reading)
    names = [scene.name for scene in scenes]
    if twice := [name for name in names if names.count(name) > 1]:
        raise OutcropError(twice[0], "is given twice; give each scene once")
    _check_truth(experiment, len(scenes))
    with nullcontext() if resume and folder.exists() else kept_if_whole(folder):
        _write_experiment(experiment, folder)
        patches = _cut(experiment, scenes, folder / "patches.zarr")
        folds = _folds(experiment, patches, folder)
    first, audited = folds.splits[0], folder / "audit"
    if audited.exists():
        check_same_set(read_audit(audited)[0], patches, first, audited)
    else:
        found = audit(patches, first, seed=experiment.recipe.seed)
        tell(f"audit: {found.summary}")
        write_audit(found, patches, audited)
    comparison = compare(
        patches,
        folds,
        folder / "comparison",
        experiment.network,
        experiment.recipe,
        resume=(folder / "comparison").exists(),
        workers=workers,
        scheduler=scheduler,
        tuning=experiment.tuning,
    )
    row = chosen(comparison, experiment.map_with, "`map_with`")
    tell(f"maps are made with {row.title}, fitted to all {len(patches):,} patches")
    final = folder / "final"
    run = fit_to_all(patches, folder / "comparison", final, row.title, resume=final.exists())
    maps = _map(experiment, scenes, run, folder / "maps")
    truth = dict(zip(maps, experiment.truth, strict=False))
    _assess(experiment, maps, truth, folds)
    return Results(folder, patches, folds, comparison, run, maps, truth)


def _check_truth(experiment: Experiment, scenes: int) -> None:
    if experiment.truth and len(experiment.truth) != scenes:
        raise OutcropError(
            "`truth`",
            f"{len(experiment.truth)} files for {scenes} scene{'s'[: scenes > 1]}; pass one for "
            "each scene",
        )
    crs = experiment.labels_crs or experiment.crs
    for path, classes in zip(experiment.truth, experiment.truth_classes(), strict=True):
        open_class_raster(path, crs, classes)


def _write_experiment(experiment: Experiment, folder: Path) -> None:
    path = folder / "experiment.yaml"
    if path.exists():
        # Compared as settings, not as text: older versions wrote settings that are gone.
        before = Experiment.from_yaml(path.read_text(encoding="utf-8", errors="replace"))
        if before != experiment:
            raise OutcropError(path, "was run with other settings; use another folder")
    with new_file(path) as temporary:
        temporary.write_text(experiment.to_yaml(), encoding="utf-8")


def _cut(experiment: Experiment, scenes: Sequence[Scene], path: Path) -> PatchSet:
    if path.exists():
        return read_patches(path)
    return cut(
        scenes,
        experiment.labels,
        experiment.column,
        experiment.size,
        stride=experiment.stride,
        per_class=experiment.per_class,
        classes=None if all(map(is_vector, experiment.labels)) else experiment.classes,
        colours=experiment.colours,
        labels_crs=experiment.labels_crs,
        layer=experiment.layer,
        encoding=experiment.encoding,
        seed=experiment.recipe.seed,
        output=path,
    )


def _folds(experiment: Experiment, patches: PatchSet, folder: Path) -> Folds:
    path = folder / (FOLDS if experiment.folds > 1 else SPLIT)
    if path.exists():
        return read_folds(path, patches)
    if (folder / SPLIT).exists():
        raise OutcropError(
            folder, "was run with one fold by an old version of outcrop; use another folder"
        )
    folds = default_folds(
        patches, experiment.folds, experiment.block, experiment.buffer, experiment.recipe.seed
    )
    for note in folds.notes(patches):
        warn(note)
    folds.save(path)
    return folds


def _map(
    experiment: Experiment, scenes: Sequence[Scene], run: Run, folder: Path
) -> dict[str, Path]:
    folder.mkdir(exist_ok=True)
    maps = {}
    # A dense map computes every pixel and allows no step.
    method: Wanted = "patches" if experiment.step > 1 else "auto"
    for number, scene in enumerate(scenes[: experiment.maps]):
        name = f"{number}-{stem(scene.opened[0])}"
        path = folder / f"{name}-classes.tif"
        if not path.exists():
            tell(f"mapping {scene.title}")
            dissimilarity = folder / f"{name}-dissimilarity.tif"
            map_scene(
                run, scene, path, folder / f"{name}-confidence.tif", experiment.step,
                dissimilarity=dissimilarity if has_applicability(run.folder) else None,
                overwrite=True, method=method, resume=True,
            )  # fmt: skip
        maps[scene.name] = path
    return maps


def _assess(
    experiment: Experiment, maps: dict[str, Path], truth: dict[str, str], folds: Folds
) -> None:
    """Write `NAME-assessment.json` beside each map whose truth is known."""
    crs = experiment.labels_crs or experiment.crs
    for (scene, path), names in zip(truth.items(), experiment.truth_classes(), strict=False):
        classes = maps[scene]
        output = classes.with_name(classes.name.replace("-classes.tif", "-assessment.json"))
        if output.exists():
            continue
        try:
            found = assess(classes, path, block=folds.how["block"], labels_crs=crs, classes=names)
            write_assessment(output, found)
        except OutcropError as error:
            warn(f"{error}; {classes.name} is not assessed with it")
