"""What a VAE-GAN is asked to draw: each part as arrays, and as a sheet to look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from outcrop.generative.drawing.codes import path
from outcrop.generative.drawing.material import Material
from outcrop.generative.drawing.sheet import Row, Sheet
from outcrop.generative.drawing.wish import Wish
from outcrop.generative.grids import shown
from outcrop.generative.model import VaeGanModel
from outcrop.generative.neighbours import nearest
from outcrop.patches.patchset import PatchSet

STEPS = tuple(k / 4 for k in range(7))
_MOST_SHOWN = 256
_PAIRS, _COLUMNS = 32, 8
_BETWEEN = 9
_SUSPECTS = 12
_NEAREST = 3


@dataclass(frozen=True, eq=False)
class Part:
    """Something that was drawn.

    Attributes:
        name: of its picture.
        arrays: by name; pictures in the units and number type of the patches.
        sheet: the same to look at.
    """

    name: str
    arrays: Mapping[str, np.ndarray]
    sheet: Sheet


def draw_parts(material: Material, wish: Wish) -> list[Part]:
    """All parts that can be had."""
    m = material
    random = np.random.default_rng(wish.seed)
    first = samples(m.model, m.codes[: wish.number])
    parts = [first]
    if m.can_reconstruct:
        index = np.sort(random.permutation(m.held_out)[:_PAIRS])
        parts.append(reconstructions(m.model, m.patches, index))
    pair = wish.between or two_pictures(m, random)
    if pair is None:
        parts.append(between_samples(m.model, m.codes[:2]))
    else:
        parts.append(between_pictures(m.model, m.patches, np.array(pair)))
    if m.means is not None and (chosen := sources_and_targets(m, wish.attribute, random)):
        sources, targets = np.array(chosen).T
        parts.append(attributes(m.model, m.patches, m.means, sources, targets))
    return [*parts, neighbours(m, first.arrays["samples"])]


def two_pictures(material: Material, random: np.random.Generator) -> tuple[int, int] | None:
    """Two held-out pictures, of different classes if there are; None if there are no two."""
    m = material
    if not m.can_reconstruct or len(m.held_out) < 2:
        return None
    one = random.choice(m.held_out)
    labels = m.patches.labels
    others = m.held_out[labels[m.held_out] != labels[one]]
    if not len(others):
        others = m.held_out[m.held_out != one]
    return int(one), int(random.choice(others))


def sources_and_targets(
    material: Material, attribute: str | None, random: np.random.Generator
) -> list[tuple[int, int]]:
    """Held-out pictures, each with another class that is added to it.

    Args:
        attribute: the class that is added, to a picture of every other one; None adds every class
            to a picture of any other one.
    """
    m, known = material, material.known
    labels = m.patches.labels[m.held_out]
    if attribute is None:
        pools = [
            (m.held_out[(labels != target) & known[labels]], target)
            for target in np.flatnonzero(known)
        ]
    else:
        (target,) = np.flatnonzero(np.array(m.patches.classes) == attribute)
        pools = [
            (m.held_out[labels == source], target)
            for source in np.flatnonzero(known)
            if source != target
        ]
    return [(int(random.choice(pool)), int(target)) for pool, target in pools if len(pool)]


def samples(model: VaeGanModel, codes: np.ndarray) -> Part:
    """Pictures of codes from the prior; the sheet has the first 256."""
    images = model.decode(codes)
    pictures = _seen(model, images[:_MOST_SHOWN])
    across = int(np.ceil(np.sqrt(len(pictures))))
    rows = tuple(Row(pictures[start : start + across]) for start in range(0, len(pictures), across))
    arrays = {"samples": images, "sample_codes": codes}
    return Part("samples", arrays, Sheet(rows, f"Samples of a {model.network.title}"))


def reconstructions(model: VaeGanModel, patches: PatchSet, index: np.ndarray) -> Part:
    """Pictures, and beneath each what the decoder draws of the mean of its code.

    Args:
        index: of the pictures.
    """
    originals = patches.take(index)
    codes = model.encode(originals)[0]
    images = model.decode(codes)
    above, beneath = _seen(model, originals), _seen(model, images)
    rows: list[Row] = []
    for start in range(0, len(index), _COLUMNS):
        part = slice(start, start + _COLUMNS)
        rows.append(Row(above[part], "held out"))
        rows.append(Row(beneath[part], "reconstructed", _numbers(index[part])))
    arrays = {
        "originals": originals,
        "reconstructions": images,
        "reconstruction_codes": codes,
        "reconstructed": index,
    }
    sheet = Sheet(tuple(rows), "Held-out pictures and their reconstructions; numbers of patches")
    return Part("reconstructions", arrays, sheet)


def between_samples(model: VaeGanModel, codes: np.ndarray) -> Part:
    """The way from one sample to another.

    Args:
        codes: of both, `2 × latent`.
    """
    way = path(codes[0], codes[1], _BETWEEN)
    images = model.decode(way)
    row = Row(_seen(model, images), captions=("sample", *_percents()[1:-1], "sample"))
    arrays = {"interpolation": images, "interpolation_codes": way}
    return Part("interpolation", arrays, Sheet((row,), "From one sample to another"))


def between_pictures(model: VaeGanModel, patches: PatchSet, pair: np.ndarray) -> Part:
    """The way from the reconstruction of one picture to that of another.

    Args:
        pair: int, 2, which patches.
    """
    originals = patches.take(pair)
    codes = model.encode(originals)[0]
    way = path(codes[0], codes[1], _BETWEEN)
    images = model.decode(way)
    first, second = np.split(_seen(model, originals), 2)
    ends = _numbers(pair)
    captions = (ends[0], *_percents(), ends[1])
    row = Row(np.concatenate((first, _seen(model, images), second)), captions=captions)
    one, other = (f"{i} ({patches.classes[patches.labels[i]]})" for i in pair)
    title = f"From patch {one} to patch {other}, which stand at the ends"
    arrays = {"interpolation": images, "interpolation_codes": way, "between": pair}
    return Part("interpolation", arrays, Sheet((row,), title))


def attributes(
    model: VaeGanModel,
    patches: PatchSet,
    means: np.ndarray,
    sources: np.ndarray,
    targets: np.ndarray,
) -> Part:
    """Pictures to which more and more of another class is added.

    What is added to the code is the way from the mean code of the picture's class to that of the
    other one, 0 to 1.5 times; at 0 it is the reconstruction.

    Args:
        means: float, `classes × latent`, the mean code of each class.
        sources: int, `R`, which patches.
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
            _seen(model, np.concatenate((originals[r : r + 1], images[r]))),
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
    title = "Held-out pictures, and what is drawn with 0 to 1.5 times another class in their codes"
    return Part("attributes", arrays, Sheet(rows, title))


