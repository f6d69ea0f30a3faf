"""Band names: which part of a name identifies the band, and how lists of names are matched."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from outcrop.errors import OutcropError

_CODE = re.compile(r"b(\d{1,2})([a-z]?)")
_QUANTITIES = {"sr", "st", "toa", "boa"}  # the measured quantity: SR_B4 and ST_B4 differ
_RESOLUTION = re.compile(r"\d+m")
_DATE = re.compile(r"(19|20)\d{2}((0[1-9]|1[0-2])([0-3]\d(t\d{4,6}z?)?)?)?")
_ISO_DATE = re.compile(r"(19|20)\d{2}-[01]\d(-[0-3]\d)?(t[\d:.]+z?)?")
_WAVELENGTH = re.compile(r"\d+([.,]\d+)? ?(nm|um|µm|μm)\b")
_TILE = re.compile(r"t\d{2}[a-z]{3}|[hv]\d{2}([hv]\d{2})?")
_GENERIC = re.compile(r"(band|layer|channel|ch|gr[ae]y|undefined)?[ _\-.]?\d*")
# Sensors, as names of files and bands contain them, and their codes of blue, green, red and nir.
_SENSORS = {
    "MODIS": r"modis|\bm[oyc]d\d\d|sur[ _]?refl",
    "Sentinel-2": r"sentinel|\bmsi\b|\bs2",
    "Landsat 4 to 7": (
        r"landsat[ _-]?[4-7]\b|\be?tm\b|(?<![a-z])l[et]0?[4-7]|(?<![a-z])l[4-7](?!\d)"
    ),
    "Landsat 8, 9": r"landsat[ _-]?[89]\b|\boli|(?<![a-z])lc?0?[89](?!\d)|(?<![a-z])lc0[89]",
}
_CODES_OF = {
    "MODIS": ("B3", "B4", "B1", "B2"),
    "Sentinel-2": ("B2", "B3", "B4", "B8"),
    "Landsat 4 to 7": ("B1", "B2", "B3", "B4"),
    "Landsat 8, 9": ("B2", "B3", "B4", "B5"),
}
_INITIALS = {"b": "blue", "g": "green", "r": "red"}
_COLOURS = {
    "coastal", "aerosol", "violet", "blue", "green", "yellow", "red", "rededge", "nir", "vnir",
    "swir", "mir", "tir", "thermal", "pan", "panchromatic", "cirrus", "vv", "vh", "hh", "hv",
}  # fmt: skip


@dataclass(frozen=True)
class Matched:
    """The bands of one list that correspond to the wanted bands.

    Attributes:
        order: for each wanted band, the index of the corresponding band.
        assumed: whether the bands were matched by their order, because no name identifies them.
    """

    order: tuple[int, ...]
    assumed: bool


def identities(names: Sequence[str]) -> tuple[str | None, ...]:
    """What identifies each band among the names of its scene; None where nothing does.

    This is a band code (`B02`, `B8A`, `SR_B4`) or the name of a spectral range (`red`, `SWIR 1`),
    if the name has exactly one. Otherwise it is the words that not all names have in common. Dates,
    tiles, resolutions and plain numbers (`band 3`) do not identify a band.

    >>> identities(["T33UUU_20170216T102101_B02", "T33UUU_20170216T102101_B8A"])
    ('B2', 'B8A')
    >>> identities(["Blue", "SWIR 1"]), identities(["band 1", "band 2"])
    (('blue', 'swir1'), (None, None))
    >>> identities(["lsat7_2000_10", "lsat7_2000_20"])
    ('10', '20')
    """
    lists = [name_words(name) for name in names]
    common = set.intersection(*map(set, lists)) if len(lists) > 1 else set()
    own = [
        " ".join(w for w in words if w not in common and not _is_uninformative(w))
        for words in lists
    ]
    found = [_identity(name, words) for name, words in zip(names, lists, strict=True)]
    several = Counter(found)
    found = [one if several[one] == 1 else rest for one, rest in zip(found, own, strict=True)]
    found = [None if _is_number(name) else one for name, one in zip(names, found, strict=True)]
    several = Counter(found)
    return tuple(one if one and several[one] == 1 else None for one in found)


def spectral_bands(names: Sequence[str], sensor: str = "") -> tuple[dict[str, int], bool]:
    """The index of the bands red, green, blue and nir, as far as names or codes identify them.

    Codes B2, B3 and B4 are blue, green and red in Sentinel-2 and in Landsat 8 and 9, but not in
    Landsat 4 to 7 and MODIS. Codes with a zero, such as B02, are taken for Sentinel-2.

    Args:
        sensor: platform and instrument, if known. Names may contain it: `L8_B2`, `LE07_B1`.

    Returns:
        The bands by name, and whether they are certain. They are not if only codes identify them
        and no sensor is known.

    >>> spectral_bands(["T33UUU_B02", "T33UUU_B03", "T33UUU_B04", "T33UUU_B08"])
    ({'blue': 0, 'green': 1, 'red': 2, 'nir': 3}, True)
    >>> spectral_bands(["B2", "B3", "B4"])
    ({'blue': 0, 'green': 1, 'red': 2}, False)
    >>> spectral_bands(["SWIR 1", "Red"])
    ({'red': 1}, True)
    """
    known = [
        _INITIALS.get(name.casefold(), one)
        for one, name in zip(identities(names), names, strict=True)
    ]
    named: dict[str, int] = {}
    for role in ("blue", "green", "red", "nir"):
        index = next((i for i, one in enumerate(known) if one in (role, f"{role}1")), None)
        if index is not None:
            named[role] = index
    if {"blue", "green", "red"} & set(named):
        return named, True
    last_words = [(one or "").rpartition("_")[2] for one in known]
    codes = {word: i for i, word in enumerate(last_words) if _CODE.fullmatch(word.casefold())}
    text = " ".join([sensor, *names]).casefold()
    named_sensor = next((one for one, words in _SENSORS.items() if re.search(words, text)), None)
    if named_sensor is None and ("B8A" in codes or re.search(r"(?<![a-z])b0\d", text)):
        named_sensor = "Sentinel-2"
    wanted = _CODES_OF.get(named_sensor or "", _CODES_OF["Landsat 8, 9"][:3])
    pairs = zip(("blue", "green", "red", "nir"), wanted, strict=False)
    found = {role: codes[code] for role, code in pairs if code in codes}
    if named_sensor == "Sentinel-2" and "nir" not in found and "B8A" in codes:
        found["nir"] = codes["B8A"]
    return found, named_sensor is not None


def name_without_band(name: str) -> str:
    """The words of a file name without band code and resolution: tile, date, product.

    >>> name_without_band("T33UUU_20170216T102101_B02_10m")
    't33uuu 20170216t102101'
    """
    words = name_words(name)
    own, _ = _code(words) or ((), "")
    return " ".join(w for w in words if w not in own and not _RESOLUTION.fullmatch(w))


def identifies_band(name: str) -> bool:
    """Whether a name contains a band code or the name of a spectral range."""
    return _identity(name, name_words(name)) is not None


def band_code(name: str) -> str | None:
    """The band code in a name, in its spelling, if the name has exactly one.

    >>> band_code("T33UUU_20170216T102101_B02_10m"), band_code("LC08_SR_B4"), band_code("elevation")
    ('B02', 'SR_B4', None)
    """
    code = _code(name_words(name))
    return None if code is None else "_".join(code[0]).upper()


def match(have: Sequence[str], want: Sequence[str]) -> Matched | None:
    """Match wanted bands by name, by what identifies them, or by their number.

    Equal names, whatever their case, are the same band. Otherwise all bands of both lists are
    matched by their identities. If bands have no identities and the lists are equally long, bands
    are matched by number (`band 3`) or by order; then `assumed` is true.

    Args:
        have: the names of the bands that exist.
        want: the names of the wanted bands.

    Returns:
        None if the bands do not correspond.

    >>> match(["red", "green", "blue"], ["blue", "green", "red"])
    Matched(order=(2, 1, 0), assumed=False)
    >>> match(["band 1", "band 2"], ["blue", "green"])
    Matched(order=(0, 1), assumed=True)
    """
    spelled, wanted = (
        [" ".join(name.casefold().split()) for name in names] for names in (have, want)
    )
    numbered = all(map(_is_number, want))
    if all(spelled.count(name) == 1 for name in wanted) and (
        not numbered or len(have) == len(want)
    ):
        return Matched(tuple(map(spelled.index, wanted)), assumed=numbered)
    mine, theirs = identities(have), identities(want)
    if None in mine or None in theirs:
        return Matched(tuple(range(len(want))), assumed=True) if len(have) == len(want) else None
    if not set(theirs) <= set(mine):
        return None
    return Matched(tuple(mine.index(one) for one in theirs), assumed=False)


def match_or_raise(
    have: Sequence[str], want: Sequence[str], where: str, other: str, remedy: str
) -> Matched:
    """As `match`, but with an error that lists the bands of both.

    Args:
        have, want: as for `match`.
        where: the owner of the bands `have`, for the error.
        other: the owner of the bands `want`, for the error.
        remedy: what the user should do.

    Raises:
        OutcropError: the bands do not correspond.
    """
    found = match(have, want)
    if found is None:
        raise OutcropError(
            where, f"has {bands_text(have)} where {other} has {bands_text(want)}; {remedy}"
        )
    return found


def select_bands(names: Sequence[str], wanted: Sequence[int | str], where: str) -> tuple[int, ...]:
    """Indices of the bands that a user selects, by number from 1 or by name.

    A name may have the form that `identities` returns: `B2` for `T33UUU_20170216T102101_B02`.

    Raises:
        OutcropError: there is no such band; several bands have the name; a band is selected twice.
    """
    found = tuple(_select_band(names, str(one).strip(), where) for one in wanted)
    twice = [str(one) for i, one in enumerate(wanted) if found[i] in found[:i]]
    if twice:
        raise OutcropError("`bands`", f"selects band {twice[0]} twice; select each band once")
    return found


def bands_text(names: Sequence[str]) -> str:
    """The number and the names of bands, for messages.

    >>> bands_text(["red", "nir"]), bands_text(["grey"])
    ('2 bands (red, nir)', '1 band (grey)')
    """
    return f"{len(names)} band{'s'[: len(names) != 1]} ({listed(names)})"


def listed(names: Sequence[str], most: int = 12) -> str:
    """Names separated by commas; of a long list the first ones and the number of the others.

    >>> listed(["red", "nir", "swir"], most=2)
    'red, nir and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def name_words(name: str) -> list[str]:
    """The words of a name in lower case, without punctuation and ISO dates."""
    return re.findall(r"[^\W_]+", _ISO_DATE.sub(" ", name.casefold()))


