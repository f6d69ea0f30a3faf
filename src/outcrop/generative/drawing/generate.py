"""A trained VAE-GAN draws pictures, which are shown, kept and measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from outcrop.files import check_new, new_folder, write_json
from outcrop.generative.drawing.codes import class_samples
from outcrop.generative.drawing.material import gather, notes_on
from outcrop.generative.drawing.measures import PictureMeasures, measure
from outcrop.generative.drawing.parts import Part, between_samples, draw_parts, samples
from outcrop.generative.drawing.wish import Wish
from outcrop.generative.run import VaeGanRun
from outcrop.patches.patchset import PatchSet
from outcrop.training.classifier import Classifier
from outcrop.training.run import Run


@dataclass(frozen=True, eq=False)
class Generated:
    """What a VAE-GAN has drawn.

    Attributes:
        folder: where it lies.
        arrays: what `arrays.npz` holds, pictures in the units and number type of the patches:
            `samples` and `sample_codes`; `originals`, `reconstructions`, `reconstruction_codes`,
            and `reconstructed`, which patches they are; `interpolation`, `interpolation_codes` and
            `between`, which patches are at its ends; `attributes` (rows × steps × picture),
            `attribute_codes`, `attribute_steps`, `attribute_sources` (patches),
            `attribute_targets` (classes) and `class_codes`; `nearest`, the training patches nearest
            to each sample, `nearest_distances`, and `held_out_distances`, those of held-out patches
            to theirs.
        measures: None without patches, or with too few held-out ones.
        notes: what was left out and why, and how far the measures can be believed.
    """

    folder: Path
    arrays: Mapping[str, np.ndarray]
    measures: PictureMeasures | None
    notes: tuple[str, ...]

    @property
    def files(self) -> list[Path]:
        """All that lies in the folder."""
        return sorted(self.folder.iterdir())


def generate(
    run: VaeGanRun,
    folder: str | Path,
    patches: PatchSet | None = None,
    number: int = 64,
    seed: int = 0,
    judge: Classifier | Run | None = None,
    per_class: int = 0,
    between: Sequence[int] | None = None,
    attribute: str | None = None,
) -> Generated:
    """Draw samples, and with patches all that can be held against them.

    With patches these are reconstructions of held-out pictures, the way from one picture to
    another, classes added to pictures, the training pictures nearest to samples, and measures. The
    sides are those of the run: what a class is comes from its training side, and held out is its
    validation side. What a run cannot give is left out, and a note says so.

    Args:
        run: of a VAE-GAN, or of a part of one.
        folder: a new folder: a PNG file of each part, `arrays.npz`, `measures.json`, and with
            `per_class` `classes.npz`, which `outcrop audit` and `outcrop train` read.
        patches: those that the run was trained on.
        number: of samples.
        seed: of codes, and of the pictures that are chosen.
        judge: a classifier of such patches, whose features tell how alike pictures are; without
            one, pixels do.
        per_class: how many pictures to draw of each class (`class_samples`).
        between: the indices of two patches, instead of held-out ones that are drawn.
        attribute: the one class to add to pictures of every other one, instead of each class to
            some other one.

    Raises:
        OutcropError: the folder exists; the patches are not those of the run; something was asked
            for that needs patches, an encoder or several classes; the judge was trained on patches
            of another kind; the disk is full.
    """
    folder = Path(folder)
    check_new(folder, instead="")
    wish = Wish(number, seed, per_class, None if between is None else tuple(between), attribute)
    wish.check(run, patches, judge is not None)
    if patches is None:
        codes = run.model.draw(max(number, 2), seed)
        parts = [samples(run.model, codes[:number]), between_samples(run.model, codes[:2])]
        found = _found(folder, parts, None, ("without patches: samples, and what is between two",))
    else:
        material = gather(run, patches, wish, judge)
        found = _found(
            folder,
            parts := draw_parts(material, wish),
            measure(material, seed),
            notes_on(material, wish),
        )
    with new_folder(folder) as temporary:
        for part in parts:
            part.sheet.write(temporary / f"{part.name}.png")
        np.savez(temporary / "arrays.npz", **found.arrays)  # type: ignore[arg-type]
        if patches is not None and per_class:
            drawn = class_samples(run.model, patches, run.split.train, per_class, seed)
            _write_collection(temporary / "classes.npz", *drawn, patches)
        write_json(temporary / "measures.json", _told(run, wish, found))
    return found


def _found(
    folder: Path, parts: Sequence[Part], measures: PictureMeasures | None, notes: tuple[str, ...]
) -> Generated:
    arrays = {name: array for part in parts for name, array in part.arrays.items()}
    return Generated(folder, arrays, measures, notes)


def _write_collection(
    path: Path, images: np.ndarray, labels: np.ndarray, patches: PatchSet
) -> None:
    """An npz as `outcrop.sources.collections` reads it."""
    np.savez(
        path,
        images=images,
        labels=labels,
        classes=np.array(patches.classes),
        bands=np.array(patches.bands),
        layout=np.array("NCHW"),
    )


def _told(run: VaeGanRun, wish: Wish, found: Generated) -> dict[str, Any]:
    return {
        "run": str(run.folder),
        "model": run.model.network.title,
        "samples": wish.number,
        "seed": wish.seed,
        "measures": None if found.measures is None else found.measures.to_json(),
        "notes": list(found.notes),
    }
