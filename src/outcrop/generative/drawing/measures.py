"""Whether what a VAE-GAN draws is any good, each number beside its yardstick."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np

from outcrop.generative.drawing.material import Material
from outcrop.generative.frechet import FrechetAtInfinity, frechet_at_infinity, frechet_distance
from outcrop.generative.neighbours import (
    Memorisation,
    SamplePrecisionRecall,
    memorised,
    sample_precision_recall,
)
from outcrop.generative.reconstruction import band_errors, relative_error
from outcrop.generative.retrieval import Retrieval, retrieved
from outcrop.generative.training.look import evenly
from outcrop.metrics.intervals import Interval
from outcrop.progress import track

_BLOCKS = 20


@dataclass(frozen=True)
class ReconstructionMeasures:
    """How much of held-out pictures is lost on the way through the code.

    Attributes:
        pictures: how many.
        pixel_error: mean squared error over that between two pictures, see `relative_error`.
        band_errors: root mean squared error of each band, in the units of the patches.
        feature_error: as `pixel_error`, of the judge's features; None without a judge.
    """

    pictures: int
    pixel_error: Interval
    band_errors: dict[str, float]
    feature_error: Interval | None


@dataclass(frozen=True)
class Halves:
    """The same for two halves of the held-out pictures: the yardstick at their number.

    Attributes:
        pictures: in each half.
        frechet: between the halves.
        frechet_of_samples: between the first half and as many samples.
        shares: of the second half among the first, and the other way round.
        shares_of_samples: of as many samples.
    """

    pictures: int
    frechet: float
    frechet_of_samples: float
    shares: SamplePrecisionRecall
    shares_of_samples: SamplePrecisionRecall


@dataclass(frozen=True)
class SampleMeasures:
    """How samples compare with as many held-out pictures, in features of the judge.

    Attributes:
        pictures: how many of each.
        frechet: squared Fréchet distance; it depends on the number of pictures.
        at_infinity: the same without that part.
        shares: precision and recall.
        halves: what real pictures come to.
    """

    pictures: int
    frechet: float
    at_infinity: FrechetAtInfinity
    shares: SamplePrecisionRecall
    halves: Halves


@dataclass(frozen=True)
class PictureMeasures:
    """All measures of a VAE-GAN, as far as they were to be had.

    Attributes:
        features: whose features they are; "" without a judge.
        distances: what distances to training pictures are made of.
        memorised: whether samples are copies of training pictures.
        reconstructed: None without an encoder.
        sampled: None without a judge.
        retrieval: whether the judge recognises a class that was added to the codes of held-out
            pictures of other classes; beside it, real ones of the class, and the reconstructions
            to which none was added. None without judge or encoder.
    """

    features: str
    distances: str
    memorised: Memorisation
    reconstructed: ReconstructionMeasures | None
    sampled: SampleMeasures | None
    retrieval: Retrieval | None

    def to_json(self) -> dict[str, Any]:
        """Plain data for `outcrop.files.write_json`; what is NaN becomes None."""
        return _plain(self)


def measure(material: Material, seed: int) -> PictureMeasures | None:
    """All measures that can be had; None if too few patches are held out.

    Args:
        seed: of the halves and of the bootstrap.
    """
    m = material
    if not m.can_measure:
        return None
    real, groups = m.patches.take(m.held_out), m.split.groups[m.held_out]
    of_drawn = m.space.see(m.model.decode(m.codes[: len(real)]))
    codes = m.model.encode(real)[0] if m.can_reconstruct else None
    judged = m.judge is not None
    return PictureMeasures(
        features="" if m.judge is None else f"{m.judge.name}; not the FID",
        distances=m.space.name,
        memorised=memorised(of_drawn, m.seen, m.held_out_seen, groups, seed=seed),
        reconstructed=None if codes is None else _reconstructed(m, real, codes, seed),
        sampled=_sampled(m.held_out_seen, of_drawn, groups, seed) if judged else None,
        retrieval=None if codes is None else attribute_retrieval(m, real, codes, seed),
    )


def _reconstructed(
    m: Material, real: np.ndarray, codes: np.ndarray, seed: int
) -> ReconstructionMeasures:
    again, groups = m.model.decode(codes), m.split.groups[m.held_out]
    pixels = m.model.in_range(real), m.model.in_range(again)
    rooted = band_errors(real, again).tolist()
    return ReconstructionMeasures(
        pictures=len(real),
        pixel_error=relative_error(*pixels, groups, seed=seed),
        band_errors=dict(zip(m.model.bands, rooted, strict=True)),
        feature_error=(
            None
            if m.judge is None
            else relative_error(m.held_out_seen, m.space.see(again), groups, seed=seed)
        ),
    )


def _sampled(real: np.ndarray, drawn: np.ndarray, groups: np.ndarray, seed: int) -> SampleMeasures:
    half = len(real) // 2
    order = np.random.default_rng(seed).permutation(len(real))
    one, other, some = real[order[:half]], real[order[half : 2 * half]], drawn[:half]

    def shares(real: np.ndarray, drawn: np.ndarray, groups: np.ndarray) -> SamplePrecisionRecall:
        return sample_precision_recall(real, drawn, groups=groups, seed=seed)

    blocks = min(_BLOCKS, half)
    return SampleMeasures(
        pictures=len(real),
        frechet=frechet_distance(real, drawn),
        at_infinity=frechet_at_infinity(real, drawn, groups, blocks, seed),
        shares=shares(real, drawn, groups),
        halves=Halves(
            pictures=half,
            frechet=frechet_distance(one, other),
            frechet_of_samples=frechet_distance(one, some),
            shares=shares(one, other, groups[order[:half]]),
            shares_of_samples=shares(one, some, groups[order[:half]]),
        ),
    )


def attribute_retrieval(
    material: Material, real: np.ndarray, codes: np.ndarray, seed: int
) -> Retrieval | None:
    """Whether the judge recognises each class that is added to held-out pictures of all others.

    To the code of a picture is added the way from the mean code of its class to that of the other
    one. Of more than 1024 held-out pictures that many are taken for it.

    Source: Larsen et al. 2016 (arXiv:1512.09300), section 4.2; there attributes are the condition
    of the networks, here they are added to the code.

    Args:
        real: `held_out × bands × size × size`.
        codes: float, `held_out × latent`, the means of their codes.
        seed: of the bootstrap.

    Returns:
        By the classes of the judge; None without a judge that knows all classes, and where there is
        no other class to add.
    """
    m, known = material, material.known
    where = None if m.judge is None else m.judge.codes(m.patches.classes)
    if m.judge is None or m.means is None or where is None:
        return None
    probabilities = m.judge.classifier.predict_proba
    labels, groups = m.patches.labels[m.held_out], m.split.groups[m.held_out]
    there = np.flatnonzero(known[labels])
    asked = evenly(there)
    untouched = np.zeros((len(labels), len(m.judge.classifier.classes)))
    made = []
    for target in track(np.flatnonzero(known), "adding classes"):
        others = asked[labels[asked] != target]
        if len(others):
            moved = codes[others] + m.means[target] - m.means[labels[others]]
            said = probabilities(m.model.decode(moved))
            made.append((np.full(len(others), target), others, said))
    if not made:
        return None
    untouched[asked] = probabilities(m.model.decode(codes[asked]))
    targets, sources, seen = (np.concatenate(part) for part in zip(*made, strict=True))
    wanted, ground = where[targets], groups[sources]
    return retrieved(
        (wanted, seen, ground),
        m.judge.classifier.classes,
        real=(where[labels[there]], probabilities(real[there]), groups[there]),
        untouched=(wanted, untouched[sources], ground),
        seed=seed,
    )


def _plain(value: Any) -> Any:
    """What JSON can hold of dataclasses at any depth."""
    if is_dataclass(value):
        return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and np.isnan(value) else value
