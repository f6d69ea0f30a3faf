"""The whole story of patches whose origin was lost, on a cube whose truth is known."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from outcrop.auditing.audit import Audit, audit
from outcrop.auditing.folder import Evidence, read_audit, write_audit
from outcrop.errors import OutcropError
from outcrop.files import kept_if_whole, read_json, write_json
from outcrop.locating.locate import locate
from outcrop.locating.table import with_positions, write_positions
from outcrop.models.architectures import ResidualNet
from outcrop.patches.patchset import PatchSet, read_patches
from outcrop.progress import tell
from outcrop.splits import SlabSplit, Split, random_counterpart, read_split
from outcrop.splits.geometry import suggest_buffer
from outcrop.splits.split import TRAIN, VALIDATION
from outcrop.synthetic.trainings import Outcome, Ways, judge, outcomes, train_all
from outcrop.synthetic.wild import Wild, make_wild
from outcrop.training.device import pick_device
from outcrop.training.recipe import Recipe
from outcrop.training.run import Run

AUDITS = ("handed over", "random", "ground")
_USED = (TRAIN, VALIDATION)


@dataclass(frozen=True)
class Story:
    """What is made, lost, found again and trained on.

    Attributes:
        shape: inlines, crosslines and samples of the cube.
        size: height and width of a patch in pixels.
        per_class: patches of each of the four classes.
        share: of a patch's pixels that are of its class, at least.
        axis: that the patches' slices are across.
        slabs: the cube is cut into so many slabs across that axis.
        folds: every so-many-th slab is held out.
        new_cubes: how many cubes of other seeds the networks are judged on in the end.
        new_per_class: patches of each class from each of them.
        network, recipe: what is trained; the recipe's seed is that of everything.
        neighbourhood, slices: reach of the augmentation from the source.
        survival: of stochastic depth.
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
        """Of everything that is drawn."""
        return self.recipe.seed

    @property
    def ways(self) -> Ways:
        """How networks are trained under each split."""
        return Ways(self.network, self.recipe, self.neighbourhood, self.slices, self.survival)


@dataclass(frozen=True, eq=False)
class Told:
    """What a story left in its folder.

    Attributes:
        folder, story: where, and what was asked for.
        wild: the patches that were handed over, and the truth.
        positions: pandas, `positions.csv` of locate.
        located: the patches that were found, with their positions.
        random, ground: the splits.
        audits: by what was audited, one of `AUDITS`.
        runs: by split and way.
        outcomes: one for each run, in their order.
        seconds: that each step took, by name.
    """

    folder: Path
    story: Story
    wild: Wild
    positions: Any
    located: PatchSet
    random: Split
    ground: Split
    audits: dict[str, tuple[Audit, Evidence]]
    runs: dict[tuple[str, str], Run]
    outcomes: tuple[Outcome, ...]
    seconds: dict[str, float]

    @property
    def exact(self) -> np.ndarray:
        """Mask of the patches that were found where they truly are."""
        names = ["axis", "index", "row", "column"]
        same = self.positions[names].to_numpy() == self.wild.truth[names].to_numpy()
        return np.asarray(self.positions["found"].to_numpy(bool) & same.all(axis=1))


def tell_story(story: Story, folder: str | Path, resume: bool = False) -> Told:
    """Make a cube and damaged patches, audit, locate, split, train, and judge on new cubes.

    Every step appears in the folder when it is whole, and is not done again.

    Args:
        folder: gets everything.
        resume: go on with a story that was interrupted, from the first step not done.

    Raises:
        OutcropError: `folder` exists and `resume` is false, or holds another story; the cube has no
            room for so many patches; the disk is full.
        KeyboardInterrupt, Stopped: Ctrl-C or SIGTERM; the story can be resumed.
    """
    folder = Path(folder)
    pick_device(story.recipe.machine.device)
    with nullcontext() if resume and folder.exists() else kept_if_whole(folder):
        _claim(folder, story)
        diary = _Diary(folder / "seconds.json")
        with diary.step("cube and patches"):
            wild = _wild(story, folder, story.seed, story.per_class)
    _audit("handed over", wild.patches, None, story, folder, diary)
    located = _locate(story, wild, folder, diary)
    ground = _ground(story, located, folder / "ground.json")
    random = _random(story, located, ground, folder / "random.json")
    for name, split in (("random", random), ("ground", ground)):
        _audit(name, located, split, story, folder, diary)
    splits = {"random": random, "ground": ground}
    runs = train_all(located, splits, story.ways, folder / "runs", wild.volume)
    judged = _judge_on_new_ground(story, runs, folder, diary)
    kept = outcomes(runs, splits, judged)
    return Told(
        folder=folder,
        story=story,
        wild=wild,
        positions=_read_table(folder / "positions.csv"),
        located=located,
        random=random,
        ground=ground,
        audits={name: read_audit(folder / _audit_name(name)) for name in AUDITS},
        runs=runs,
        outcomes=kept,
        seconds=diary.seconds | {"trainings": sum(one.seconds for one in kept)},
    )


