"""The demo on a cube: patches whose origin was lost, from audit to scores on new cubes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from outcrop.auditing.audit import Audit, audit
from outcrop.auditing.folder import Evidence, read_audit, write_audit
from outcrop.errors import OutcropError
from outcrop.files import kept_if_whole, new_file, read_json, write_json
from outcrop.locating.locate import locate
from outcrop.locating.table import with_positions, write_positions
from outcrop.models.architectures import ResidualNet
from outcrop.patches.at_positions import cut_at_positions
from outcrop.patches.patchset import PatchSet, read_patches
from outcrop.patches.positions import Source, upper_left, volume_positions
from outcrop.progress import tell
from outcrop.sources.volumes import open_volume
from outcrop.splits import SlabSplit, Split, random_counterpart, read_split
from outcrop.splits.geometry import suggest_buffer
from outcrop.splits.split import TRAIN, VALIDATION
from outcrop.synthetic.cube import CLASSES, cube_in, make_cube, random_patches
from outcrop.synthetic.damage import damage
from outcrop.synthetic.trainings import PLAIN, Outcome, outcomes, predict, train_all
from outcrop.training.device import pick_device
from outcrop.training.recipe import Augmentation, Recipe
from outcrop.training.run import Run

AUDITS = ("handed over", "random", "spatial")
_CLIP = (0.5, 99.5)
_GAIN = 0.1


@dataclass(frozen=True)
class Story:
    """The settings of the demo.

    Attributes:
        shape: inlines, crosslines and samples of the cube.
        size: height and width of a patch in pixels.
        per_class: number of patches of each of the four classes.
        share: minimum share of a patch's pixels of its class.
        axis: axis that the slices of the patches are perpendicular to.
        slabs: number of slabs of the cube along that axis.
        folds: one in so many slabs is held out.
        new_cubes: number of cubes of other seeds for the final evaluation.
        new_per_class: number of patches of each class from each of them.
        network, recipe: the plain network and its training, with the seed of all steps.
        neighbourhood, slices: reach of the neighbourhood augmentation.
        survival: survival probability of stochastic depth.
    """

    shape: tuple[int, int, int]
    size: int
    per_class: int
    share: float
    network: ResidualNet
    recipe: Recipe
    axis: int = 0
    slabs: int = 6
    folds: int = 3
    new_cubes: int = 2
    new_per_class: int = 250
    neighbourhood: int = 8
    slices: int = 2
    survival: float = 0.8

    @property
    def seed(self) -> int:
        """The random seed of all steps."""
        return self.recipe.seed

    @property
    def variants(self) -> list[tuple[str, ResidualNet, Recipe]]:
        """Name, network and recipe of each variant that is trained under each split.

        All use random gains and no flips. Random crops with padding are used where patches are not
        cut again from their source.
        """
        # The label belongs to the whole image.
        plain = Augmentation(flip=False, gain=_GAIN, label_of="image")
        near = replace(plain, neighbourhood=self.neighbourhood, slices=self.slices)
        padded = replace(self.recipe, augmentation=plain)
        shifted = replace(self.recipe, augmentation=near)
        deep = replace(self.network, survival=self.survival)
        return [
            (PLAIN, self.network, padded),
            ("neighbourhood", self.network, shifted),
            ("stochastic depth", deep, padded),
            ("both", deep, shifted),
        ]


@dataclass(frozen=True, eq=False)
class StoryResult:
    """The content of a story's folder.

    Attributes:
        lost: the patches without positions, and the truth.
        positions: `positions.csv` of locate.
        located: the patches found, with their positions.
        splits: the splits, "random" and "spatial".
        audits: audits by name, one of `AUDITS`.
        runs: runs by split and variant.
        outcomes: scores of each run, in their order.
        seconds: time of each step, by name.
    """

    folder: Path
    story: Story
    lost: LostPatches
    positions: pd.DataFrame
    located: PatchSet
    splits: dict[str, Split]
    audits: dict[str, tuple[Audit, Evidence]]
    runs: dict[tuple[str, str], Run]
    outcomes: tuple[Outcome, ...]
    seconds: dict[str, float]

    @property
    def exact(self) -> np.ndarray:
        """Mask of the patches that were located at their true position."""
        names = ["axis", "index", "row", "column"]
        same = self.positions[names].to_numpy() == self.lost.truth[names].to_numpy()
        return np.asarray(self.positions["found"].to_numpy(bool) & same.all(axis=1))


def run_story(story: Story, folder: str | Path, resume: bool = False) -> StoryResult:
    """Make a cube and damaged patches, audit, locate, split, train, and evaluate on new cubes.

    The files of a step appear in the folder when they are complete. A finished step is not
    repeated.

    Args:
        resume: continue an interrupted story.

    Raises:
        OutcropError: the folder exists and `resume` is false, or holds another story; the cube has
            too few places for patches; the disk is full.
        KeyboardInterrupt, Stopped: Ctrl-C or SIGTERM; the story can be resumed.
    """
    folder = Path(folder)
    pick_device(story.recipe.machine.device)
    with nullcontext() if resume and folder.exists() else kept_if_whole(folder):
        _check_settings(folder, story)
        timer = _Timer(folder / "seconds.json")
        with timer.step("cube and patches"):
            lost = make_lost_patches(story, folder, story.seed, story.per_class)
    _audit("handed over", lost.patches, None, story, folder, timer)
    located = _locate(story, lost, folder, timer)
    spatial = _spatial(story, located, folder / "spatial.json")
    random = _random(story, located, spatial, folder / "random.json")
    splits = {"random": random, "spatial": spatial}
    for name, split in splits.items():
        _audit(name, located, split, story, folder, timer)
    runs = train_all(located, splits, story.variants, folder / "runs", lost.volume)
    predicted = _predict_new_cubes(story, runs, folder, timer)
    scores = outcomes(runs, splits, predicted)
    return StoryResult(
        folder=folder,
        story=story,
        lost=lost,
        positions=pd.read_csv(folder / "positions.csv", keep_default_na=False, na_values=[""]),
        located=located,
        splits=splits,
        audits={name: read_audit(folder / _audit_name(name)) for name in AUDITS},
        runs=runs,
        outcomes=scores,
        seconds=timer.seconds | {"trainings": sum(one.seconds for one in scores)},
    )


class _Timer:
    """The time of each finished step, in this process or an earlier one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.seconds: dict[str, float] = read_json(path, "diary", "demo") if path.exists() else {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        if name not in self.seconds:
            tell(f"{name} ...")
        started = time.perf_counter()
        yield
        if name not in self.seconds:
            self.seconds[name] = round(time.perf_counter() - started, 2)
            write_json(self._path, self.seconds)


def _check_settings(folder: Path, story: Story) -> None:
    """Write the settings into a new folder, or compare them with those there."""
    path, content = folder / "story.json", json.loads(json.dumps(asdict(story)))
    if path.exists():
        if read_json(path, "story", "demo('cube')") != content:
            raise OutcropError(path, "was run with other settings; choose another folder")
    elif not folder.is_dir() or any(folder.iterdir()):
        raise OutcropError(folder, "is not a demo of outcrop; choose another folder")
    else:
        write_json(path, content)


def _audit_name(name: str) -> str:
    return f"audit-{name.replace(' ', '-')}"


def _audit(
    name: str, patches: PatchSet, split: Split | None, story: Story, folder: Path, timer: _Timer
) -> None:
    where = folder / _audit_name(name)
    if where.exists():
        return
    with timer.step(f"audit, {name}"):
        found = audit(patches, split, seed=story.seed)
        write_audit(found, patches, where)
    tell(f"audit, {name}: {found.summary}")


def _locate(story: Story, lost: LostPatches, folder: Path, timer: _Timer) -> PatchSet:
    path = folder / "located.zarr"
    if not path.exists():
        with timer.step("locate"):
            located = locate(lost.patches, lost.volume, story.axis)
            write_positions(folder / "positions.csv", located, lost.patches, overwrite=True)
            with_positions(lost.patches, located, as_given=True).save(path)
        tell(f"located {located.found.sum():,} of {len(located):,} patches")
    return read_patches(path)


def _spatial(story: Story, patches: PatchSet, path: Path) -> Split:
    """The fold whose rarest class, on either side, has the most patches."""
    if path.exists():
        return read_split(path, patches)
    assert patches.positions is not None
    splitter = SlabSplit(
        axis=story.axis,
        thickness=-(-story.shape[story.axis] // story.slabs),
        n_splits=story.folds,
        buffer=suggest_buffer(patches.positions),
    )

    def rarest(held_out: np.ndarray) -> int:
        sides = splitter.with_buffer(patches, np.where(held_out, VALIDATION, TRAIN).astype(np.int8))
        both = [
            np.bincount(patches.labels[sides == side], minlength=len(patches.classes))
            for side in (TRAIN, VALIDATION)
        ]
        return int(np.min(both))

    folds = splitter.validation_masks(patches)
    split = splitter.assign(patches, int(np.argmax([rarest(mask) for mask in folds])))
    split.save(path)
    return split


def _random(story: Story, patches: PatchSet, spatial: Split, path: Path) -> Split:
    if path.exists():
        return read_split(path, patches)
    split = random_counterpart(patches, spatial, story.seed)
    split.save(path)
    return split


def _predict_new_cubes(
    story: Story, runs: dict[tuple[str, str], Run], folder: Path, timer: _Timer
) -> Any:
    """The predictions of each run for patches of cubes that no run was trained on."""
    path = folder / "new-cubes.npz"
    if not path.exists():
        with timer.step("new cubes"):
            cubes = [
                make_lost_patches(
                    story, folder / f"new-{k}", story.seed + 1_000 * k, story.new_per_class
                )
                for k in range(1, story.new_cubes + 1)
            ]
            predict([cube.with_truth for cube in cubes], runs, path)
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


@dataclass(frozen=True, eq=False)
class LostPatches:
    """Patches of a cube whose positions were lost, and the truth.

    Attributes:
        volume: the cube, `cube/cube.npy`.
        patches: N patches without positions, with integer grey values, sorted by class.
        truth: one row per patch in their order: axis, index, row and column of the
            upper-left pixel, gain and offset.
    """

    volume: Path
    patches: PatchSet
    truth: pd.DataFrame

    @property
    def with_truth(self) -> PatchSet:
        """The patches with their true positions."""
        size, at = self.patches.size[0], self.truth
        row, column = (at[name].to_numpy() - upper_left(0, size) for name in ("row", "column"))
        return replace(
            self.patches,
            positions=volume_positions(
                0, at["axis"].to_numpy(), at["index"].to_numpy(), row, column, size
            ),
            sources=(Source.of(open_volume(self.volume)),),
        )


def make_lost_patches(story: Story, folder: Path, seed: int, per_class: int) -> LostPatches:
    """Make a cube, cut patches of four classes, and damage them.

    Each patch has its own contrast and brightness, the darkest and brightest 0.5 % of the pixels
    are clipped, values have 8 bits, the order is by class, and positions are removed. The truth is
    written to `truth.csv`. Existing files are used again.

    Args:
        folder: folder of `cube/`, `patches.zarr` and `truth.csv`.
        seed: random seed of the cube, the places and the damage.
        per_class: number of patches of each class.

    Raises:
        OutcropError: the cube has too few places for patches of a class; the disk is full.
    """
    folder.mkdir(exist_ok=True)
    cube = cube_in(folder / "cube")
    if not cube.volume.parent.exists():
        make_cube(folder / "cube", story.shape, seed)
    if not (folder / "patches.zarr").exists():
        places = _places(story, cube.classes, seed, per_class)
        _write(places, folder / "places.csv")
        cut = cut_at_positions(cube.volume, folder / "places.csv", size=story.size)
        images, labels, done = damage(cut.images, cut.labels, seed, clip=_CLIP, order="sorted")
        truth = places.drop(columns="label").iloc[done.order]
        _write(truth.assign(gain=done.gain, offset=done.offset), folder / "truth.csv")
        PatchSet(images, labels, cut.classes, cut.bands).save(folder / "patches.zarr")
    patches = read_patches(folder / "patches.zarr")
    return LostPatches(cube.volume, patches, pd.read_csv(folder / "truth.csv"))


def _places(story: Story, classes: Path, seed: int, per_class: int) -> pd.DataFrame:
    truth = np.load(classes, mmap_mode="r", allow_pickle=False)
    places = random_patches(truth, story.axis, story.size, per_class, seed, story.share)
    columns = {name: getattr(places, name) for name in ("index", "row", "column")}
    return pd.DataFrame({"axis": story.axis, **columns, "label": np.array(CLASSES)[places.label]})


def _write(table: pd.DataFrame, path: Path) -> None:
    with new_file(path) as temporary:
        table.to_csv(temporary, index=False)
