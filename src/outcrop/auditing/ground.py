"""All checks that need to know where patches were cut."""

from __future__ import annotations

import numpy as np

from outcrop.auditing.blocks import advise_blocks, lies_between
from outcrop.auditing.conflicts import check_conflicts
from outcrop.auditing.distances import check_distances
from outcrop.auditing.finding import Finding
from outcrop.auditing.origin import Origins, open_origins
from outcrop.auditing.pixels import batches
from outcrop.auditing.probe import check_leak, check_leak_of_network
from outcrop.auditing.representative import check_representative
from outcrop.auditing.resemblance import check_resemblance, measure_resemblance, measure_residuals
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
    """Overlap and distance between sides, resemblance, hardness of the map, leak gap, conflicts.

    Args:
        to_map: what is to be mapped; the patches' own sources if not given.
        network: measure its leak gap too.
        recipe: how it is trained.
        seed: of the samples.
    """
    if patches.positions is None:
        return check_distances(patches, split)
    origins = open_origins(patches)
    resemblance = measure_resemblance(patches, origins, seed)
    if resemblance is None:
        advice = advise_blocks(patches, seed=seed)
    else:
        least = float(resemblance.through(patches.positions).max())
        advice = advise_blocks(patches, resemblance.ranges, least, seed)
    features = _features(patches)
    ranges = None if resemblance is None else resemblance.ranges
    between = lies_between(patches, ranges, tuple(map(Source.of, to_map)) or None)
    residuals = measure_residuals(patches, features, seed)
    found = [
        *check_distances(patches, split, resemblance, advice, seed),
        *check_resemblance(patches, resemblance, advice, residuals, between),
        *check_representative(patches, split, features, origins, to_map, seed),
        *check_leak(patches, split, features, advice, seed),
        *check_conflicts(patches, np.nan if resemblance is None else resemblance.range),
    ]
    if network is not None:
        found += check_leak_of_network(patches, split, advice, network, recipe)
    return found


def _features(patches: PatchSet) -> np.ndarray:
    """`statistics` of every patch; 0 where there is no data."""
    parts = [statistics(images) for images in batches(patches, "describing patches")]
    return np.nan_to_num(np.concatenate(parts))
