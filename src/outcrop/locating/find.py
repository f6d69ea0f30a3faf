"""From patches and planes to the best peak of every patch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np

from outcrop.crew import Crew
from outcrop.locating.climb import Climb, climb
from outcrop.locating.correlation import standardise
from outcrop.locating.peaks import Peaks, best, fits_well, ranked, unusual
from outcrop.locating.planes import Planes, Slab
from outcrop.locating.search import (
    Candidates,
    looked_at,
    scan,
    scan_fully,
    some_windows,
    spacing,
)
from outcrop.locating.signature import Signature, cells, design
from outcrop.locating.verify import Patches, Peak

_TIMES_USUAL, _FEW = 3, 0.01


@dataclass(frozen=True)
class _Look:
    """How hard one looks.

    Attributes:
        windows: how many are compared for the area of one patch, in a slice.
        noise: that patches are taken to have.
        fully: up to how many patches, counted in each variant, are compared by correlation; more
            are by their signatures.
        skip: whether a slice may stand for its neighbours where they are alike.
        most: how many likely places are held for each patch.
        climb: how hard one climbs from them.
    """

    windows: int
    noise: float
    fully: float
    skip: bool
    most: int
    climb: Climb


_QUICK = _Look(
    windows=700, noise=0.2, fully=0, skip=True, most=2,
    climb=Climb(starts=2, worse=0.05, beside=1),
)  # fmt: skip
_CLOSE = _Look(
    windows=2800, noise=1, fully=128, skip=True, most=8,
    climb=Climb(starts=4, worse=0.2, beside=4),
)  # fmt: skip
# Each for the patches that are not found beyond doubt before.
_LOOKS = (_QUICK, _CLOSE, replace(_CLOSE, skip=False))
_HARD = replace(_CLOSE, skip=False, fully=np.inf)


@dataclass(frozen=True, eq=False)
class _Scan:
    """What every scanning task has to know.

    Attributes:
        fully: whether windows are compared by correlation, not by signatures.
        known: of the patches in each variant, signatures or pictures in cells.
    """

    planes: Sequence[Planes]
    spacing: Mapping[int, int]
    most: int
    fully: bool
    signature: Signature
    known: np.ndarray


def find(
    variants: Sequence[np.ndarray], planes: Sequence[Planes], crew: Crew, *, hard: bool = False
) -> list[list[Peak]]:
    """The peaks of every patch, the highest first; none for a patch that fits nowhere.

    All patches are looked for quickly; those that do not fit as well as the others once more, and
    closer: first where others were found, and only those that do not fit there in all planes.

    Args:
        variants: the patches in each orientation, `N × bands × height × width`, finite.
        hard: whether all patches are looked for at once, and at least as closely as those that fit
            badly.
    """
    peaks: list[Peaks] = [{} for _ in variants[0]]
    every, everywhere = list(range(len(peaks))), list(range(len(planes)))

    def add(look: _Look, where: Sequence[int], wanted: list[int]) -> None:
        some = variants if len(wanted) == len(peaks) else [images[wanted] for images in variants]
        for patch, found in zip(wanted, _search(look, where, some, planes, crew), strict=True):
            peaks[patch].update(found)

    if hard:
        add(_HARD, everywhere, every)
        return [ranked(some) for some in peaks]
    add(_LOOKS[0], everywhere, every)
    homes = _homes(peaks) or everywhere
    wanted = _doubtful(peaks)
    for where in (homes, [number for number in everywhere if number not in homes]):
        for look in _LOOKS[1:]:
            if where and wanted:
                add(look, where, wanted)
                wanted = _badly(peaks)
    return [ranked(some) for some in peaks]


def _homes(peaks: Sequence[Peaks]) -> list[int]:
    """The planes that more than a hundredth of the patches that fit well were found in."""
    found = Counter(best(some).planes for some in peaks if fits_well(some))
    return sorted(number for number, count in found.items() if count > _FEW * found.total())


def _doubtful(peaks: Sequence[Peaks]) -> list[int]:
    return sorted(_badly(peaks) + unusual(peaks, _TIMES_USUAL))


def _badly(peaks: Sequence[Peaks]) -> list[int]:
    return [patch for patch, some in enumerate(peaks) if not fits_well(some)]


def _search(
    look: _Look,
    where: Sequence[int],
    variants: Sequence[np.ndarray],
    planes: Sequence[Planes],
    crew: Crew,
) -> list[Peaks]:
    """The peaks of every patch near the likeliest of the places that a look compares.

    Args:
        where: which of the planes are searched.
    """
    size = (variants[0].shape[2], variants[0].shape[3])
    # Of patches that lie any way round the spectrum tells nothing of how slices lie.
    typical = variants[0] if len(variants) == 1 else some_windows([planes[k] for k in where], size)
    signature = design(typical, look.windows, look.noise)
    fully = len(variants) * len(variants[0]) <= look.fully
    pictures = Patches.of(variants, signature.stride)
    scan_ = _Scan(
        planes,
        {number: spacing(planes[number], signature) if look.skip else 1 for number in where},
        look.most,
        fully,
        signature,
        np.stack(
            [
                standardise(cells(images, signature.stride))
                if fully
                else signature.of_patches(images)
                for images in variants
            ]
        ),
    )
    tasks = [(number, slab) for number in where for slab in planes[number].slabs(size)]
    candidates = reduce(Candidates.with_, crew.each(_scan, scan_, tasks, "comparing"))
    return climb(look.climb, scan_.spacing, candidates, pictures, planes, crew)


def _scan(search: _Scan, task: tuple[int, Slab]) -> Candidates:
    (number, slab), signature, known = task, search.signature, search.known
    pictures = search.planes[number].pictures(slab, looked_at(slab, search.spacing[number]))
    if not search.fully:
        return scan(pictures, slab, number, signature, known, search.most)
    cell, size = signature.stride, signature.size
    return scan_fully(pictures, slab, number, cell, known, size, search.most)
