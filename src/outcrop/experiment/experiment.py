"""One experiment: from scenes and labelled ground to scores and class maps."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

import yaml

from outcrop.errors import OutcropError
from outcrop.experiment.compare import Comparison, compare
from outcrop.files import check_new, new_file
from outcrop.mapping.scene import map_scene
from outcrop.models.architectures import ResidualNet
from outcrop.patches.cut import cut
from outcrop.patches.patchset import PatchSet, read_patches
from outcrop.progress import console
from outcrop.sources.scene import open_scenes
from outcrop.splits import BlockSplit, Split, read_split, suggest_block
from outcrop.training.recipe import Recipe
from outcrop.training.run import Run, read_run


@dataclass(frozen=True)
class Experiment:
    """What to do, with every default written out; `experiment.yaml` in the result folder.

    Attributes:
        scenes: raster files; single-band files on one grid are one scene.
        labels: polygons, points or label rasters: one file for all scenes or one each.
        column: the column of vector labels that names the class.
        truth: class rasters to hold the maps against, one for each scene, where they exist.
        size: height and width of a patch in pixels.
        bands: numbers of the bands to use, from 1; all if none are named.
        stride: use only labelled pixels on every so many rows and columns.
        per_class: at most so many patches of each class.
        classes: names for the values of a label raster, in ascending order.
        crs: coordinate reference system of scenes that carry none.
        labels_crs: the same for labels.
        block: side of the blocks of ground in metres; a tenth of the labelled ground's extent,
            but at least four patches, if not given.
        buffer: metres between training and validation patches; one patch if not given.
        folds: one of so many parts of the ground validates.
        maps: how many of the scenes to map; all if not given.
        step: map one pixel of each cell of `step × step` pixels.
        network: the residual network.
        recipe: how it is trained; its seed is used for every draw.
    """

    scenes: list[str]
    labels: list[str]
    column: str | None = None
    truth: list[str] = field(default_factory=list)
    size: int = 32
    bands: list[int] | None = None
    stride: int = 1
    per_class: int | None = None
    classes: list[str] | None = None
    crs: str | None = None
    labels_crs: str | None = None
    block: float | None = None
    buffer: float | None = None
    folds: int = 5
    maps: int | None = None
    step: int = 1
    network: ResidualNet = field(default_factory=ResidualNet)
    recipe: Recipe = field(default_factory=Recipe)

    def to_yaml(self) -> str:
        """The experiment as `outcrop experiment --config` reads it."""
        content = asdict(self)
        content |= content.pop("network") | content.pop("recipe")
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


@dataclass(frozen=True)
class Results:
    """What an experiment left in its folder.

    Attributes:
        folder: the folder.
        patches: the patch set, `patches.zarr`.
        split: the split by ground, `split.json`.
        comparison: all models, `comparison/`.
        run: the network under the split by ground, `comparison/network/`.
        maps: class maps by scene name, `maps/`.
        truth: class rasters by scene name.
    """

    folder: Path
    patches: PatchSet
    split: Split
    comparison: Comparison
    run: Run
    maps: dict[str, Path]
    truth: dict[str, Path]


def run_experiment(experiment: Experiment, folder: str | Path, resume: bool = False) -> Results:
    """Cut, split by ground, compare the models, and map.

    Args:
        folder: gets everything; each step appears there when it is whole.
        resume: go on with an experiment that was interrupted, from the first step not done.

    Raises:
        OutcropError: anything wrong with the input; `folder` exists and `resume` is false, or it
            holds another experiment.
    """
    folder = Path(folder)
    if experiment.truth and len(experiment.truth) != len(experiment.scenes):
        raise OutcropError(
            "--truth",
            f"{len(experiment.truth)} files for {len(experiment.scenes)} scenes; give one each",
        )
    if not resume:
        check_new(folder)
        folder.mkdir()
    _write_experiment(experiment, folder)
    patches = _cut(experiment, folder / "patches.zarr")
    split = _split(experiment, patches, folder / "split.json")
    comparison = compare(
        patches,
        split,
        folder / "comparison",
        experiment.network,
        experiment.recipe,
        resume=(folder / "comparison").exists(),
    )
    run = read_run(folder / "comparison" / "network", experiment.recipe.device)
    maps = _map(experiment, run, folder / "maps")
    return Results(folder, patches, split, comparison, run, maps, _truth(experiment, maps))


def _write_experiment(experiment: Experiment, folder: Path) -> None:
    path = folder / "experiment.yaml"
    text = experiment.to_yaml()
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise OutcropError(path, "was run with other settings; choose another folder")
    with new_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _cut(experiment: Experiment, path: Path) -> PatchSet:
    if path.exists():
        return read_patches(path)
    console.print("cutting patches")
    return cut(
        experiment.scenes,
        experiment.labels,
        experiment.column,
        experiment.size,
        bands=experiment.bands,
        stride=experiment.stride,
        per_class=experiment.per_class,
        classes=experiment.classes,
        crs=experiment.crs,
        labels_crs=experiment.labels_crs,
        seed=experiment.recipe.seed,
        output=path,
    )


def _split(experiment: Experiment, patches: PatchSet, path: Path) -> Split:
    if path.exists():
        return read_split(path)
    positions = patches.positions
    assert positions is not None, "patches of a scene have positions"
    patch = float(max(positions.width.max(), positions.height.max()))
    splitter = BlockSplit(
        block=suggest_block(positions) if experiment.block is None else experiment.block,
        buffer=patch if experiment.buffer is None else experiment.buffer,
        folds=experiment.folds,
        seed=experiment.recipe.seed,
    )
    split = splitter.assign(patches)
    for warning in split.warnings(patches):
        console.print(f"note: {warning}")
    split.save(path)
    return split


def _map(experiment: Experiment, run: Run, folder: Path) -> dict[str, Path]:
    scenes = open_scenes(experiment.scenes, experiment.bands, experiment.crs)
    folder.mkdir(exist_ok=True)
    maps = {}
    for number, scene in enumerate(scenes[: experiment.maps]):
        name = f"{number}-{scene.files[0].stem}"
        path = folder / f"{name}-classes.tif"
        if not path.exists():
            console.print(f"mapping {scene.title}")
            map_scene(
                run.classifier, scene, path, folder / f"{name}-confidence.tif", experiment.step,
                overwrite=True,
            )  # fmt: skip
        maps[scene.name] = path
    return maps


def _truth(experiment: Experiment, maps: dict[str, Path]) -> dict[str, Path]:
    return dict(zip(maps, map(Path, experiment.truth), strict=False))
