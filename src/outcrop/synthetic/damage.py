"""Random changes of patches: contrast, flips, order, noise, blur and compression."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.ndimage import gaussian_filter

from outcrop.errors import OutcropError
from outcrop.patches.flips import FLIPS, KEEP_SHAPE, flip

Range = tuple[float, float]
Order = Literal["shuffled", "sorted", "kept"]


@dataclass(frozen=True)
class Damage:
    """The changes of N patches, in their new order.

    A patch is the rounded `gain × original + offset`, apart from noise, blur, compression and
    clipping, and then flipped.

    Attributes:
        order: int64, patch k was `images[order[k]]`.
        gain, offset: float64, from original units to grey values.
        flip: str, one of `FLIPS`.
    """

    order: np.ndarray
    gain: np.ndarray
    offset: np.ndarray
    flip: np.ndarray


def damage(
    images: np.ndarray,
    labels: np.ndarray,
    seed: int,
    *,
    bits: int = 8,
    contrast: Range = (0.5, 0.8),
    brightness: Range = (-0.1, 0.1),
    per: Literal["patch", "set"] = "patch",
    clip: Range = (0, 100),
    order: Order = "shuffled",
    flips: bool = False,
    noise_db: float | None = None,
    blur: float = 0.0,
    jpeg_quality: int | None = None,
) -> tuple[np.ndarray, np.ndarray, Damage]:
    """Change patches at random, and return the truth about the changes.

    Args:
        images: `N × height × width` or `N × bands × height × width`, finite.
        labels: N.
        seed: random seed. Options without random numbers do not change those of the others.
        bits: bits of a grey value, 1 to 16; the result is uint8 up to 8 bits, otherwise uint16.
        contrast: range of the share of the grey scale that the values of the originals fill.
        brightness: range of the shift of their middle from middle grey, as a share of the grey
            scale. With the defaults no value is clipped at the ends of the scale.
        per: draw contrast and brightness for each "patch", or once for the "set".
        clip: percentiles of all pixels that give the range of the originals; values beyond are
            clipped.
        order: "shuffled", "sorted" by class (stable), or "kept".
        flips: flip and rotate each patch at random: eight orientations, or four if not square.
        noise_db: signal-to-noise ratio (variances) of added Gaussian noise, in dB.
        blur: standard deviation of a Gaussian blur in pixels, before the noise.
        jpeg_quality: quality, 1 to 95, of a JPEG compression of each band.

    Returns:
        The changed images, their labels, and the truth.

    Raises:
        OutcropError: `bits`, `clip` or `jpeg_quality` out of range; JPEG with other than 8 bits;
            patches that are not finite; another number of labels than patches.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    _check(images, labels, bits, clip, jpeg_quality)
    top = 2**bits - 1
    low, high = map(float, np.percentile(images, clip))
    for_order, for_contrast, for_flips, for_noise = np.random.default_rng(seed).spawn(4)
    arranged = _arranged(labels, order, for_order)
    draws = len(images) if per == "patch" else 1
    share, shift = (for_contrast.uniform(*between, draws) for between in (contrast, brightness))
    gain = np.full(len(images), top * share / ((high - low) or 1.0))
    offset = top * (0.5 + shift) - gain * (low + high) / 2
    square = images.shape[-2] == images.shape[-1]
    names = np.array(tuple(FLIPS) if square else KEEP_SHAPE)
    flipped = for_flips.choice(names, len(images)) if flips else np.full(len(images), "none")
    damaged = np.empty(images.shape, dtype=np.uint8 if bits <= 8 else np.uint16)
    for k, source in enumerate(arranged):
        image = np.clip(images[source].astype(np.float64), low, high)
        if blur:
            image = gaussian_filter(image, blur, axes=(-2, -1), mode="nearest")
        if noise_db is not None:
            spread = image.std() * 10 ** (-noise_db / 20)
            image = image + spread * for_noise.standard_normal(image.shape)
        grey = np.round(np.clip(gain[k] * image + offset[k], 0, top))
        if jpeg_quality is not None:
            grey = _jpeg(grey, jpeg_quality)
        damaged[k] = flip(grey, flipped[k])
    return damaged, labels[arranged], Damage(arranged, gain, offset, flipped)


def _arranged(labels: np.ndarray, order: Order, rng: np.random.Generator) -> np.ndarray:
    """The index of the patch at each place of the new order."""
    if order == "shuffled":
        return rng.permutation(len(labels))
    return np.argsort(labels, kind="stable") if order == "sorted" else np.arange(len(labels))


def _jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """An image, or each of its bands, after JPEG compression."""
    from PIL import Image

    if image.ndim > 2:
        return np.stack([_jpeg(band, quality) for band in image])
    with io.BytesIO() as file:
        Image.fromarray(image.astype(np.uint8)).save(file, "JPEG", quality=quality)
        return np.asarray(Image.open(file))


def _check(
    images: np.ndarray, labels: np.ndarray, bits: int, clip: Range, jpeg_quality: int | None
) -> None:
    if len(images) != len(labels):
        raise OutcropError("labels", f"{len(labels)} for {len(images)} patches; give one for each")
    if not np.isfinite(images).all():
        raise OutcropError("patches", "some pixels are not finite; leave those patches out")
    if not 1 <= bits <= 16:
        raise OutcropError("bits", f"{bits} is not from 1 to 16; take 8")
    if not 0 <= clip[0] < clip[1] <= 100:
        raise OutcropError(
            "clip", f"{clip[0]} and {clip[1]} are not percentiles in rising order; take 1,99"
        )
    if jpeg_quality is not None and bits != 8:
        raise OutcropError("bits", f"a JPEG holds 8 bits, not {bits}; take 8 or no JPEG")
    if jpeg_quality is not None and not 1 <= jpeg_quality <= 95:
        raise OutcropError("jpeg_quality", f"{jpeg_quality} is not from 1 to 95; take 75")
