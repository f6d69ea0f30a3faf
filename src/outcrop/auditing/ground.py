"""All checks that need to know where patches were cut."""

from __future__ import annotations

import numpy as np

from outcrop.auditing.autocorrelation import (
    check_autocorrelation,
    measure_autocorrelation,
    measure_residuals,
)
from outcrop.auditing.blocks import advise_blocks, lies_between
from outcrop.auditing.conflicts import check_conflicts
from outcrop.auditing.distances import check_distances
from outcrop.auditing.finding import Finding
from outcrop.auditing.origin import Origins, open_origins
from outcrop.auditing.pixels import batches
from outcrop.auditing.probe import check_leak, check_leak_of_network
from outcrop.auditing.representative import check_representative
from outcrop.models.architectures import ResidualNet
from outcrop.models.features import statistics
from outcrop.patches.patchset import PatchSet
from outcrop.patches.positions import Source
from outcrop.splits import Split
from outcrop.training.recipe import Recipe


def check_ground(
    patches: PatchSet,
    split: Split | None,
    to_map: Origins = (),
    network: ResidualNet | None = None,
    recipe: Recipe = Recipe(),
    seed: int = 0,
) -> list[Finding]:
    """Checks that need positions: overlap, distance, autocorrelation, hardness, leak gap.

    Args:
        to_map: what is to be mapped; the patches' own sources if not given.
        network: measure its leak gap too.
        recipe: how it is trained.
        seed: of the samples.
    """
    if patches.positions is None:
        return check_distances(patches, split)
    origins = open_origins(patches)
    autocorrelation = measure_autocorrelation(patches, origins, seed)
    if autocorrelation is None:
        advice = advise_blocks(patches, seed=seed)
    else:
        least = float(autocorrelation.through(patches.positions).max())
        advice = advise_blocks(patches, autocorrelation.ranges, least, seed)
    features = _features(patches)
    ranges = None if autocorrelation is None else autocorrelation.ranges
    between = lies_between(patches, ranges, tuple(map(Source.of, to_map)) or None)
    residuals = measure_residuals(patches, features, seed)
    found = [
        *check_distances(patches, split, autocorrelation, advice, seed),
        *check_autocorrelation(patches, autocorrelation, advice, residuals, between),
        *check_representative(patches, split, features, origins, to_map, seed),
        *check_leak(patches, split, features, advice, seed),
        *check_conflicts(patches, np.nan if autocorrelation is None else autocorrelation.range),
    ]
    if network is not None:
        found += check_leak_of_network(patches, split, advice, network, recipe)
    return found


def _features(patches: PatchSet) -> np.ndarray:
    """`statistics` of every patch; 0 where there is no data."""
    parts = [statistics(images) for images in batches(patches, "describing patches")]
    return np.nan_to_num(np.concatenate(parts))