def _select_band(names: Sequence[str], wanted: str, where: str) -> int:
    if re.fullmatch(r"[+-]?\d+", wanted):
        number = int(wanted)
        if not 1 <= number <= len(names):
            raise OutcropError(where, f"has no band {number}; pass a number from 1 to {len(names)}")
        return number - 1
    same = [i for i, name in enumerate(names) if name.strip() == wanted]
    key = identities([wanted])[0] or " ".join(name_words(wanted))
    same = same or [i for i, one in enumerate(identities(names)) if one == key]
    if len(same) == 1:
        return same[0]
    if same:
        raise OutcropError(where, f"has {len(same)} bands named '{wanted}'; pass their numbers")
    raise OutcropError(
        where, f"has no band '{wanted}' (it has {listed(names, 30)}); pass another band"
    )


def _is_number(name: str) -> bool:
    """Whether a name is only a band number, such as `band 3`."""
    return _GENERIC.fullmatch(name.strip().casefold()) is not None


def _identity(name: str, words: Sequence[str]) -> str | None:
    """The band code or spectral range in a name, in a uniform spelling."""
    if code := _code(words):
        return code[1]
    return _colour(name_words(_WAVELENGTH.sub(" ", name.casefold())))


def _code(words: Sequence[str]) -> tuple[tuple[str, ...], str] | None:
    """The words of the only band code in a name, and its spelling: `B2`, `SR_B4`.

    The measured quantity belongs to the code.
    """
    found = [(i, hit) for i, word in enumerate(words) if (hit := _CODE.fullmatch(word))]
    if len(found) != 1:
        return None
    ((at, hit),) = found
    quantity = [word for word in words[max(at - 1, 0) : at] if word in _QUANTITIES]
    spelling = "_".join([*quantity, f"b{int(hit[1])}{hit[2]}"]).upper()
    return (*quantity, words[at]), spelling


def _colour(words: Sequence[str]) -> str | None:
    """The only spectral range in a name, with its number: `red`, `rededge2`, `swir1`."""
    text = re.sub(r"\bred edge\b", "rededge", " ".join(words))
    text = re.sub(r"\bshort ?wave infra ?red\b", "swir", text)
    text = re.sub(r"\bnear infra ?red\b", "nir", text)
    found = re.findall(r"\b([a-z]+?)(?: ?(\d{1,2}))?\b", text)
    known = [name + number for name, number in found if name in _COLOURS]
    return known[0] if len(known) == 1 else None


def _is_uninformative(word: str) -> bool:
    """Whether a word is a date, a tile or a resolution."""
    return any(kind.fullmatch(word) for kind in (_DATE, _TILE, _RESOLUTION))