def neighbours(material: Material, drawn: np.ndarray) -> Part:
    """The training pictures nearest to each sample; the sheet has the samples that are nearest.

    Args:
        drawn: samples.
    """
    m = material
    of_samples = m.space.see(drawn)
    places, distances = nearest(of_samples, m.seen, min(_NEAREST, len(m.searched)))
    indices = m.searched[places]
    suspects = np.argsort(distances[:, 0], kind="stable")[:_SUSPECTS]
    rows = [Row(_seen(m.model, drawn[suspects]), "sample", _numbers(suspects))]
    for k, name in enumerate(("nearest", "second", "third")[: indices.shape[1]]):
        captions = tuple(f"{apart:.3g}" for apart in distances[suspects, k])
        rows.append(Row(_seen(m.model, m.patches.take(indices[suspects, k])), name, captions))
    arrays = {"nearest": indices, "nearest_distances": distances}
    title = f"The {len(suspects)} of {len(drawn)} samples that are nearest to training pictures"
    if len(m.held_out):
        usual = nearest(m.held_out_seen, m.seen)[1][:, 0]
        title += f"; held-out pictures are {np.median(usual):.3g} from theirs (median)"
        arrays["held_out_distances"] = usual
    title += f"; distances in {m.space.name}"
    return Part("nearest", arrays, Sheet(tuple(rows), title))


def _seen(model: VaeGanModel, images: np.ndarray) -> np.ndarray:
    return shown(model.in_range(images), model.bands)


def _numbers(index: np.ndarray) -> tuple[str, ...]:
    return tuple(f"no. {i}" for i in index)


def _percents() -> tuple[str, ...]:
    return tuple(f"{share:.0%}" for share in np.linspace(0, 1, _BETWEEN))
