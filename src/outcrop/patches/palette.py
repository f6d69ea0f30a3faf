"""Colours of classes: conventional hues for common names, and no two that look alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, lru_cache

import numpy as np

from outcrop.errors import OutcropError
from outcrop.frames import Colour

# The first of these words that a name contains decides.
_CONVENTIONAL = {
    "#2b6cb0": ("water", "river", "lake", "sea", "ocean"),
    "#63c5da": ("aquaculture", "pond", "wetland"),
    "#b08968": ("mudflat",),
    "#c9a66b": ("sediment",),
    "#e6d29c": ("sand",),
    "#1b7f4d": ("mangrove",),
    "#1e6b34": ("forest", "tree", "wood"),
    "#b5d33d": ("rice",),
    "#e3c64a": ("agricult", "crop", "farm"),
    "#9bcb6c": ("herb", "grass", "pasture"),
    "#7a9a4e": ("shrub",),
    "#d1495b": ("built", "building", "urban", "developed"),
    "#6b6b6b": ("road",),
    "#c8b08c": ("bare", "barren", "soil"),
    "#eef3f7": ("snow",),
    "#dddddd": ("cloud",),
}
# The colours of Okabe and Ito, with a darker grey that differs from their green.
_DISTINCT = (
    *("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#f0e442", "#4d4d4d"),
)
# Least distances in OKLab of 20 classes or more, and of 12 or fewer. A distance of 0.02 is just
# noticeable for neighbouring areas.
_APART = (0.05, 0.08)
# Small marks in normal vision should differ more than what few readers see otherwise.
_NORMAL = 1.6
_GRID_STEP = 15
_LIGHTNESS = (0.35, 0.93)

# Machado, Oliveira and Fernandes (2009), "A physiologically-based model for simulation of color
# vision deficiency", severity 1: linear sRGB as seen without L, M and S cones.
_VISIONS = np.array(
    [
        np.eye(3),
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ],
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ],
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ],
    ]
)
# Ottosson (2020), "A perceptual color space for image processing": OKLab from linear sRGB.
_TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def colours(classes: Sequence[str], given: Mapping[str, Colour] | None = None) -> list[Colour]:
    """A colour, as red, green and blue from 0 to 255, for each class.

    Colours that were not given are chosen so that they can be distinguished from all others,
    also with a colour vision deficiency. A name such as "water" gets its conventional colour or the
    nearest to it that is free, another name a colour of Okabe and Ito or, when these are used, the
    one that differs most from the others.

    Args:
        given: colours by class name, which are kept.

    >>> colours(["water", "something else"])
    [(43, 108, 176), (230, 159, 0)]
    >>> colours(["water", "something else"], {"water": (0, 0, 255)})
    [(0, 0, 255), (230, 159, 0)]
    """
    kept = tuple((name, given[name]) for name in classes if name in given) if given else ()
    return list(_chosen(tuple(classes), kept))


def palette(classes: Sequence[str], given: Mapping[str, Colour] | None = None) -> dict[str, Colour]:
    """The colour of each class by name; see `colours`."""
    return dict(zip(classes, colours(classes, given), strict=True))


def difference(one: Colour, other: Colour) -> float:
    """Distance of two colours in OKLab for the vision that tells them apart least.

    The visions are normal vision and those without the cones for long, medium or short waves. In
    normal vision the distance is divided by 1.6.

    >>> difference((255, 0, 0), (0, 0, 0)) > 0.2 > difference((255, 0, 0), (150, 110, 0))
    True
    """
    return float(_distances(_seen(np.array([one])), _seen(np.array([other])))[0])


def parse_colour(text: str) -> Colour:
    """Red, green and blue of `#rrggbb`, or of a name of a colour that Pillow knows.

    Raises:
        OutcropError: the text is neither.

    >>> parse_colour("#2b6cb0"), parse_colour("red")
    ((43, 108, 176), (255, 0, 0))
    """
    from PIL import ImageColor

    try:
        red, green, blue = ImageColor.getrgb(text.strip())[:3]
    except ValueError:
        raise OutcropError(
            f"'{text}'", "is no colour; write it as #rrggbb, such as #2b6cb0, or as a name"
        ) from None
    return red, green, blue


def given_colours(
    classes: Sequence[str],
    in_files: Iterable[Mapping[str, Colour]],
    named: Mapping[str, Colour | str] | Sequence[str] | None,
) -> dict[str, Colour]:
    """The colours that users give to classes, in their label files or by name.

    Colours in files that several classes have identify none of them and are left out.

    Args:
        in_files: colours by class name in each label file; the first file that has one counts.
        named: colours by class name, or `NAME=COLOUR`, which replace those of the files.

    Raises:
        OutcropError: a class or a colour in `named` does not exist, or several have one colour.
    """
    found: dict[str, Colour] = {}
    for of_file in in_files:
        for name, colour in of_file.items():
            if name in classes:
                found.setdefault(name, colour)
    count = Counter(found.values())
    found = {name: colour for name, colour in found.items() if count[colour] == 1}
    if named is None:
        return found
    if not isinstance(named, Mapping):
        pairs = [text.rpartition("=") for text in named]
        if wrong := next((last for name, sign, last in pairs if not (name and sign)), None):
            raise OutcropError(
                f"`colours={wrong}`", "is no pair; write NAME=COLOUR, such as water=#2b6cb0"
            )
        named = {name.strip(): colour for name, _, colour in pairs}
    chosen = {name: parse_colour(c) if isinstance(c, str) else c for name, c in named.items()}
    for name, colour in chosen.items():
        if name not in classes:
            raise OutcropError(
                "`colours`", f"there is no class '{name}'; the classes are {', '.join(classes)}"
            )
        twin = next((other for other in chosen if other != name and chosen[other] == colour), None)
        if twin is not None:
            raise OutcropError(
                "`colours`", f"'{name}' and '{twin}' have one colour; give each class its own"
            )
    return {name: c for name, c in found.items() if c not in chosen.values()} | chosen


@lru_cache(maxsize=64)
def _chosen(classes: tuple[str, ...], given: tuple[tuple[str, Colour], ...]) -> tuple[Colour, ...]:
    found, used = dict(given), _Used(min(_APART[1], max(_APART[0], 1 / max(1, len(classes)))))
    for one in found.values():
        used.add(one)
    rest = [name for name in dict.fromkeys(classes) if name not in found]
    named = {name: colour for name in rest if (colour := _conventional(name)) is not None}
    for name, colour in named.items():
        found[name] = used.add(used.nearest_free(colour))
    for name in rest:
        if name not in named:
            free = filter(used.is_free, map(_rgb, _DISTINCT))
            found[name] = used.add(next(free, None) or used.farthest())
    return tuple(found[name] for name in classes)


class _Used:
    """The colours that are used, and the distance of each colour of a grid from the nearest one.

    Attributes:
        apart: distance from all used colours at which a colour is free.
    """

    def __init__(self, apart: float) -> None:
        self.apart = apart
        self._grid, self._looks = _grid()
        self._distance = np.full(len(self._grid), np.inf)
        self._seen = np.empty((0, *self._looks.shape[1:]))

    def add(self, colour: Colour) -> Colour:
        """Use a colour."""
        look = _seen(np.array([colour]))
        self._seen = np.concatenate([self._seen, look])
        self._distance = np.minimum(self._distance, _distances(self._looks, look[0]))
        return colour

    def is_free(self, colour: Colour) -> bool:
        """Whether a colour differs enough from all that are used."""
        if not len(self._seen):
            return True
        return bool(_distances(self._seen, _seen(np.array([colour]))).min() > self.apart)

    def nearest_free(self, colour: Colour) -> Colour:
        """A colour, or the free one of the grid that is nearest to it in normal vision."""
        free = self._distance > self.apart
        if self.is_free(colour):
            return colour
        if not free.any():
            return self.farthest()
        look = _seen(np.array([colour]))[0, 0]
        away = np.linalg.norm(self._looks[:, 0] - look, axis=1)
        return self._of_grid(np.where(free, away, np.inf).argmin())

    def farthest(self) -> Colour:
        """The colour of the grid that differs most from the used ones."""
        return self._of_grid(self._distance.argmax())

    def _of_grid(self, index: np.intp) -> Colour:
        red, green, blue = self._grid[index].tolist()
        return red, green, blue


def _conventional(name: str) -> Colour | None:
    """The conventional colour of a class name, if it contains a known word."""
    for text, words in _CONVENTIONAL.items():
        if any(word in name.lower() for word in words):
            return _rgb(text)
    return None


@cache
def _grid() -> tuple[np.ndarray, np.ndarray]:
    steps = np.arange(0, 256, _GRID_STEP)
    grid = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
    seen = _seen(grid)
    lightness = seen[:, 0, 0]
    inside = (lightness > _LIGHTNESS[0]) & (lightness < _LIGHTNESS[1])
    return grid[inside], seen[inside]


def _seen(rgb: np.ndarray) -> np.ndarray:
    """OKLab of sRGB colours, `N × 3`, as each vision sees them: `N × visions × 3`."""
    shares = rgb / 255
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.einsum("vij,nj->nvi", _VISIONS, linear), 0, 1)
    return np.asarray(np.cbrt(seen @ _TO_CONES.T) @ _TO_LAB.T)


def _distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Smallest distance over all visions, from `... × visions × 3`; normal vision wants more."""
    by_vision = np.linalg.norm(one - other, axis=-1)
    by_vision[..., 0] /= _NORMAL
    return np.asarray(by_vision.min(axis=-1))


def _rgb(text: str) -> Colour:
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)
