"""`generate`: samples, reconstructions, interpolations and class changes, with their measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from outcrop.files import check_new, new_folder, write_json
from outcrop.generative.codes import class_samples, interpolate
from outcrop.generative.grids import Row, Sheet
from outcrop.generative.inputs import Inputs, Request, inputs_of, notes_on
from outcrop.generative.measures import Measures, measure
from outcrop.generative.run import VaeGanModel, VaeGanRun, read_vaegan_run
from outcrop.generative.samples import nearest
from outcrop.patches.collection import AnyPatches, open_patches
from outcrop.patches.patchset import PatchSet
from outcrop.training.run import Trained
from outcrop.typed import plain

STEPS = tuple(k / 4 for k in range(7))
"""Multiples of the difference between two classes that are added to a code."""
_MOST_SHOWN = 256
_PAIRS, _COLUMNS = 32, 8
_BETWEEN = 9
_SUSPECTS = 12
_NEAREST = 3


@dataclass(frozen=True, eq=False)
class Generated:
    """The output of a generative model.

    Attributes:
        folder: output folder.
        arrays: content of `arrays.npz`, with images in the units and number type of the patches:
            `samples` and `sample_codes`; `originals`, `reconstructions`, `reconstruction_codes`,
            and `reconstructed`, their patches; `interpolation`, `interpolation_codes` and
            `between`, the patches at its ends; `attributes` (rows × steps × image),
            `attribute_codes`, `attribute_steps`, `attribute_sources` (patches), `attribute_targets`
            (classes) and `class_codes`; `nearest`, the training patches nearest to each sample,
            `nearest_distances`, and `held_out_distances`, those from held-out patches to their
            nearest training patches.
        measures: None without patches, or with too few held-out ones.
        notes: what was left out and why, and the limits of the measures.
    """

    folder: Path
    arrays: Mapping[str, np.ndarray]
    measures: Measures | None
    notes: tuple[str, ...]

    @property
    def files(self) -> list[Path]:
        """All files in the folder."""
        return sorted(self.folder.iterdir())


def generate(
    run: VaeGanRun | str | Path,
    folder: str | Path,
    patches: AnyPatches | None = None,
    number: int = 64,
    seed: int = 0,
    judge: Trained | None = None,
    per_class: int = 0,
    between: Sequence[int] | None = None,
    attribute: str | None = None,
) -> Generated:
    """Generate samples, and with patches also everything that is compared with them.

    With patches: reconstructions of held-out images, an interpolation between two images, classes
    added to images, the training images nearest to samples, and measures. The split is that of the
    run: classes are computed from its training side, and held-out images are its validation side.
    A note names what the run cannot give.

    Args:
        run: run of a VAE-GAN, VAE or GAN.
        folder: output folder: one PNG file of each part, `arrays.npz`, `measures.json`, and with
            `per_class` also `classes.npz`, which `outcrop audit` and `outcrop train` read.
        patches: the patches that the run was trained on.
        number: number of samples.
        seed: random seed of codes and of the choice of images.
        judge: a classifier of such patches, whose features measure the similarity of images.
            Default: pixels.
        per_class: number of samples of each class (`class_samples`).
        between: indices of two patches to interpolate between. Default: two random held-out ones.
        attribute: the class to add to images of every other class. Default: each class to an image
            of another one.

    Raises:
        OutcropError: the folder exists; the patches are not those of the run; an option needs
            patches, an encoder or several classes; the judge was trained on patches of another
            kind; the disk is full.
    """
    run, folder = read_vaegan_run(run), Path(folder)
    patches = None if patches is None else open_patches(patches)
    check_new(folder, instead="")
    ends = None if between is None else tuple(between)
    request = Request(number, seed, per_class, ends, attribute)
    request.check(run, patches, judge is not None)
    if patches is None:
        codes = run.model.sample_codes(max(number, 2), seed)
        parts = [samples(run.model, codes[:number]), between_samples(run.model, codes[:2])]
        measures = None
        notes: tuple[str, ...] = ("without patches: samples, and an interpolation between two",)
    else:
        inputs = inputs_of(run, patches, request, judge)
        parts = draw_parts(inputs, request)
        measures, notes = measure(inputs, seed), notes_on(inputs, request)
    arrays = {name: array for part in parts for name, array in part.arrays.items()}
    with new_folder(folder) as temporary:
        for part in parts:
            part.sheet.write(temporary / f"{part.name}.png")
        np.savez(temporary / "arrays.npz", **arrays)  # type: ignore[arg-type]
        if patches is not None and per_class:
            images, labels = class_samples(run.model, patches, run.split.train, per_class, seed)
            # As `outcrop.sources.collections` reads it.
            np.savez(
                temporary / "classes.npz",
                images=images,
                labels=labels,
                classes=np.array(patches.classes),
                bands=np.array(patches.bands),
                layout=np.array("NCHW"),
            )
        content = {
            "run": str(run.folder),
            "model": run.model.network.title,
            "samples": number,
            "seed": seed,
            "measures": plain(measures),
            "notes": notes,
        }
        write_json(temporary / "measures.json", content)
    return Generated(folder, arrays, measures, notes)


@dataclass(frozen=True, eq=False)
class Part:
    """One part of the output: a sheet for the PNG file with its name, and arrays by name."""

    name: str
    arrays: Mapping[str, np.ndarray]
    sheet: Sheet


def draw_parts(inputs: Inputs, request: Request) -> list[Part]:
    """All available parts."""
    model, patches = inputs.model, inputs.patches
    rng = np.random.default_rng(request.seed)
    first = samples(model, inputs.codes[: request.number])
    parts = [first]
    if inputs.can_reconstruct:
        index = np.sort(rng.permutation(inputs.held_out)[:_PAIRS])
        parts.append(reconstructions(model, patches, index))
    pair = request.between or two_images(inputs, rng)
    if pair is None:
        parts.append(between_samples(model, inputs.codes[:2]))
    else:
        parts.append(between_images(model, patches, np.array(pair)))
    if inputs.means is not None:
        chosen = sources_and_targets(inputs, request.attribute, rng)
        if chosen:
            sources, targets = np.array(chosen).T
            parts.append(attributes(model, patches, inputs.means, sources, targets))
    return [*parts, neighbours(inputs, first.arrays["samples"])]


def two_images(inputs: Inputs, rng: np.random.Generator) -> tuple[int, int] | None:
    """Two random held-out images, of different classes if possible; None if there is only one."""
    held_out, labels = inputs.held_out, inputs.patches.labels
    if not inputs.can_reconstruct or len(held_out) < 2:
        return None
    one = rng.choice(held_out)
    others = held_out[labels[held_out] != labels[one]]
    if not len(others):
        others = held_out[held_out != one]
    return int(one), int(rng.choice(others))


def sources_and_targets(
    inputs: Inputs, attribute: str | None, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """Random held-out images, each with another class that is added to it.

    Args:
        attribute: the class to add to one image of every other class; None: every class to an image
            of any other class.
    """
    held_out, known = inputs.held_out, inputs.known
    labels = inputs.patches.labels[held_out]
    if attribute is None:
        pools = [
            (held_out[(labels != target) & known[labels]], target)
            for target in np.flatnonzero(known)
        ]
    else:
        (target,) = np.flatnonzero(np.array(inputs.patches.classes) == attribute)
        pools = [
            (held_out[labels == source], target)
            for source in np.flatnonzero(known)
            if source != target
        ]
    return [(int(rng.choice(pool)), int(target)) for pool, target in pools if len(pool)]


def samples(model: VaeGanModel, codes: np.ndarray) -> Part:
    """Images of codes from the prior; the sheet has the first 256."""
    images = model.decode(codes)
    pictures = model.pictures(images[:_MOST_SHOWN])
    across = int(np.ceil(np.sqrt(len(pictures))))
    rows = tuple(Row(pictures[start : start + across]) for start in range(0, len(pictures), across))
    arrays = {"samples": images, "sample_codes": codes}
    return Part("samples", arrays, Sheet(rows, f"Samples of a {model.network.title}"))


def reconstructions(model: VaeGanModel, patches: PatchSet, index: np.ndarray) -> Part:
    """The images of the patches at `index` above their reconstructions."""
    originals = patches.take(index)
    codes = model.encode(originals)[0]
    images = model.decode(codes)
    above, below = model.pictures(originals), model.pictures(images)
    rows: list[Row] = []
    for start in range(0, len(index), _COLUMNS):
        part = slice(start, start + _COLUMNS)
        rows.append(Row(above[part], "held out"))
        rows.append(Row(below[part], "reconstructed", _numbers(index[part])))
    arrays = {
        "originals": originals,
        "reconstructions": images,
        "reconstruction_codes": codes,
        "reconstructed": index,
    }
    sheet = Sheet(tuple(rows), "Held-out images and their reconstructions, with patch numbers")
    return Part("reconstructions", arrays, sheet)


def between_samples(model: VaeGanModel, codes: np.ndarray) -> Part:
    """The interpolation between two samples, given by their codes, `2 × latent`."""
    steps = interpolate(codes[0], codes[1], _BETWEEN)
    images = model.decode(steps)
    row = Row(model.pictures(images), captions=("sample", *_percents()[1:-1], "sample"))
    arrays = {"interpolation": images, "interpolation_codes": steps}
    return Part("interpolation", arrays, Sheet((row,), "From one sample to another"))


def between_images(model: VaeGanModel, patches: PatchSet, pair: np.ndarray) -> Part:
    """The interpolation between the reconstructions of two patches, given by their indices."""
    originals = patches.take(pair)
    codes = model.encode(originals)[0]
    steps = interpolate(codes[0], codes[1], _BETWEEN)
    images = model.decode(steps)
    first, second = np.split(model.pictures(originals), 2)
    ends = _numbers(pair)
    captions = (ends[0], *_percents(), ends[1])
    row = Row(np.concatenate((first, model.pictures(images), second)), captions=captions)
    one, other = (f"{i} ({patches.classes[patches.labels[i]]})" for i in pair)
    title = f"From patch {one} to patch {other}, which are shown at the ends"
    arrays = {"interpolation": images, "interpolation_codes": steps, "between": pair}
    return Part("interpolation", arrays, Sheet((row,), title))


def attributes(
    model: VaeGanModel,
    patches: PatchSet,
    means: np.ndarray,
    sources: np.ndarray,
    targets: np.ndarray,
) -> Part:
    """Images to which another class is added in growing amounts.

    The difference of the mean codes of both classes is added to the code 0 to 1.5 times; 0 gives
    the reconstruction.

    Args:
        means: float, `classes × latent`, the mean code of each class.
        sources: int, `R`, the patches.
        targets: int, `R`, the class that is added to each.
    """
    originals = patches.take(sources)
    labels = patches.labels[sources]
    vectors = means[targets] - means[labels]
    codes = model.encode(originals)[0][:, None] + np.multiply.outer(STEPS, vectors).swapaxes(0, 1)
    codes = codes.astype(np.float32)
    images = model.decode(codes.reshape(-1, codes.shape[2]))
    images = images.reshape(*codes.shape[:2], *images.shape[1:])
    rows = tuple(
        Row(
            model.pictures(np.concatenate((originals[r : r + 1], images[r]))),
            f"{patches.classes[labels[r]]} → {patches.classes[targets[r]]}",
            (f"no. {sources[r]}", *(f"{step:g}" for step in STEPS)),
        )
        for r in range(len(sources))
    )
    arrays = {
        "attributes": images,
        "attribute_codes": codes,
        "attribute_steps": np.array(STEPS),
        "attribute_sources": sources,
        "attribute_targets": targets,
        "class_codes": means,
    }
    title = "Held-out images, and the same with 0 to 1.5 times another class added to their codes"
    return Part("attributes", arrays, Sheet(rows, title))


def neighbours(inputs: Inputs, images: np.ndarray) -> Part:
    """The training images nearest to each sample; the sheet has the nearest pairs."""
    model, features = inputs.model, inputs.space.features(images)
    places, distances = nearest(
        features, inputs.train_features, min(_NEAREST, len(inputs.searched))
    )
    indices = inputs.searched[places]
    suspects = np.argsort(distances[:, 0], kind="stable")[:_SUSPECTS]
    rows = [Row(model.pictures(images[suspects]), "sample", _numbers(suspects))]
    for k, name in enumerate(("nearest", "second", "third")[: indices.shape[1]]):
        captions = tuple(f"{apart:.3g}" for apart in distances[suspects, k])
        shown = model.pictures(inputs.patches.take(indices[suspects, k]))
        rows.append(Row(shown, name, captions))
    arrays = {"nearest": indices, "nearest_distances": distances}
    title = f"The {len(suspects)} of {len(images)} samples nearest to training images"
    if len(inputs.held_out):
        usual = nearest(inputs.held_out_features, inputs.train_features)[1][:, 0]
        title += f"; median distance of held-out images: {np.median(usual):.3g}"
        arrays["held_out_distances"] = usual
    title += f"; distances in {inputs.space.name}"
    return Part("nearest", arrays, Sheet(tuple(rows), title))


def _numbers(index: np.ndarray) -> tuple[str, ...]:
    return tuple(f"no. {i}" for i in index)


def _percents() -> tuple[str, ...]:
    return tuple(f"{100 * share:.0f} %" for share in np.linspace(0, 1, _BETWEEN))
