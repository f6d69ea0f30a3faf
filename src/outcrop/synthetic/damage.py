"""What happens to patches between the person who cut them and the person who gets them."""

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
    """What was done to N patches, in the order they have now.

    A patch is the rounded `gain × original + offset`, but for noise, blur, compression and ends
    that were clipped; then flipped.

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
    """Change patches as those are that lie about in the wild, and tell what was done.

    Args:
        images: `N × height × width` or `N × bands × height × width`, finite.
        labels: N.
        seed: the same seed draws the same, and options that draw nothing do not change the others.
        bits: of a grey value, 1 to 16; the result is uint8 up to 8 bits, else uint16.
        contrast: share of the grey scale that the originals' range will fill, drawn from here.
        brightness: how far the middle of that range will lie from middle grey, as a share of the
            grey scale, drawn from here. With the defaults nothing is cut off at the scale's ends.
        per: draw contrast and brightness for each "patch", or once for the "set".
        clip: percentiles of all pixels between which the originals' range lies; darker and brighter
            pixels are cut off there.
        order: "shuffled", "sorted" by class (stable), or "kept".
        flips: turn each patch over in one of eight ways; in one of four if it is not square.
        noise_db: power (variance) of the patch over that of Gaussian noise added to it, in dB.
        blur: standard deviation of a Gaussian blur in pixels, before the noise.
        jpeg_quality: compress each band as a grey JPEG of this quality, 1 to 95.

    Returns:
        The damaged images, their labels, and the truth.

    Raises:
        OutcropError: `bits`, `clip` or `jpeg_quality` out of range; JPEG with other than 8 bits;
            patches that are not finite; labels for other than all patches.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    _check(images, labels, bits, clip, jpeg_quality)
    low, high = map(float, np.percentile(images, clip))
    process = _Process(2**bits - 1, (low, high), blur, noise_db, jpeg_quality)
    arranging, exposing, turning, grains = np.random.default_rng(seed).spawn(4)
    arranged = _arranged(labels, order, arranging)
    gain, offset = process.exposure(
        *(_drawn(exposing, between, len(images), per) for between in (contrast, brightness))
    )
    square = images.shape[-2] == images.shape[-1]
    names = np.array(tuple(FLIPS) if square else KEEP_SHAPE)
    turned = turning.choice(names, len(images)) if flips else np.full(len(images), "none")
    damaged = np.empty(images.shape, dtype=np.uint8 if bits <= 8 else np.uint16)
    for k, source in enumerate(arranged):
        grey = process.develop(images[source], gain[k], offset[k], grains)
        damaged[k] = flip(grey, turned[k])
    return damaged, labels[arranged], Damage(arranged, gain, offset, turned)


@dataclass(frozen=True)
class _Process:
    """How pictures are made of patches; grey values go from 0 to `top`, `ends` in the originals."""

    top: int
    ends: Range
    blur: float
    noise_db: float | None
    jpeg_quality: int | None

    def exposure(
        self, contrast: np.ndarray, brightness: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Gain and offset, from original units to grey values."""
        low, high = self.ends
        gain = self.top * contrast / ((high - low) or 1.0)
        middle = self.top * (0.5 + brightness)
        return gain, middle - gain * (low + high) / 2

    def develop(
        self, image: np.ndarray, gain: float, offset: float, rng: np.random.Generator
    ) -> np.ndarray:
        """One patch in grey values."""
        image = np.clip(image.astype(np.float64), *self.ends)
        if self.blur:
            image = gaussian_filter(image, self.blur, axes=(-2, -1), mode="nearest")
        if self.noise_db is not None:
            spread = image.std() * 10 ** (-self.noise_db / 20)
            image = image + spread * rng.standard_normal(image.shape)
        grey = np.round(np.clip(gain * image + offset, 0, self.top))
        return grey if self.jpeg_quality is None else _jpeg(grey, self.jpeg_quality)


def _arranged(labels: np.ndarray, order: Order, rng: np.random.Generator) -> np.ndarray:
    """Which patch comes at each place."""
    if order == "shuffled":
        return rng.permutation(len(labels))
    return np.argsort(labels, kind="stable") if order == "sorted" else np.arange(len(labels))


def _drawn(rng: np.random.Generator, between: Range, count: int, per: str) -> np.ndarray:
    """A number for each of `count` patches, of its own or the same for all."""
    return np.broadcast_to(rng.uniform(*between, count if per == "patch" else 1), count).copy()


def _jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """What is left of an image, or of each of its bands, after JPEG compression."""
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
            "clip", f"{clip[0]} and {clip[1]} are no percentiles in order; take 1,99"
        )
    if jpeg_quality is not None and bits != 8:
        raise OutcropError("bits", f"a JPEG holds 8 bits, not {bits}; take 8 or no JPEG")
    if jpeg_quality is not None and not 1 <= jpeg_quality <= 95:
        raise OutcropError("jpeg_quality", f"{jpeg_quality} is not from 1 to 95; take 75")
