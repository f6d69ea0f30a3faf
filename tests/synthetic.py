"""Patches of synthetic scenes and volumes with known autocorrelation."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from outcrop.patches.patchset import PatchSet
from outcrop.patches.positions import Source, scene_positions, upper_left, volume_positions

UTM = "EPSG:32648"
PIXEL = 10.0


def smooth(sigma, seed, shape=(300, 300)):
    """White noise through a Gaussian filter: variance 1, practical range 3.46 sigma."""
    noise = np.random.default_rng(seed).normal(size=shape)
    field = gaussian_filter(noise, sigma, mode="wrap")
    return field / field.std()


def cut_scene(scene, row, column, labels, size=8, polygon=None, classes=None):
    """Patches around pixels of a scene (`rows × columns` or `bands × rows × columns`)."""
    scene = np.atleast_3d(scene.T).T.astype(np.float32)
    row, column, labels = np.asarray(row), np.asarray(column), np.asarray(labels)
    padded = np.pad(scene, ((0, 0), (size, size), (size, size)), "reflect")
    every = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))
    top, left = upper_left(row, size) + size, upper_left(column, size) + size
    n = len(row)
    classes = classes or tuple("abcdefgh"[: max(2, labels.max(initial=0) + 1)])
    return PatchSet(
        images=np.ascontiguousarray(every[:, top, left].swapaxes(0, 1)),
        labels=labels,
        classes=classes,
        bands=tuple(f"band {i + 1}" for i in range(len(scene))),
        positions=scene_positions(
            source=0,
            row=row,
            column=column,
            x=(column + 0.5) * PIXEL,
            y=-(row + 0.5) * PIXEL,
            width=size * PIXEL,
            height=size * PIXEL,
            polygon=np.arange(n) if polygon is None else np.asarray(polygon),
        ),
        sources=(Source("made-up.tif", scene.shape[1:], UTM, (PIXEL, 0, 0, 0, -PIXEL, 0)),),
        crs=UTM,
    )


def cut_volume(volume, axis, index, row, column, labels, size=8):
    """Patches of slices across `axis`, inside the volume."""
    volume = volume.astype(np.float32)
    images = np.stack(
        [
            np.take(volume, i, axis)[
                upper_left(r, size) : upper_left(r, size) + size,
                upper_left(c, size) : upper_left(c, size) + size,
            ]
            for i, r, c in zip(index, row, column, strict=True)
        ]
    )[:, None]
    return PatchSet(
        images=images,
        labels=np.asarray(labels),
        classes=("a", "b"),
        bands=("amplitude",),
        positions=volume_positions(0, axis, np.asarray(index), row, column, size),
        sources=(Source("cube.npy", volume.shape),),
    )
