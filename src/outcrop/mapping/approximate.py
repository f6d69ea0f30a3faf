"""How often a dense map of networks with padding says what it would say patch by patch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from outcrop.mapping.job import Job
from outcrop.mapping.partial import Partial
from outcrop.mapping.pictures import Pictures
from outcrop.mapping.predictor import patch_by_patch
from outcrop.mapping.tiling import Window
from outcrop.metrics.intervals import interval_of_share, resampled_counts, support

_PIXELS_SAMPLED, _WINDOWS_SAMPLED, _DRAWS = 2000, 40, 1000


def is_approximate(job: Job) -> bool:
    """Whether networks are dense here that were trained with padding."""
    padded = any(one.network.padding != "none" for one in job.predictor.networks)
    return padded and job.predictor.method == "dense"


def told_agreement(job: Job, pictures: Pictures, windows: Sequence[Window], store: Partial) -> str:
    """How often a dense map says what it would say patch by patch, from a sample of pixels."""
    rng = np.random.default_rng(0)
    some = rng.permutation(len(windows))[:_WINDOWS_SAMPLED]
    agree: list[np.ndarray] = []
    with pictures.reader(ahead=False) as reader:
        for window in (windows[k] for k in some):
            said = store.read(window)[0]
            rows, columns = np.nonzero(said)
            drawn = rng.permutation(len(rows))[: _PIXELS_SAMPLED // len(some)]
            if not len(drawn):
                continue
            row, column = rows[drawn], columns[drawn]
            likely = patch_by_patch(
                job.predictor, reader, window.index, window.row + row, window.column + column
            )
            agree.append(likely.argmax(axis=1) + 1 == said[row, column])
    if not agree:
        return "dense and patch by patch: no pixel has data to compare them on"
    right, groups = np.concatenate(agree), np.repeat(range(len(agree)), [len(a) for a in agree])
    counts = resampled_counts(right.astype(np.int64), 2, groups, _DRAWS, seed=0)
    shares = counts[:, 1] / counts.sum(axis=1)
    share = interval_of_share(right.mean(), shares, support(groups, len(right)))
    return (
        f"dense and patch by patch agree on {share} of {len(right):,} pixels: this network was "
        "trained with zeros around its patches; --method patches maps as it was trained, "
        "--padding none trains as it maps"
    )
