"""Colours of classes: conventional hues for common names, and no two that look alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache

import numpy as np

from outcrop.errors import OutcropError
from outcrop.frames import Colour

_CONVENTIONAL: tuple[tuple[str, str], ...] = (
    ("water", "#2b6cb0"),
    ("river", "#2b6cb0"),
    ("lake", "#2b6cb0"),
    ("sea", "#2b6cb0"),
    ("ocean", "#2b6cb0"),
    ("aquaculture", "#63c5da"),
    ("pond", "#63c5da"),
    ("wetland", "#63c5da"),
    ("mudflat", "#b08968"),
    ("sediment", "#c9a66b"),
    ("sand", "#e6d29c"),
    ("mangrove", "#1b7f4d"),
    ("forest", "#1e6b34"),
    ("tree", "#1e6b34"),
    ("wood", "#1e6b34"),
    ("rice", "#b5d33d"),
    ("agricult", "#e3c64a"),
    ("crop", "#e3c64a"),
    ("farm", "#e3c64a"),
    ("herb", "#9bcb6c"),
    ("grass", "#9bcb6c"),
    ("pasture", "#9bcb6c"),
    ("shrub", "#7a9a4e"),
    ("built", "#d1495b"),
    ("building", "#d1495b"),
    ("urban", "#d1495b"),
    ("developed", "#d1495b"),
    ("road", "#6b6b6b"),
    ("bare", "#c8b08c"),
    ("barren", "#c8b08c"),
    ("soil", "#c8b08c"),
    ("snow", "#eef3f7"),
    ("cloud", "#dddddd"),
)
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

    Colours that were not given are chosen so that they can be told apart from all others, also
    with a colour vision deficiency. A name such as "water" gets its conventional colour or the
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
    chosen = {
        name: parse_colour(colour) if isinstance(colour, str) else colour
        for name, colour in named.items()
    }
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
    found = dict(given)
    seen = [_seen(np.array([colour]))[0] for colour in found.values()]
    apart = min(_APART[1], max(_APART[0], 1 / max(1, len(classes))))

    def take(name: str, candidates: Iterable[Colour]) -> None:
        for colour in candidates:
            look = _seen(np.array([colour]))[0]
            if not seen or _distances(np.array(seen), look).min() > apart:
                break
        else:
            colour, look = _farthest(np.array(seen))
        found[name] = colour
        seen.append(look)

    rest = [name for name in dict.fromkeys(classes) if name not in found]
    named = {name: colour for name in rest if (colour := _conventional(name)) is not None}
    for name, colour in named.items():
        take(name, _nearest_to(colour))
    for name in rest:
        if name not in named:
            take(name, map(_rgb, _DISTINCT))
    return tuple(found[name] for name in classes)


def _conventional(name: str) -> Colour | None:
    """The conventional colour of a class name, if it contains a known word."""
    return next((_rgb(text) for word, text in _CONVENTIONAL if word in name.lower()), None)


def _nearest_to(colour: Colour) -> Iterator[Colour]:
    """A colour, then the colours of the grid by their distance from it in normal vision."""
    yield colour
    grid, looks = _grid()
    apart = np.linalg.norm(looks[:, 0] - _seen(np.array([colour]))[0, 0], axis=1)
    yield from map(tuple, grid[np.argsort(apart, kind="stable")].tolist())


def _farthest(seen: np.ndarray) -> tuple[Colour, np.ndarray]:
    """The colour of the grid that differs most from the nearest of some colours, and its look."""
    grid, looks = _grid()
    nearest = np.full(len(grid), np.inf)
    for one in seen:
        np.minimum(nearest, _distances(looks, one), out=nearest)
    best = nearest.argmax()
    red, green, blue = grid[best].tolist()
    return (red, green, blue), looks[best]


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