class _Diary:
    """How long each step took that was done, in this process or one before."""

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


def _claim(folder: Path, story: Story) -> None:
    path, content = folder / "story.json", json.loads(json.dumps(asdict(story)))
    if path.exists():
        if read_json(path, "story", "demo cube") != content:
            raise OutcropError(path, "was run with other settings; choose another folder")
    elif not folder.is_dir() or any(folder.iterdir()):
        raise OutcropError(folder, "is no story of outcrop; choose another folder")
    else:
        write_json(path, content)


def _wild(story: Story, folder: Path, seed: int, per_class: int) -> Wild:
    return make_wild(folder, story.shape, story.size, per_class, story.share, story.axis, seed)


def _audit_name(name: str) -> str:
    return f"audit-{name.replace(' ', '-')}"


def _audit(
    name: str, patches: PatchSet, split: Split | None, story: Story, folder: Path, diary: _Diary
) -> None:
    where = folder / _audit_name(name)
    if where.exists():
        return
    with diary.step(f"audit, {name}"):
        found = audit(patches, split, seed=story.seed)
        write_audit(found, patches, where)
    tell(f"audit, {name}: {found.summary}")


def _locate(story: Story, wild: Wild, folder: Path, diary: _Diary) -> PatchSet:
    path = folder / "located.zarr"
    if not path.exists():
        with diary.step("locate"):
            located = locate(wild.patches, wild.volume, story.axis)
            write_positions(folder / "positions.csv", located, wild.patches, overwrite=True)
            with_positions(wild.patches, located, as_given=True).save(path)
        tell(f"located {located.found.sum():,} of {len(located):,} patches")
    return read_patches(path)


def _ground(story: Story, patches: PatchSet, path: Path) -> Split:
    """Of the folds, that which leaves the rarest class of either side the most patches."""
    if path.exists():
        return read_split(path, patches)
    assert patches.positions is not None
    splitter = SlabSplit(
        axis=story.axis,
        thickness=-(-story.shape[story.axis] // story.slabs),
        n_splits=story.folds,
        buffer=suggest_buffer(patches.positions),
    )

    def rarest(judged: np.ndarray) -> int:
        sides = splitter.with_buffer(patches, np.where(judged, VALIDATION, TRAIN).astype(np.int8))
        both = [
            np.bincount(patches.labels[sides == side], minlength=len(patches.classes))
            for side in _USED
        ]
        return int(np.min(both))

    judged = splitter.validation_masks(patches)
    split = splitter.assign(patches, int(np.argmax([rarest(mask) for mask in judged])))
    split.save(path)
    return split


def _random(story: Story, patches: PatchSet, ground: Split, path: Path) -> Split:
    if path.exists():
        return read_split(path, patches)
    split = random_counterpart(patches, ground, story.seed)
    split.save(path)
    return split


def _judge_on_new_ground(
    story: Story, runs: dict[tuple[str, str], Run], folder: Path, diary: _Diary
) -> Any:
    """What each run says of patches of cubes that nobody has trained on."""
    path = folder / "new-ground.npz"
    if not path.exists():
        with diary.step("new cubes"):
            cubes = [
                _wild(story, folder / f"new-{k}", story.seed + 1_000 * k, story.new_per_class)
                for k in range(1, story.new_cubes + 1)
            ]
            judge([cube.with_truth for cube in cubes], runs, path)
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def _read_table(path: Path) -> Any:
    import pandas as pd

    return pd.read_csv(path, keep_default_na=False, na_values=[""])
